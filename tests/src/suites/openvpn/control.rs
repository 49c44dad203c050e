// SPDX-License-Identifier: GPL-2.0-only
//! What OpenVPN tells of its counters: management interface and status files (doc/management-notes.txt).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::vpn;
use crate::lab::{patience, wait_for};
use crate::tap::{During, Failure, Outcome};

/// Longest silence of a management interface that has something to say.
const ANSWER: Duration = Duration::from_secs(10);

/// A client as the server's status shows it.
#[derive(Debug, Clone)]
pub struct Row {
    /// "udp4:10.20.1.1:40000"
    pub real_address: String,
    pub received: u64,
    pub sent: u64,
    pub client_id: u64,
    pub peer_id: u32,
    pub cipher: String,
}

/// Rows of a status of version 2, by common name.
fn rows(status: &str) -> Outcome<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for line in status
        .lines()
        .filter_map(|l| l.strip_prefix("CLIENT_LIST,"))
    {
        let words: Vec<_> = line.split(',').collect();
        let &[
            name,
            real,
            _,
            _,
            received,
            sent,
            _,
            _,
            _,
            client,
            peer,
            cipher,
        ] = &words[..]
        else {
            return Err(Failure::new(format!("odd line of a status: {line}")));
        };
        let number = |text: &str| text.parse::<u64>().map_err(Failure::new).during(line);
        let row = Row {
            real_address: real.into(),
            received: number(received)?,
            sent: number(sent)?,
            client_id: number(client)?,
            peer_id: number(peer)? as u32,
            cipher: cipher.trim().into(),
        };
        rows.insert(name.into(), row);
    }
    Ok(rows)
}

/// The server's status file as it stands.
pub fn status_file() -> Outcome<BTreeMap<String, Row>> {
    rows(&fs::read_to_string(vpn::file("server.status")?).during("status file")?)
}

/// The server's status file, written after now.
pub fn fresh_status_file() -> Outcome<BTreeMap<String, Row>> {
    let path = vpn::file("server.status")?;
    fs::write(&path, "").during("status file")?;
    wait_for("the status file to be written", ANSWER, || {
        let text = fs::read_to_string(&path)?;
        Ok(text.ends_with("END\n").then_some(()))
    })?;
    status_file()
}

/// A client's status file written after now: its values by name, as "TCP/UDP read bytes".
pub fn fresh_client_file(name: &str) -> Outcome<BTreeMap<String, u64>> {
    let path = vpn::file(&format!("{name}.status"))?;
    fs::write(&path, "").during("status file")?;
    let text = wait_for("the status file to be written", ANSWER, || {
        let text = fs::read_to_string(&path)?;
        Ok(text.ends_with("END\n").then_some(text))
    })?;
    let pairs = text.lines().filter_map(|l| l.split_once(','));
    Ok(pairs
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

/// A connection to a management interface.
pub struct Management {
    stream: BufReader<UnixStream>,
}

impl Management {
    /// Connects to that of "server" or a client's name.
    pub fn open(name: &str) -> Outcome<Self> {
        let path = vpn::file(&format!("{name}.management"))?;
        let stream = UnixStream::connect(&path).during(path.display())?;
        stream.set_read_timeout(Some(ANSWER * patience()))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    fn say(&mut self, command: &str) -> Outcome {
        Ok(self
            .stream
            .get_mut()
            .write_all(format!("{command}\n").as_bytes())?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(Failure::new("the management interface hung up")),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                Err(Failure::new("the management interface is silent"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// "status 2" of a server.
    pub fn status(&mut self) -> Outcome<BTreeMap<String, Row>> {
        self.say("status 2")?;
        let mut text = String::new();
        loop {
            match self.line()?.as_str() {
                "END" => return rows(&text),
                line => text += &format!("{line}\n"),
            }
        }
    }

    /// Byte counts, received and sent, as they are reported each second from now on: of a server by client id, of a
    /// client under 0. A report counts once all of `ids` are in it.
    pub fn byte_counts(&mut self, ids: &[u64]) -> Outcome<BTreeMap<u64, (u64, u64)>> {
        self.say("bytecount 1")?;
        let mut counts = BTreeMap::new();
        while !ids.iter().all(|id| counts.contains_key(id)) {
            let line = self.line()?;
            let numbers = match (
                line.strip_prefix(">BYTECOUNT_CLI:"),
                line.strip_prefix(">BYTECOUNT:"),
            ) {
                (Some(numbers), _) => numbers.to_owned(),
                (_, Some(numbers)) => format!("0,{numbers}"),
                _ => continue,
            };
            let numbers: Vec<u64> = numbers.split(',').map_while(|n| n.parse().ok()).collect();
            let &[id, received, sent] = &numbers[..] else {
                return Err(Failure::new(format!("odd line: {line}")));
            };
            counts.insert(id, (received, sent));
        }
        self.say("bytecount 0")?;
        Ok(counts)
    }
}

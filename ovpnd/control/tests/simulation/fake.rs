// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLS without cryptography: frames of the same sizes and turns as TLS 1.3, so that thousands of sessions run in
//! seconds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use openvpn_control::keys::Role;
use openvpn_control::tls::{PeerIdentity, Tls, TlsError, TlsFactory};
use sha2::{Digest, Sha256};

const CLIENT_HELLO: u8 = 1;
const SERVER_FLIGHT: u8 = 2;
const FINISHED: u8 = 3;
const RECORD: u8 = 4;

pub(crate) struct Factory {
    pub(crate) name: String,
    pub(crate) hello: usize,
    pub(crate) flight: usize,
    seed: AtomicU64,
}

impl Factory {
    pub(crate) fn new(name: &str, seed: u64, hello: usize, flight: usize) -> Self {
        Self {
            name: name.into(),
            hello,
            flight,
            seed: AtomicU64::new(seed),
        }
    }

    fn make(&self, role: Role) -> Fake {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let mut fake = Fake {
            role,
            name: self.name.clone(),
            flight: self.flight,
            random: Sha256::digest([&seed.to_be_bytes()[..], self.name.as_bytes()].concat()).into(),
            secret: None,
            peer: None,
            established: false,
            input: Vec::new(),
            output: Vec::new(),
            records: VecDeque::new(),
        };
        if role == Role::Client {
            fake.frame(CLIENT_HELLO, self.hello);
        }
        fake
    }
}

impl TlsFactory for Factory {
    type Tls = Fake;

    fn client(&self) -> Result<Fake, TlsError> {
        Ok(self.make(Role::Client))
    }

    fn server(&self) -> Result<Fake, TlsError> {
        Ok(self.make(Role::Server))
    }
}

pub(crate) struct Fake {
    role: Role,
    name: String,
    flight: usize,
    random: [u8; 32],
    secret: Option<[u8; 32]>,
    peer: Option<String>,
    established: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    records: VecDeque<Vec<u8>>,
}

impl Fake {
    /// A frame with our random bytes and name, as long as the handshake's messages are.
    fn frame(&mut self, kind: u8, size: usize) {
        let mut content = self.random.to_vec();
        content.push(self.name.len() as u8);
        content.extend(self.name.as_bytes());
        content.resize(content.len().max(size), 0);
        self.put(kind, &content);
    }

    fn put(&mut self, kind: u8, content: &[u8]) {
        self.output.push(kind);
        self.output.extend((content.len() as u16).to_be_bytes());
        self.output.extend(content);
    }

    fn take(&mut self, kind: u8, content: Vec<u8>) -> Result<(), TlsError> {
        let bad = || TlsError {
            reason: format!("frame {kind} out of turn"),
            remedy: None,
        };
        match (kind, self.role) {
            (CLIENT_HELLO, Role::Server) | (SERVER_FLIGHT, Role::Client)
                if self.secret.is_none() =>
            {
                let random = content.get(..32).ok_or_else(bad)?;
                let len = usize::from(*content.get(32).ok_or_else(bad)?);
                let name = content.get(33..33 + len).ok_or_else(bad)?;
                self.peer = Some(String::from_utf8_lossy(name).into_owned());
                let both = match self.role {
                    Role::Client => [&self.random[..], random].concat(),
                    Role::Server => [random, &self.random[..]].concat(),
                };
                self.secret = Some(Sha256::digest(both).into());
                match self.role {
                    Role::Server => self.frame(SERVER_FLIGHT, self.flight),
                    Role::Client => {
                        self.frame(FINISHED, 1500);
                        self.established = true;
                    }
                }
            }
            (FINISHED, Role::Server) if self.secret.is_some() && !self.established => {
                self.established = true
            }
            (RECORD, _) if self.established => self.records.push_back(content),
            _ => return Err(bad()),
        }
        Ok(())
    }
}

impl Tls for Fake {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.input.extend(bytes);
        while let Some((&[kind, high, low], rest)) = self.input.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let Some(content) = rest.get(..len) else {
                break;
            };
            let content = content.to_vec();
            self.input.drain(..3 + len);
            self.take(kind, content)?;
        }
        Ok(())
    }

    fn pull(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn write(&mut self, record: &[u8]) -> Result<(), TlsError> {
        assert!(self.established, "a record before the handshake is done");
        self.put(RECORD, record);
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, TlsError> {
        Ok(self.records.pop_front())
    }

    fn is_established(&self) -> bool {
        self.established
    }

    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        let secret = self.secret.ok_or(TlsError {
            reason: "no secret yet".into(),
            remedy: None,
        })?;
        for (at, chunk) in out.chunks_mut(32).enumerate() {
            let block = Sha256::digest([&secret[..], label.as_bytes(), &[at as u8]].concat());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }

    fn peer(&self) -> Option<PeerIdentity> {
        self.peer.clone().map(|common_name| PeerIdentity {
            common_name,
            ..PeerIdentity::default()
        })
    }
}

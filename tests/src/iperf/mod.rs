// SPDX-License-Identifier: GPL-2.0-only
//! A stand-in for iperf3: run as `iperf3`, this program takes the options that our tests and the kernel's selftests give it
//! and answers with the fields that they read. It talks only to itself.
//!
//! Every guest has it: the small roots with BusyBox have no iperf3, and the threads of Debian's (3.18) race when a test ends,
//! by which two runs of all suites lost a server.
//!
//! One control connection carries the [`Wish`]; the data flow on connections or datagrams of their own. The sender tells
//! over the control connection how much it sent, and the receiver answers with its counts.

mod stream;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use self::stream::{Measured, Stream, receives, sends};
use crate::tap::{During, Failure, Outcome};

/// Bytes that TCP's ends write and read at once, as iperf3 has it.
const BLOCK: u64 = 128 << 10;
/// Bytes of a datagram, unless the command line says another number.
const DATAGRAM: u64 = 1350;
/// Least bytes of a datagram: its sequence number.
const SEQUENCE: usize = 8;
/// Words of the control connection's messages, big-endian.
const WORDS: usize = 8;

/// Settings of the command line.
#[derive(Debug, Clone, PartialEq)]
struct Args {
    server: bool,
    daemon: bool,
    once: bool,
    to: Option<IpAddr>,
    port: u16,
    /// Seconds of an interval of the report.
    interval: u64,
    wish: Wish,
}

/// One measurement, as both ends know it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Wish {
    seconds: u64,
    streams: u64,
    /// The server sends.
    reverse: bool,
    udp: bool,
    /// Bytes of a datagram, or of a write to a connection.
    block: u64,
    /// Bits a second of each stream; 0 is no limit.
    rate: u64,
    /// Bytes of the sockets' buffers; 0 leaves them to the kernel.
    buffer: u64,
    /// The sender hands over pages of a file.
    zerocopy: bool,
}

/// The counts of one end, of all streams.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    bytes: u64,
    micros: u64,
    /// Datagrams, or writes.
    blocks: u64,
    /// Datagrams that came after later ones.
    out_of_order: u64,
}

fn pack(words: [u64; WORDS]) -> [u8; 8 * WORDS] {
    let mut message = [0; 8 * WORDS];
    for (to, word) in message.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    message
}

fn unpack(mut from: impl Read) -> Outcome<[u64; WORDS]> {
    let mut message = [0; 8 * WORDS];
    from.read_exact(&mut message)?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(message.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
    }
    Ok(words)
}

/// A message of one number.
fn number(n: u16) -> [u8; 8 * WORDS] {
    let mut words = [0; WORDS];
    words[0] = n.into();
    pack(words)
}

fn read_number(from: impl Read) -> Outcome<u16> {
    u16::try_from(unpack(from)?[0]).map_err(Failure::new)
}

impl Wish {
    fn message(&self) -> [u8; 8 * WORDS] {
        let [reverse, udp, zerocopy] = [self.reverse, self.udp, self.zerocopy].map(u64::from);
        let (block, rate, buffer) = (self.block, self.rate, self.buffer);
        pack([
            self.seconds,
            self.streams,
            reverse,
            udp,
            block,
            rate,
            buffer,
            zerocopy,
        ])
    }

    fn read(from: impl Read) -> Outcome<Self> {
        let [
            seconds,
            streams,
            reverse,
            udp,
            block,
            rate,
            buffer,
            zerocopy,
        ] = unpack(from)?;
        Ok(Self {
            seconds,
            streams,
            reverse: reverse != 0,
            udp: udp != 0,
            block,
            rate,
            buffer,
            zerocopy: zerocopy != 0,
        })
    }
}

impl Count {
    fn message(&self) -> [u8; 8 * WORDS] {
        let Count {
            bytes,
            micros,
            blocks,
            out_of_order,
        } = *self;
        pack([bytes, micros, blocks, out_of_order, 0, 0, 0, 0])
    }

    fn read(from: impl Read) -> Outcome<Self> {
        let [bytes, micros, blocks, out_of_order, ..] = unpack(from)?;
        Ok(Self {
            bytes,
            micros,
            blocks,
            out_of_order,
        })
    }

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            micros: self.micros.max(other.micros),
            blocks: self.blocks + other.blocks,
            out_of_order: self.out_of_order + other.out_of_order,
        }
    }
}

/// A number with iperf3's suffixes: of bytes they are powers of 1024, of bits a second powers of 1000.
fn scaled(text: &str, kilo: u64) -> Outcome<u64> {
    let scale = match text.chars().last() {
        Some('K') => kilo,
        Some('M') => kilo * kilo,
        _ => 1,
    };
    let digits = text.trim_end_matches(['K', 'M']).parse::<u64>();
    digits.map(|n| n * scale).map_err(Failure::new)
}

fn parse(mut args: impl Iterator<Item = String>) -> Outcome<Args> {
    let mut parsed = Args {
        server: false,
        daemon: false,
        once: false,
        to: None,
        port: 5201,
        interval: 1,
        wish: Wish {
            seconds: 10,
            streams: 1,
            reverse: false,
            udp: false,
            block: 0,
            rate: 0,
            buffer: 0,
            zerocopy: false,
        },
    };
    let wish = &mut parsed.wish;
    while let Some(arg) = args.next() {
        let mut value = || {
            let value = args.next();
            value.ok_or_else(|| Failure::new(format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "-s" => parsed.server = true,
            "-D" => parsed.daemon = true,
            "-1" => parsed.once = true,
            "-c" => parsed.to = Some(value()?.parse().map_err(Failure::new)?),
            "-p" => parsed.port = value()?.parse().map_err(Failure::new)?,
            "-i" => parsed.interval = scaled(&value()?, 1)?.max(1),
            "-t" => wish.seconds = scaled(&value()?, 1)?,
            "-P" => wish.streams = scaled(&value()?, 1)?,
            "-b" => wish.rate = scaled(&value()?, 1000)?,
            "-l" => wish.block = scaled(&value()?, 1024)?,
            "-w" => wish.buffer = scaled(&value()?, 1024)?,
            "-R" => wish.reverse = true,
            "-Z" => wish.zerocopy = true,
            "-u" => wish.udp = true,
            // The report is always JSON.
            "-J" => {}
            // A connection here is made within ten seconds or not at all.
            "--connect-timeout" => drop(value()?),
            _ => return Err(Failure::new(format!("unknown option {arg}"))),
        }
    }
    if wish.block == 0 {
        wish.block = if wish.udp { DATAGRAM } else { BLOCK };
    }
    if wish.udp && wish.block < SEQUENCE as u64 {
        return Err(Failure::new(format!("-l: at least {SEQUENCE} bytes")));
    }
    if parsed.server == parsed.to.is_some() {
        return Err(Failure::new("either -s or -c HOST"));
    }
    Ok(parsed)
}

/// Runs as `iperf3`; gives the exit status.
pub fn main(args: impl Iterator<Item = String>) -> u8 {
    let outcome = parse(args).and_then(|args| match args.to {
        None => serve(&args),
        Some(to) => measure(&args, SocketAddr::new(to, args.port)),
    });
    match outcome {
        Ok(()) => 0,
        Err(Failure::Failed(why) | Failure::Skipped(why)) => {
            println!("{}", json!({ "error": why }));
            1
        }
    }
}

fn serve(args: &Args) -> Outcome {
    // One socket for both families.
    let listener = TcpListener::bind(("::", args.port)).during("bind")?;
    if args.daemon {
        // SAFETY: no other thread exists yet; the child goes on with the listening socket.
        if unsafe { libc::daemon(0, 0) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
    }
    loop {
        let (control, _) = listener.accept()?;
        let done = one(control, &listener);
        if args.once {
            return done;
        }
    }
}

/// The server's part of one measurement.
fn one(mut control: TcpStream, listener: &TcpListener) -> Outcome {
    let wish = Wish::read(&control)?;
    let mut streams = Vec::new();
    for _ in 0..wish.streams {
        let stream = if wish.udp {
            // The client says from which port its datagrams come.
            let theirs = read_number(&control)?;
            let socket = UdpSocket::bind(("::", 0))?;
            socket.connect((control.peer_addr()?.ip(), theirs))?;
            let ours = socket.local_addr()?.port();
            // Before the client sends: the buffer is for its first burst too.
            let stream = Stream::Datagrams(socket).with_buffer(&wish)?;
            control.write_all(&number(ours))?;
            stream
        } else {
            Stream::Bytes(listener.accept()?.0).with_buffer(&wish)?
        };
        streams.push(stream);
    }
    let measured = Measured::default();
    if wish.reverse {
        sends(&wish, streams, &mut control, &measured).map(drop)
    } else {
        receives(&wish, streams, &mut control, &measured).map(drop)
    }
}

/// The client's part, and the report.
fn measure(args: &Args, to: SocketAddr) -> Outcome {
    println!("{}", report(args.wish, args.interval, to)?);
    Ok(())
}

fn report(wish: Wish, interval: u64, to: SocketAddr) -> Outcome<Value> {
    let mut control = TcpStream::connect_timeout(&to, Duration::from_secs(10)).during("connect")?;
    control.write_all(&wish.message())?;
    let mut streams = Vec::new();
    for _ in 0..wish.streams {
        let stream = if wish.udp {
            let socket = UdpSocket::bind((control.local_addr()?.ip(), 0))?;
            let ours = socket.local_addr()?.port();
            control.write_all(&number(ours))?;
            socket.connect((to.ip(), read_number(&control)?))?;
            Stream::Datagrams(socket)
        } else {
            Stream::Bytes(TcpStream::connect(to).during("connect")?)
        };
        streams.push(stream.with_buffer(&wish)?);
    }
    let measured = Measured::new(wish.seconds, interval);
    let (sent, received) = if wish.reverse {
        receives(&wish, streams, &mut control, &measured)?
    } else {
        sends(&wish, streams, &mut control, &measured)?
    };
    let seconds = received.micros.max(1) as f64 / 1e6;
    let bits = received.bytes as f64 * 8.0 / seconds;
    // Writes to a connection are no datagrams.
    let lost = match wish.udp {
        true => sent.blocks.saturating_sub(received.blocks),
        false => 0,
    };
    let percent = lost as f64 * 100.0 / sent.blocks.max(1) as f64;
    Ok(json!({
        "intervals": measured.report(),
        "end": {
            "sum_received": { "start": 0, "end": seconds, "bytes": received.bytes, "bits_per_second": bits },
            "sum": { "bits_per_second": bits, "lost_percent": percent },
            "streams": [{ "udp": { "out_of_order": received.out_of_order } }],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn words(line: &str) -> Outcome<Args> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines_of_the_tests_are_understood() {
        let line = "-J -c 10.8.0.2 -p 5301 -t 3 -i 3 -P 2 -u -b 20M -l 1350 -w 4M -R";
        let Ok(args) = words(line) else {
            panic!("refused");
        };
        let wish = Wish {
            seconds: 3,
            streams: 2,
            reverse: true,
            udp: true,
            block: 1350,
            rate: 20_000_000,
            buffer: 4 << 20,
            zerocopy: false,
        };
        assert_eq!((args.port, args.interval, args.wish), (5301, 3, wish));
        assert_eq!(Wish::read(&wish.message()[..]).ok(), Some(wish));
        let block = |line: &str| words(line).ok().map(|args| args.wish.block);
        assert_eq!(block("-Z -t 3 -c 5.5.5.1"), Some(128 << 10));
        assert_eq!(block("-c ::1 -l 16K"), Some(16 << 10));
        assert_eq!(block("-c ::1 -u"), Some(1350));
        assert!(words("-s -1 -p 5201").is_ok_and(|a| a.server && a.once));
        for bad in [
            "",
            "-s -c ::1",
            "-c host",
            "-c ::1 -t",
            "-c ::1 -x",
            "-c ::1 -u -l 7",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_is_counted() {
        let lines = [
            "-t 1 -P 2",
            "-t 1 -R",
            "-t 1 -Z -l 16K",
            "-t 1 -R -Z -b 2M -w 128K",
            "-t 1 -u -b 1M -w 1M",
            "-t 1 -u -b 1M -R",
        ];
        for line in lines {
            let Ok(args) = words(&format!("-c ::1 {line}")) else {
                panic!("{line} is refused");
            };
            let listener = TcpListener::bind("[::1]:0").expect("bind");
            let to = listener.local_addr().expect("address");
            thread::scope(|scope| {
                let server = scope.spawn(|| one(listener.accept().expect("accept").0, &listener));
                let report = report(args.wish, 1, to).ok().unwrap_or_default();
                let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
                // A second of an eighth of a megabyte is the least of them.
                let bits = number("/end/sum_received/bits_per_second");
                assert!(bits.is_some_and(|b| b > 1e5), "{line}: {report}");
                assert_eq!(
                    number("/end/sum/lost_percent"),
                    Some(0.0),
                    "{line}: {report}"
                );
                let order = number("/end/streams/0/udp/out_of_order");
                assert_eq!(order, Some(0.0), "{line}: {report}");
                let first = number("/intervals/0/sum/bytes");
                assert!(first.is_some_and(|b| b > 1e4), "{line}: {report}");
                assert!(server.join().is_ok_and(|done| done.is_ok()), "{line}");
            });
        }
    }
}

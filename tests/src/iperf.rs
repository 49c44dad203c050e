// SPDX-License-Identifier: GPL-2.0-only
//! A stand-in for iperf3, where a guest's C library and processor have none: run as `iperf3`, this program takes the
//! options our tests give it and answers with the fields they read. It talks only to itself.
//!
//! One control connection carries the wish (direction, seconds, streams, datagrams a second), the data flow on
//! connections or datagrams of their own to the same port, and the receiver's count comes back on the first.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::tap::{During, Failure, Outcome};

/// Bytes of one write, as iperf3 has it for TCP.
const BLOCK: usize = 128 << 10;
/// Bytes of the control connection's messages: [`Wish`] or [`Count`], of big-endian words.
const MESSAGE: usize = 40;
/// A receiver takes silence of this length for the end of datagrams.
const SILENCE: Duration = Duration::from_secs(2);

/// Settings of the command line.
#[derive(Debug, Clone, PartialEq)]
struct Args {
    server: bool,
    daemon: bool,
    once: bool,
    to: Option<IpAddr>,
    port: u16,
    wish: Wish,
}

/// One measurement, as both ends know it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Wish {
    seconds: u64,
    streams: u64,
    /// The server sends.
    reverse: bool,
    /// Bytes of a datagram; 0 is TCP.
    datagram: u64,
    /// Bits a second of each stream; 0 is no limit.
    rate: u64,
}

/// A receiver's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    bytes: u64,
    micros: u64,
    datagrams: u64,
    sent: u64,
}

fn pack(words: [u64; 5]) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    for (to, word) in message.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    message
}

fn unpack(mut from: impl Read) -> Outcome<[u64; 5]> {
    let mut message = [0; MESSAGE];
    from.read_exact(&mut message)?;
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(message.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
    }
    Ok(words)
}

impl Wish {
    fn words(&self) -> [u64; 5] {
        let Wish {
            seconds,
            streams,
            reverse,
            datagram,
            rate,
        } = *self;
        [seconds, streams, reverse.into(), datagram, rate]
    }

    fn read(from: impl Read) -> Outcome<Self> {
        let [seconds, streams, reverse, datagram, rate] = unpack(from)?;
        Ok(Self {
            seconds,
            streams,
            reverse: reverse != 0,
            datagram,
            rate,
        })
    }
}

impl Count {
    fn words(&self) -> [u64; 5] {
        [self.bytes, self.micros, self.datagrams, self.sent, 0]
    }

    fn read(from: impl Read) -> Outcome<Self> {
        let [bytes, micros, datagrams, sent, _] = unpack(from)?;
        Ok(Self {
            bytes,
            micros,
            datagrams,
            sent,
        })
    }

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            micros: self.micros.max(other.micros),
            datagrams: self.datagrams + other.datagrams,
            sent: self.sent + other.sent,
        }
    }
}

fn parse(args: impl Iterator<Item = String>) -> Outcome<Args> {
    let mut parsed = Args {
        server: false,
        daemon: false,
        once: false,
        to: None,
        port: 5201,
        wish: Wish {
            seconds: 10,
            streams: 1,
            reverse: false,
            datagram: 0,
            rate: 0,
        },
    };
    let (mut udp, mut length) = (false, 1350);
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || {
            let value = args.next();
            value.ok_or_else(|| Failure::new(format!("{arg} needs a value")))
        };
        let number = |text: String| {
            let scale = match text.chars().last() {
                Some('K') => 1000,
                Some('M') => 1_000_000,
                _ => 1,
            };
            let digits = text.trim_end_matches(['K', 'M']).parse::<u64>();
            digits.map(|n| n * scale).map_err(Failure::new)
        };
        match arg.as_str() {
            "-s" => parsed.server = true,
            "-D" => parsed.daemon = true,
            "-1" => parsed.once = true,
            "-c" => parsed.to = Some(value()?.parse().map_err(Failure::new)?),
            "-p" => parsed.port = value()?.parse().map_err(Failure::new)?,
            "-t" => parsed.wish.seconds = number(value()?)?,
            "-P" => parsed.wish.streams = number(value()?)?,
            "-b" => parsed.wish.rate = number(value()?)?,
            "-l" => length = number(value()?)?,
            "-R" => parsed.wish.reverse = true,
            "-u" => udp = true,
            // Always JSON; the sizes of buffers, of reports' intervals and the way data is handed over make no
            // difference to what is counted.
            "-J" | "-Z" => {}
            "-w" | "-i" | "--connect-timeout" => drop(value()?),
            _ => return Err(Failure::new(format!("unknown option {arg}"))),
        }
    }
    if udp {
        parsed.wish.datagram = length;
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
        streams.push(if wish.datagram > 0 {
            // The client says from which port its datagrams come.
            let [theirs, ..] = unpack(&control)?;
            let socket = UdpSocket::bind(("::", 0))?;
            let theirs = u16::try_from(theirs).map_err(Failure::new)?;
            socket.connect((control.peer_addr()?.ip(), theirs))?;
            let ours = socket.local_addr()?.port();
            control.write_all(&pack([ours.into(), 0, 0, 0, 0]))?;
            Stream::Datagrams(socket)
        } else {
            Stream::Bytes(listener.accept()?.0)
        });
    }
    let count = run(&wish, streams, wish.reverse)?;
    control.write_all(&pack(count.words()))?;
    Ok(())
}

/// The client's part, and the report.
fn measure(args: &Args, to: SocketAddr) -> Outcome {
    println!("{}", report(args.wish, to)?);
    Ok(())
}

fn report(wish: Wish, to: SocketAddr) -> Outcome<Value> {
    let mut control = TcpStream::connect_timeout(&to, Duration::from_secs(10)).during("connect")?;
    control.write_all(&pack(wish.words()))?;
    let mut streams = Vec::new();
    for _ in 0..wish.streams {
        streams.push(if wish.datagram > 0 {
            let socket = UdpSocket::bind((control.local_addr()?.ip(), 0))?;
            let ours = socket.local_addr()?.port();
            control.write_all(&pack([ours.into(), 0, 0, 0, 0]))?;
            let [theirs, ..] = unpack(&control)?;
            socket.connect((to.ip(), u16::try_from(theirs).map_err(Failure::new)?))?;
            Stream::Datagrams(socket)
        } else {
            Stream::Bytes(TcpStream::connect(to).during("connect")?)
        });
    }
    let ours = run(&wish, streams, !wish.reverse)?;
    let theirs = Count::read(&control)?;
    let (received, sent) = if wish.reverse {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    let seconds = received.micros.max(1) as f64 / 1e6;
    let bits = received.bytes as f64 * 8.0 / seconds;
    // Writes to a connection are no datagrams.
    let lost = match wish.datagram {
        0 => 0,
        _ => sent.sent.saturating_sub(received.datagrams),
    };
    let sum =
        json!({ "start": 0, "end": seconds, "bytes": received.bytes, "bits_per_second": bits });
    let percent = lost as f64 * 100.0 / sent.sent.max(1) as f64;
    Ok(json!({
        "intervals": [{ "sum": sum }],
        "end": { "sum_received": sum, "sum": { "bits_per_second": bits, "lost_percent": percent } },
    }))
}

enum Stream {
    Bytes(TcpStream),
    Datagrams(UdpSocket),
}

/// Sends or receives on all streams at once.
fn run(wish: &Wish, streams: Vec<Stream>, send: bool) -> Outcome<Count> {
    thread::scope(|scope| {
        let workers: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                scope.spawn(move || match send {
                    true => sender(wish, stream),
                    false => receiver(wish, stream),
                })
            })
            .collect();
        let mut total = Count::default();
        for worker in workers {
            let count = worker.join().map_err(|_| Failure::new("a stream died"))?;
            total = total.add(count?);
        }
        Ok(total)
    })
}

fn sender(wish: &Wish, mut stream: Stream) -> Outcome<Count> {
    let started = Instant::now();
    let end = Duration::from_secs(wish.seconds);
    let block = match &stream {
        Stream::Bytes(_) if wish.rate > 0 => vec![0; 8 << 10],
        Stream::Bytes(_) => vec![0; BLOCK],
        Stream::Datagrams(_) => vec![0; usize::try_from(wish.datagram).map_err(Failure::new)?],
    };
    let mut count = Count::default();
    while started.elapsed() < end {
        if wish.rate > 0 {
            let due = Duration::from_secs_f64(count.bytes as f64 * 8.0 / wish.rate as f64);
            if let Some(early) = due.checked_sub(started.elapsed()) {
                thread::sleep(early.min(end));
            }
        }
        let sent = match &mut stream {
            Stream::Bytes(stream) => stream.write(&block)?,
            // Refused ones are lost ones.
            Stream::Datagrams(socket) => socket.send(&block).unwrap_or(0),
        };
        count.bytes += sent as u64;
        count.sent += 1;
    }
    count.micros = started.elapsed().as_micros() as u64;
    Ok(count)
}

/// Counts until the sender closes, or for datagrams, until it is silent.
fn receiver(wish: &Wish, stream: Stream) -> Outcome<Count> {
    let mut buffer = vec![0; BLOCK];
    let mut count = Count::default();
    let started = Instant::now();
    match stream {
        Stream::Bytes(mut stream) => loop {
            match stream.read(&mut buffer)? {
                0 => {
                    count.micros = started.elapsed().as_micros() as u64;
                    return Ok(count);
                }
                n => count.bytes += n as u64,
            }
        },
        Stream::Datagrams(socket) => {
            let last = Duration::from_secs(wish.seconds) + SILENCE;
            socket.set_read_timeout(Some(SILENCE))?;
            while started.elapsed() < last {
                let Ok(n) = socket.recv(&mut buffer) else {
                    break;
                };
                count.bytes += n as u64;
                count.datagrams += 1;
                count.micros = started.elapsed().as_micros() as u64;
            }
            Ok(count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Outcome<Args> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines_of_the_tests_are_understood() {
        let Ok(args) = words("-J -c 10.8.0.2 -p 5301 -t 3 -P 2 -u -b 20M -l 1350 -w 4M -R") else {
            panic!("refused");
        };
        let wish = Wish {
            seconds: 3,
            streams: 2,
            reverse: true,
            datagram: 1350,
            rate: 20_000_000,
        };
        assert_eq!((args.port, args.wish), (5301, wish));
        assert!(words("-s -1 -p 5201").is_ok_and(|a| a.server && a.once));
        for bad in ["", "-s -c ::1", "-c host", "-c ::1 -t", "-c ::1 -x"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_is_counted() {
        for line in ["-t 1 -P 2", "-t 1 -R", "-t 1 -u -b 1M"] {
            let Ok(args) = words(&format!("-c ::1 {line}")) else {
                panic!("{line} is refused");
            };
            let listener = TcpListener::bind("[::1]:0").expect("bind");
            let to = listener.local_addr().expect("address");
            thread::scope(|scope| {
                let server = scope.spawn(|| one(listener.accept().expect("accept").0, &listener));
                let report = report(args.wish, to).ok();
                let bits =
                    report.and_then(|r| r.pointer("/end/sum_received/bits_per_second")?.as_f64());
                // A second of an eighth of a megabyte is the least of the three.
                assert!(bits.is_some_and(|b| b > 1e5), "{line}: {bits:?}");
                assert!(server.join().is_ok_and(|done| done.is_ok()), "{line}");
            });
        }
    }
}

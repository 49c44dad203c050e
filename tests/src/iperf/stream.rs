// SPDX-License-Identifier: GPL-2.0-only
//! The data of a measurement: streams that send or receive, and their counts.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Count, SEQUENCE, Wish};
use crate::lab::set_buffer;
use crate::tap::{During, Failure, Outcome};

/// A receiver that knows how many datagrams were sent gives up those that are missing after this silence.
const SILENCE: Duration = Duration::from_secs(2);
/// How often a receiver of datagrams asks whether the sender is done.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of this end by interval of the report; none at a server.
#[derive(Default)]
pub(super) struct Measured {
    /// Seconds.
    interval: u64,
    /// MIPS has no 64-bit atomics; what a 32-bit machine moves in one interval fits.
    sums: Vec<AtomicUsize>,
}

impl Measured {
    pub(super) fn new(seconds: u64, interval: u64) -> Self {
        let sums = (0..seconds.div_ceil(interval)).map(|_| AtomicUsize::new(0));
        Self {
            interval,
            sums: sums.collect(),
        }
    }

    /// Counts bytes of this time after the start; those after the end belong to the last interval.
    pub(super) fn count(&self, after: Duration, bytes: usize) {
        let Some(last) = self.sums.len().checked_sub(1) else {
            return;
        };
        let at = after.as_secs() / self.interval;
        let at = usize::try_from(at).unwrap_or(last).min(last);
        self.sums[at].fetch_add(bytes, Ordering::Relaxed);
    }

    /// As iperf3 reports them.
    pub(super) fn report(&self) -> Vec<Value> {
        let sums = (0u64..).zip(&self.sums);
        sums.map(|(n, bytes)| {
            let (start, bytes) = (n * self.interval, bytes.load(Ordering::Relaxed));
            json!({ "sum": { "start": start, "end": start + self.interval, "bytes": bytes } })
        })
        .collect()
    }
}

pub(super) enum Stream {
    Bytes(TcpStream),
    Datagrams(UdpSocket),
}

impl Stream {
    /// With socket buffers as the client wished.
    pub(super) fn with_buffer(self, wish: &Wish) -> Outcome<Self> {
        let fd = match &self {
            Self::Bytes(stream) => stream.as_raw_fd(),
            Self::Datagrams(socket) => socket.as_raw_fd(),
        };
        if wish.buffer > 0 {
            let bytes = u32::try_from(wish.buffer).map_err(Failure::new)?;
            for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
                set_buffer(fd, option, bytes)?;
            }
        }
        Ok(self)
    }
}

/// Runs the same work on all streams at once and adds up.
fn each(streams: Vec<Stream>, work: impl Fn(Stream) -> Outcome<Count> + Sync) -> Outcome<Count> {
    thread::scope(|scope| {
        let start = |stream| scope.spawn(|| work(stream));
        let workers: Vec<_> = streams.into_iter().map(start).collect();
        let mut total = Count::default();
        for worker in workers {
            let count = worker.join().map_err(|_| Failure::new("a stream died"))?;
            total = total.add(count?);
        }
        Ok(total)
    })
}

/// Sends on all streams, and asks the other end: its own count and the other's.
pub(super) fn sends(
    wish: &Wish,
    streams: Vec<Stream>,
    control: &mut TcpStream,
    measured: &Measured,
) -> Outcome<(Count, Count)> {
    let sent = each(streams, |stream| sender(wish, stream, measured))?;
    control.write_all(&sent.message())?;
    Ok((sent, Count::read(control)?))
}

/// Receives on all streams, until the other end has said how much it was: the other's count and its own.
pub(super) fn receives(
    wish: &Wish,
    streams: Vec<Stream>,
    control: &mut TcpStream,
    measured: &Measured,
) -> Outcome<(Count, Count)> {
    let told = Told::default();
    let mut from = control.try_clone()?;
    let (sent, received) = thread::scope(|scope| {
        let listens = scope.spawn(|| {
            let sent = Count::read(&mut from);
            let blocks = sent.as_ref().map_or(0, |count| count.blocks);
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            told.sent.get_or_init(|| blocks);
            sent
        });
        let received = each(streams, |stream| receiver(wish, stream, measured, &told));
        let sent = listens.join();
        (sent, received)
    });
    let sent = sent.map_err(|_| Failure::new("the control connection's reader died"))??;
    let received = received?;
    control.write_all(&received.message())?;
    Ok((sent, received))
}

/// The sender's word on its end, as the receivers of datagrams see it.
#[derive(Default)]
struct Told {
    /// Datagrams of all streams, once the sender is done.
    sent: OnceLock<usize>,
    /// Datagrams that came, of all streams.
    came: AtomicUsize,
}

fn sender(wish: &Wish, mut stream: Stream, measured: &Measured) -> Outcome<Count> {
    let length = usize::try_from(wish.block).map_err(Failure::new)?;
    let mut block = vec![0; length];
    let pages = match wish.zerocopy {
        true => Some(file_of(&block)?),
        false => None,
    };
    let started = Instant::now();
    let end = Duration::from_secs(wish.seconds);
    let mut count = Count::default();
    while started.elapsed() < end {
        if wish.rate > 0 {
            let due = Duration::from_secs_f64(count.bytes as f64 * 8.0 / wish.rate as f64);
            if let Some(early) = due.checked_sub(started.elapsed()) {
                thread::sleep(early.min(end));
            }
        }
        let sent = match (&mut stream, &pages) {
            (Stream::Bytes(stream), Some(file)) => send_pages(stream, file, length)?,
            (Stream::Bytes(stream), None) => stream.write(&block)?,
            (Stream::Datagrams(socket), _) => {
                if let Some(head) = block.first_chunk_mut::<SEQUENCE>() {
                    *head = count.blocks.to_be_bytes();
                }
                // Refused ones are lost ones.
                socket.send(&block).unwrap_or(0)
            }
        };
        count.bytes += sent as u64;
        count.blocks += 1;
        measured.count(started.elapsed(), sent);
    }
    count.micros = started.elapsed().as_micros() as u64;
    Ok(count)
}

/// A file in memory with these bytes.
fn file_of(bytes: &[u8]) -> Outcome<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"iperf3".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).during("memfd_create");
    }
    // SAFETY: the descriptor is new, and this file alone has it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    Ok(file)
}

/// Hands pages of a file to a connection without a copy of them; says how many bytes it took.
fn send_pages(to: &TcpStream, file: &File, length: usize) -> Outcome<usize> {
    let mut offset = 0;
    // SAFETY: both descriptors are open, and the offset is a variable of the type that sendfile wants.
    let sent = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), &raw mut offset, length) };
    usize::try_from(sent).map_err(|_| std::io::Error::last_os_error().into())
}

/// Counts until the sender closes; datagrams, until all that were sent have come, or no more come.
fn receiver(wish: &Wish, stream: Stream, measured: &Measured, told: &Told) -> Outcome<Count> {
    let mut buffer = vec![0; usize::try_from(wish.block.max(1 << 16)).map_err(Failure::new)?];
    let mut count = Count::default();
    let started = Instant::now();
    match stream {
        Stream::Bytes(mut stream) => loop {
            let n = stream.read(&mut buffer)?;
            count.micros = started.elapsed().as_micros() as u64;
            if n == 0 {
                return Ok(count);
            }
            count.bytes += n as u64;
            count.blocks += 1;
            measured.count(started.elapsed(), n);
        },
        Stream::Datagrams(socket) => {
            socket.set_read_timeout(Some(LOOK))?;
            let (mut next, mut silent) = (0, Instant::now());
            loop {
                // Silence, or an ICMP error: the sender counts what it sent all the same.
                let Ok(n) = socket.recv(&mut buffer) else {
                    match told.sent.get() {
                        None => silent = Instant::now(),
                        Some(sent)
                            if told.came.load(Ordering::Acquire) >= *sent
                                || silent.elapsed() > SILENCE =>
                        {
                            return Ok(count);
                        }
                        Some(_) => {}
                    }
                    continue;
                };
                silent = Instant::now();
                told.came.fetch_add(1, Ordering::AcqRel);
                count.bytes += n as u64;
                count.blocks += 1;
                count.micros = started.elapsed().as_micros() as u64;
                measured.count(started.elapsed(), n);
                let sequence = buffer
                    .first_chunk::<SEQUENCE>()
                    .map_or(0, |s| u64::from_be_bytes(*s));
                if sequence < next {
                    count.out_of_order += 1;
                }
                next = next.max(sequence + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn lost_and_late_datagrams_are_counted() {
        let listener = TcpListener::bind("[::1]:0").expect("bind");
        let mut ours =
            TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut theirs, _) = listener.accept().expect("accept");
        let [from, to] = [(); 2].map(|()| UdpSocket::bind("[::1]:0").expect("bind"));
        from.connect(to.local_addr().expect("address"))
            .expect("connect");
        // The third is lost, the second late.
        for sequence in [0u64, 3, 1] {
            from.send(&sequence.to_be_bytes()).expect("send");
        }
        let sent = Count {
            blocks: 4,
            ..Count::default()
        };
        theirs.write_all(&sent.message()).expect("write");
        let wish = Wish {
            seconds: 1,
            streams: 1,
            reverse: false,
            udp: true,
            block: 8,
            rate: 0,
            buffer: 0,
            zerocopy: false,
        };
        let streams = vec![Stream::Datagrams(to)];
        let counts = receives(&wish, streams, &mut ours, &Measured::default()).ok();
        let counts = counts.map(|(sent, got)| (sent.blocks, got.blocks, got.out_of_order));
        assert_eq!(counts, Some((4, 3, 1)));
    }

    #[test]
    fn intervals_are_those_of_the_command_line() {
        let measured = Measured::new(5, 2);
        for (millis, bytes) in [(0, 1), (1999, 2), (2000, 4), (4900, 8), (7000, 16)] {
            measured.count(Duration::from_millis(millis), bytes);
        }
        let sums = measured.report();
        let bytes: Vec<_> = sums.iter().map(|i| i["sum"]["bytes"].as_u64()).collect();
        assert_eq!(bytes, [Some(3), Some(4), Some(24)]);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Traffic: ping with its losses counted, iperf3 with its JSON read.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Cmd, Done, Echo, Ns, Proc, patience, wait_for};
use crate::tap::{During, Failure, Outcome};

/// A series of echo requests.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// Destination.
    pub dst: IpAddr,
    /// Requests.
    pub count: u32,
    /// Milliseconds between them.
    pub interval: u32,
    /// Bytes of ICMP payload.
    pub size: u32,
}

/// Its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingStats {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Packets that the socket had no room for, if that is known.
    pub unread: u32,
}

impl PingStats {
    /// This, had all of so many requests been answered.
    pub fn of(self, count: u16) -> Self {
        Self {
            sent: count.into(),
            received: count.into(),
            ..self
        }
    }
}

impl Ping {
    /// `count` requests of 56 bytes, 5 ms apart.
    pub fn new(dst: IpAddr, count: u32) -> Self {
        Self {
            dst,
            count,
            interval: 5,
            size: 56,
        }
    }

    /// With this payload size.
    pub fn size(self, size: u32) -> Self {
        Self { size, ..self }
    }

    /// With this many milliseconds between requests.
    pub fn interval(self, interval: u32) -> Self {
        Self { interval, ..self }
    }

    fn cmd(&self, ns: &Ns) -> Cmd {
        let (interval, last) = (f64::from(self.interval) / 1000.0, 2 * patience());
        ns.cmd(&format!(
            "ping -n -q -W {last} -c {} -i {interval} -s {} {}",
            self.count, self.size, self.dst
        ))
    }

    /// The same series with every reply waited for: ping itself leaves twice the longest round trip after its last
    /// request, and on a busy machine that looks like loss.
    pub fn echo(&self) -> Outcome<Echo> {
        let count = u16::try_from(self.count);
        let count = count.map_err(|_| Failure::new(format!("{} requests", self.count)))?;
        Ok(Echo::new(self.dst, count)
            .size(self.size as usize)
            .interval(self.interval))
    }

    /// Starts it in the background.
    pub fn spawn(&self, ns: &Ns) -> Outcome<Proc> {
        self.cmd(ns).spawn()
    }

    /// Longest time that it can take.
    pub fn limit(&self) -> Duration {
        Duration::from_millis(u64::from(self.count) * u64::from(self.interval)) * 2
            + Duration::from_secs(15)
    }

    /// Reads the summary of a finished ping.
    pub fn stats(done: &Done) -> Outcome<PingStats> {
        let numbers = done
            .out
            .lines()
            .find(|l| l.contains("packets transmitted"))
            .and_then(|line| {
                let mut parts = line
                    .split(',')
                    .map(|p| p.split_whitespace().next().and_then(|n| n.parse().ok()));
                Some(PingStats {
                    sent: parts.next()??,
                    received: parts.next()??,
                    unread: 0,
                })
            });
        numbers.ok_or_else(|| {
            Failure::new(format!("ping printed no summary: {}{}", done.out, done.err))
        })
    }

    /// The longest round trip of a finished ping, milliseconds.
    pub fn slowest(done: &Done) -> Outcome<f64> {
        // BusyBox says "round-trip".
        let line = done.out.lines().find(|l| l.starts_with("r"));
        let numbers = line.and_then(|l| l.split(" = ").nth(1));
        let most = numbers.and_then(|n| n.split(['/', ' ']).nth(2)?.parse().ok());
        most.ok_or_else(|| Failure::new(format!("ping printed no times: {}{}", done.out, done.err)))
    }

    /// Runs it to the end.
    pub fn run(&self, ns: &Ns) -> Outcome<PingStats> {
        Self::stats(&self.cmd(ns).run(self.limit())?)
    }

    /// Runs it and demands that every request was answered.
    pub fn lossless(&self, ns: &Ns) -> Outcome {
        self.echo()?.lossless(ns)
    }
}

/// Bytes of socket buffer where a burst after a stall of the machine must not count as loss.
pub const BUFFER: u32 = 4 << 20;
/// Bytes of payload of a UDP datagram: fits the tunnel's default MTU of 1416 over IPv6.
const DATAGRAM: u32 = 1350;

/// Lets sockets have buffers of [`BUFFER`] bytes: Linux 7.2 does for sending (net/core/sock.c), older ones do not.
pub fn large_buffers() -> Outcome {
    for limit in ["rmem_max", "wmem_max"] {
        fs::write(format!("/proc/sys/net/core/{limit}"), BUFFER.to_string()).during(limit)?;
    }
    Ok(())
}

/// Gives a socket more send buffer than it can fill, so that it never waits.
pub fn huge_send_buffer(sock: &UdpSocket) -> Outcome {
    set_buffer(sock.as_raw_fd(), libc::SO_SNDBUFFORCE, 256 << 20)
}

/// Gives a socket a receive buffer of this many bytes, so that nothing is lost in it while its reader waits for a
/// processor.
pub fn receive_buffer(fd: RawFd, bytes: u32) -> Outcome {
    set_buffer(fd, libc::SO_RCVBUFFORCE, bytes)
}

/// Sets a socket option of this many bytes, for example `SO_SNDBUF`.
pub fn set_buffer(fd: RawFd, option: libc::c_int, bytes: u32) -> Outcome {
    let len = size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the value is an int of the length given.
    let ret =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const bytes).cast(), len) };
    if ret != 0 {
        return Err(std::io::Error::last_os_error()).during("buffer of a socket");
    }
    Ok(())
}

/// An iperf3 run.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Address of the server.
    pub dst: IpAddr,
    /// TCP port of the server, so that runs in one namespace do not meet.
    pub port: u16,
    /// Seconds.
    pub seconds: u32,
    /// Parallel streams.
    pub streams: u32,
    /// The server sends.
    pub reverse: bool,
    /// UDP at this rate in Mbit/s instead of TCP.
    pub udp: Option<u32>,
    /// Pages of a file are sent without a copy (`-Z`), so the driver sees page cache it must not write to.
    pub zerocopy: bool,
    /// Limit per stream in Mbit/s; 0 is none.
    pub mbit: u32,
    /// KiB that TCP's ends write and read at once. Small ones show a slow flow earlier; a measurement of speed wants the 128
    /// of iperf3 itself.
    pub block: u32,
}

/// Its result.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Mbit/s received.
    pub mbit: f64,
    /// UDP datagrams lost, percent.
    pub lost_percent: f64,
    /// UDP datagrams that came after later ones.
    pub out_of_order: u64,
}

impl Flow {
    /// One TCP stream without limit.
    pub fn tcp(dst: IpAddr, seconds: u32) -> Self {
        Self {
            dst,
            port: 5201,
            seconds,
            streams: 1,
            reverse: false,
            udp: None,
            zerocopy: false,
            mbit: 0,
            block: 16,
        }
    }

    /// A UDP stream of `mbit` Mbit/s.
    pub fn udp(dst: IpAddr, seconds: u32, mbit: u32) -> Self {
        Self {
            udp: Some(mbit),
            ..Self::tcp(dst, seconds)
        }
    }

    fn line(&self) -> String {
        let mut line = format!(
            "iperf3 -J -c {} -p {} -t {} -P {}",
            self.dst, self.port, self.seconds, self.streams
        );
        if let Some(mbit) = self.udp {
            line += &format!(" -u -b {mbit}M -l {DATAGRAM} -w {BUFFER}");
        } else {
            line += &format!(" -l {}K", self.block);
        }
        if self.udp.is_none() && self.mbit > 0 {
            // After a stall of the machine iperf3 catches up as fast as it may: the window keeps that burst shorter
            // than any queue on the way.
            line += &format!(" -b {}M -w 128K", self.mbit);
        }
        for (wanted, option) in [(self.reverse, " -R"), (self.zerocopy, " -Z")] {
            if wanted {
                line += option;
            }
        }
        line
    }

    /// Starts server and client; the client is returned, the server ends with it.
    pub fn start(&self, server: &Ns, client: &Ns) -> Outcome<(Proc, Proc)> {
        if self.udp.is_some() {
            large_buffers()?;
        }
        let listener = server
            .cmd(&format!("iperf3 -s -1 -p {}", self.port))
            .spawn()?;
        wait_for("iperf3 to listen", Duration::from_secs(10), || {
            Ok(server.tcp_listening(self.port)?.then_some(()))
        })?;
        Ok((listener, client.cmd(&self.line()).spawn()?))
    }

    /// Fails when less than `mbit` Mbit/s went through: that is not a matter of speed any more.
    pub fn at_least(rate: &Rate, mbit: f64) -> Outcome {
        crate::check!(
            rate.mbit * f64::from(patience()) >= mbit,
            "only {:.2} Mbit/s",
            rate.mbit
        );
        Ok(())
    }

    /// Waits for the client and reads its result.
    pub fn result(&self, client: Proc) -> Outcome<Rate> {
        let done = client.finish(Duration::from_secs(u64::from(self.seconds) + 30))?;
        let json: Value = serde_json::from_str(&done.out)
            .map_err(|e| Failure::new(format!("iperf3: {e}: {}{}", done.out, done.err)))?;
        if let Some(error) = json.get("error").and_then(Value::as_str) {
            return Err(Failure::new(format!("iperf3: {error}")));
        }
        let number = |path: &str| json.pointer(path).and_then(Value::as_f64);
        let bits = match self.udp {
            Some(_) => {
                number("/end/sum_received/bits_per_second").or(number("/end/sum/bits_per_second"))
            }
            None => number("/end/sum_received/bits_per_second"),
        };
        let bits =
            bits.ok_or_else(|| Failure::new(format!("iperf3 reports no rate: {}", done.out)))?;
        Ok(Rate {
            mbit: bits / 1e6,
            lost_percent: number("/end/sum/lost_percent").unwrap_or(0.0),
            out_of_order: json
                .pointer("/end/streams")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|stream| stream.pointer("/udp/out_of_order")?.as_u64())
                .sum(),
        })
    }
}

/// Runs iperf3 from `client` to `server`.
pub fn iperf(flow: &Flow, server: &Ns, client: &Ns) -> Outcome<Rate> {
    let (listener, client) = flow.start(server, client)?;
    let rate = flow.result(client).during(flow.line())?;
    drop(listener);
    Ok(rate)
}

// SPDX-License-Identifier: GPL-2.0-only
//! The parts that cases are built from: namespaces, processes, traffic, the kernel's log, the module.

pub mod burst;
mod cmd;
mod drops;
mod echo;
mod flow;
mod kmsg;
mod module;
mod ns;
mod param;
mod polls;
mod server;
mod sniffer;
mod soft;
mod stream;
mod tunnel;

pub use cmd::{Cmd, Done, Proc};
pub use drops::DropReasons;
pub use echo::Echo;
pub use flow::{
    Flow, Ping, PingStats, huge_send_buffer, iperf, large_buffers, receive_buffer, set_buffer,
};
pub use kmsg::KernelLog;
pub use module::Module;
pub use ns::{Netdev, Ns, Pair, backlog_full};
pub use param::Param;
pub use polls::{before_polls, bind, pollers, threaded};
pub use server::{Hub, Server, VpnIps};
pub use sniffer::Sniffer;
pub use soft::{LIMIT, Soft, SoftTunnel};
pub use stream::{StreamTunnel, framed, poll, tcp_pair};
pub use tunnel::{Cipher, End, Outer, PORT, Tunnel, TunnelSpec};

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::tap::{Failure, Outcome};

/// How much slower than a real machine this one may be.
static PATIENCE: AtomicU32 = AtomicU32::new(1);

/// Sets the factor by which deadlines are multiplied and floors of throughput divided, for emulated machines.
pub fn set_patience(factor: u32) {
    PATIENCE.store(factor.max(1), Ordering::Relaxed);
}

/// The factor set by [`set_patience`].
pub fn patience() -> u32 {
    PATIENCE.load(Ordering::Relaxed)
}

/// Polls until `probe` yields a value; fails when it does not within `limit` times the patience.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Outcome<Option<T>>,
) -> Outcome<T> {
    let limit = limit * patience();
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "waited {:.1} s in vain for {what}",
                limit.as_secs_f64()
            )));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Sets an option of a socket that is an int.
pub fn set_int(sock: &UdpSocket, level: i32, name: i32, value: i32) -> Outcome {
    // SAFETY: the value is an int of the length given.
    let ret = unsafe {
        libc::setsockopt(
            sock.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if ret != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

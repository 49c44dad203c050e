// SPDX-License-Identifier: GPL-2.0-only
//! Network namespaces without names: they are gone when the last descriptor and process are, whatever happens.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::Duration;

use crate::lab::{Cmd, wait_for};
use crate::tap::{During, Failure, Outcome};

/// A network namespace with `lo` up.
pub struct Ns {
    file: File,
    /// /proc/net/dev of this namespace: opened once, it shows this namespace to every thread.
    netdevs: File,
}

/// Counters of a device, from /proc/net/dev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Netdev {
    /// Bytes received by the stack from the device.
    pub rx_bytes: u64,
    /// Packets received by the stack from the device.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Dropped on receive.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Transmit errors.
    pub tx_errors: u64,
    /// Dropped on transmit.
    pub tx_dropped: u64,
}

impl Ns {
    /// A new namespace.
    pub fn new() -> Outcome<Self> {
        let made = thread::spawn(|| -> std::io::Result<Self> {
            // SAFETY: unshare of the network namespace touches no memory and concerns this short-lived thread only.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(Self {
                file: File::open("/proc/thread-self/ns/net")?,
                netdevs: File::open("/proc/thread-self/net/dev")?,
            })
        });
        let ns = made
            .join()
            .map_err(|_| Failure::new("namespace thread panicked"))?
            .during("unshare")?;
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// The descriptor that names it.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// A path that `ip link ... netns` accepts.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd())
    }

    /// Runs a closure on a thread inside the namespace: sockets made there belong to it for good.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // SAFETY: the descriptor is open for the life of `self`; setns changes this thread only.
                if unsafe { libc::setns(self.fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(std::io::Error::last_os_error().into());
                }
                inside()
            });
            worker
                .join()
                .unwrap_or_else(|_| Err(Failure::new("panic inside a namespace")))
        })
    }

    /// Processes inside whose name is `comm`.
    fn pids(&self, comm: &str) -> Outcome<Vec<u32>> {
        let inode = self.file.metadata()?.ino();
        let inside = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            let net = fs::metadata(format!("/proc/{pid}/ns/net"));
            name.is_ok_and(|n| n.trim() == comm) && net.is_ok_and(|m| m.ino() == inode)
        };
        let entries =
            fs::read_dir("/proc")?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        Ok(entries.filter(inside).collect())
    }

    /// Ends all processes of this name inside but `spared`, also those that put themselves into the background.
    pub fn kill(&self, comm: &str, spared: &[u32]) -> Outcome {
        let left = || -> Outcome<Vec<u32>> {
            Ok(self
                .pids(comm)?
                .into_iter()
                .filter(|pid| !spared.contains(pid))
                .collect())
        };
        for pid in left()? {
            // SAFETY: the process was found inside a namespace that belongs to this test alone.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        // A killed process has left its namespace and closed its sockets before the process that adopted it reaps it.
        wait_for(&format!("{comm} to end"), Duration::from_secs(5), || {
            Ok(left()?.is_empty().then_some(()))
        })
    }

    /// A command to be run inside.
    pub fn cmd(&self, line: &str) -> Cmd {
        Cmd::new(Some(self), line)
    }

    /// Runs `ip` with these commands, one a line, in one process.
    pub fn ip(&self, lines: &str) -> Outcome {
        self.cmd("ip -batch -")
            .input(format!("{lines}\n"))
            .ok()
            .during(lines)
            .map(drop)
    }

    /// Sets a variable of /proc/sys/net.
    pub fn sysctl(&self, path: &str, value: &str) -> Outcome {
        let file = format!("/proc/sys/net/{path}");
        self.enter(|| fs::write(&file, value).during(&file))
    }

    /// Makes a router of the namespace.
    pub fn enable_forwarding(&self) -> Outcome {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }

    /// Has a veth merge what it receives, or not. It takes packets by NAPI only if the end that sends does no TSO.
    pub fn merge(&self, veth: &str, on: bool) -> Outcome {
        // include/uapi/linux/ethtool.h: commands for generic receive offload and TSO.
        const ETHTOOL_SGRO: u32 = 0x2c;
        const ETHTOOL_STSO: u32 = 0x1f;
        self.ethtool(veth, ETHTOOL_SGRO, on.into())?;
        self.ethtool(veth, ETHTOOL_STSO, (!on).into())
    }

    /// Sets a value of a device: struct ethtool_value.
    fn ethtool(&self, name: &str, command: u32, value: u32) -> Outcome {
        // linux/sockios.h
        const SIOCETHTOOL: u32 = 0x8946;
        let mut value = [command, value];
        let sock = self.udp(false, 0)?;
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .zip(name.bytes().take(libc::IFNAMSIZ - 1))
        {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: the name ends in NUL, and the data is an ethtool_value; both outlive the call.
        let ret = unsafe { libc::ioctl(sock.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        match ret {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).during(format!("ethtool of {name}")),
        }
    }

    /// Counters of a device in this namespace.
    pub fn netdev(&self, name: &str) -> Outcome<Netdev> {
        let mut bytes = vec![0; 4096];
        let len = self.netdevs.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
        let row = text
            .lines()
            .find_map(|l| l.trim_start().strip_prefix(name)?.strip_prefix(':'))
            .ok_or_else(|| Failure::new(format!("no device {name} in /proc/net/dev")))?;
        let n: Vec<u64> = row
            .split_whitespace()
            .map_while(|w| w.parse().ok())
            .collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = n[..]
        else {
            return Err(Failure::new(format!("cannot read /proc/net/dev: {row}")));
        };
        Ok(Netdev {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    }

    /// How often this namespace fragmented a packet, IPv4 and IPv6 together.
    pub fn fragmented(&self) -> Outcome<u64> {
        self.counter("Ip", "FragOKs")
    }

    /// Datagrams that this namespace's UDP sockets had no room for, IPv4 and IPv6 together.
    pub fn unread(&self) -> Outcome<u64> {
        self.counter("Udp", "RcvbufErrors")
    }

    /// A counter of a protocol over IPv4 and of the same over IPv6 (/proc/net/snmp, /proc/net/snmp6).
    fn counter(&self, protocol: &str, name: &str) -> Outcome<u64> {
        self.enter(|| {
            let v4 = fs::read_to_string("/proc/thread-self/net/snmp")?;
            let head = format!("{protocol}: ");
            let mut rows = v4.lines().filter_map(|l| l.strip_prefix(&head));
            let column = rows
                .next()
                .and_then(|names| names.split(' ').position(|n| n == name));
            let v4 = rows
                .next()
                .and_then(|values| values.split(' ').nth(column?)?.parse::<u64>().ok());
            let v6 = fs::read_to_string("/proc/thread-self/net/snmp6")?;
            let head = format!("{protocol}6{name}");
            let v6 = v6
                .lines()
                .find_map(|l| l.strip_prefix(&head)?.trim().parse::<u64>().ok());
            Ok(v4.zip(v6).map(|(a, b)| a + b))
        })?
        .ok_or_else(|| Failure::new(format!("no counters {protocol} {name}")))
    }

    /// Index of a device in this namespace; `None` when it is not there.
    pub fn ifindex(&self, name: &str) -> Outcome<Option<u32>> {
        let name = std::ffi::CString::new(name).map_err(Failure::new)?;
        // SAFETY: `name` is a NUL-terminated string that outlives the call.
        self.enter(|| Ok(Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|i| *i != 0)))
    }

    /// A UDP socket that belongs to this namespace, bound to any address of the family.
    pub fn udp(&self, v6: bool, port: u16) -> Outcome<UdpSocket> {
        let any: IpAddr = if v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        self.enter(|| Ok(UdpSocket::bind(SocketAddr::new(any, port))?))
            .during("bind")
    }

    /// Whether something listens on this TCP port.
    pub fn tcp_listening(&self, port: u16) -> Outcome<bool> {
        let needle = format!(":{port:04X}");
        self.enter(|| {
            let mut listening = false;
            for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
                listening |= fs::read_to_string(table)?.lines().any(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    // State 0A is LISTEN (include/net/tcp_states.h).
                    words.next().is_some_and(|local| local.ends_with(&needle))
                        && words.nth(1) == Some("0A")
                });
            }
            Ok(listening)
        })
    }
}

/// Packets that the backlogs of all CPUs had no room for (/proc/net/softnet_stat).
pub fn backlog_full() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/net/softnet_stat")?;
    let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let rows: Option<Vec<u64>> = text.lines().map(dropped).collect();
    let rows = rows.filter(|rows| !rows.is_empty());
    let rows = rows.ok_or_else(|| Failure::new(format!("softnet_stat: {text}")))?;
    Ok(rows.iter().sum())
}

/// Two namespaces joined by a veth pair: `a` has 10.10.0.1 and fd00:10::1, `b` has .2 and ::2, the device is `veth`.
pub struct Pair {
    /// The first namespace.
    pub a: Ns,
    /// The second namespace.
    pub b: Ns,
}

impl Pair {
    /// A new pair.
    pub fn new() -> Outcome<Self> {
        let (a, b) = (Ns::new()?, Ns::new()?);
        // Different indices: the kernel reports a change of carrier at once only for a device whose peer's index is not
        // its own (linkwatch_urgent_event), else up to a second later, and IPv6 waits for it.
        a.ip(&format!(
            "link add veth index 10 type veth peer name veth index 20 netns {}",
            b.path()
        ))?;
        for (ns, n) in [(&a, 1), (&b, 2)] {
            ns.ip(&format!(
                "addr add 10.10.0.{n}/24 dev veth\naddr add fd00:10::{n}/64 dev veth nodad\nlink set veth up"
            ))?;
        }
        Ok(Self { a, b })
    }

    /// Address of side `n` (1 or 2) on the veth.
    pub fn outer(v6: bool, n: u8) -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, n.into()).into()
        } else {
            Ipv4Addr::new(10, 10, 0, n).into()
        }
    }
}

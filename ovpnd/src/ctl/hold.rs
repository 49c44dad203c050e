// SPDX-License-Identifier: GPL-2.0-or-later
//! Peers and interfaces that live as long as a process does.
//!
//! `hold`: an interface that its driver deletes when this process ends.
//!
//! `new-peer`: the kernel keeps a peer as long as its socket is open, so a process must stay to hold it.
//! ovpnctl starts itself again in a session of its own; that process opens the socket, adds the peer, says so
//! on its stdout, and then waits for the peer's end. The first process ends with the result.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use ovpn_netlink::{Event, LinkEvent, LinkMonitor, Monitor, Ovpn, PeerId, Rtnl};

use super::args::{Args, PeerOptions};
use super::{Done, Failure, index};
use crate::config::{SocketSpec, Transport};
use crate::net;

/// Tells the second process what it is; not for users.
const HOLDER: &str = "--holder";
const READY: &[u8] = b"ready\n";

pub(super) fn new_peer(mut args: Args) -> Done {
    let holder = args.flag(HOLDER);
    if !holder && !args.flag("--foreground") {
        return spawn(args.all());
    }
    let (name, options) = PeerOptions::parse(args, true)?;
    if holder {
        setsid().map_err(std::io::Error::from)?;
    }
    let held = Held::add(&name, &options)?;
    if holder {
        detach()?;
    }
    held.wait()
}

/// Starts the holder and waits for what becomes of the peer.
fn spawn(words: &[String]) -> Done {
    let mut child = Command::new(std::env::current_exe()?)
        .args(words)
        .arg(HOLDER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut said)?;
    }
    if said == READY {
        return Ok(());
    }
    // Its words are on stderr already; what it meant is in its status.
    let status: ExitStatus = child.wait()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Reports success and lets go of everything that ties this process to its starter.
fn detach() -> Done {
    std::io::stdout().write_all(READY)?;
    std::io::stdout().flush()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let dup = dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null));
    dup.map_err(std::io::Error::from)?;
    Ok(std::env::set_current_dir("/")?)
}

/// Holds an interface until somebody else deletes it or this process ends.
pub(super) fn interface(name: &str) -> Done {
    let mut links = LinkMonitor::open()?;
    let mut rtnl = Rtnl::open()?;
    let held = index(&mut rtnl, name)?;
    let mut ovpn = Ovpn::open()?;
    ovpn.hold(held)?;
    super::print("holding\n")?;
    loop {
        wait_for(links.as_fd())?;
        while let Some(event) = links.next_event()? {
            let gone = match event {
                LinkEvent::Deleted(index) => index == held,
                LinkEvent::Lost => !rtnl.ovpn_links()?.iter().any(|link| link.index == held),
                _ => false,
            };
            if gone {
                return Ok(());
            }
        }
    }
}

/// Returns when the socket is readable, or was interrupted.
fn wait_for(socket: BorrowedFd<'_>) -> Done {
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

struct Held {
    ovpn: Ovpn,
    monitor: Monitor,
    ifindex: u32,
    peer: PeerId,
    /// Open as long as the peer is to live.
    _socket: OwnedFd,
}

impl Held {
    fn add(name: &str, options: &PeerOptions) -> Result<Self, Failure> {
        let remote = options
            .params
            .remote
            .ok_or_else(|| Failure::Usage("remote is missing".into()))?;
        let transport = if remote.is_ipv4() {
            Transport::Udp
        } else {
            Transport::Udp6
        };
        let spec = SocketSpec {
            transport,
            port: options.local_port,
            mark: options.mark,
            local: None,
            both: false,
        };
        let socket = net::open(spec).map_err(|error| {
            Failure::Failed(format!(
                "cannot open {transport} port {}: {error}",
                spec.port
            ))
        })?;
        let ifindex = index(&mut Rtnl::open()?, name)?;
        let mut ovpn = Ovpn::open()?;
        let mut monitor = ovpn.monitor()?;
        ovpn.peer_new(ifindex, options.id, socket.as_fd(), &options.params)?;
        // In P2P the end of the peer that was replaced is announced before the request returns.
        while monitor.next_event()?.is_some() {}
        Ok(Self {
            ovpn,
            monitor,
            ifindex,
            peer: options.id,
            _socket: socket,
        })
    }

    /// Returns when the peer is gone.
    fn wait(mut self) -> Done {
        loop {
            wait_for(self.monitor.as_fd())?;
            while let Some(event) = self.monitor.next_event()? {
                let gone = match event {
                    Event::PeerDel { ifindex, peer, .. } => {
                        (ifindex, peer) == (self.ifindex, self.peer)
                    }
                    Event::Lost => self
                        .ovpn
                        .peer_get(self.ifindex, self.peer)
                        .is_err_and(|error| error.is_gone()),
                    _ => false,
                };
                if gone {
                    return Ok(());
                }
            }
        }
    }
}

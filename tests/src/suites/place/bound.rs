// SPDX-License-Identifier: GPL-2.0-only
//! Transport sockets that are bound to a device, or to a VRF.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use crate::check_eq;
use crate::lab::{Cipher, End, Module, Outer, SoftTunnel, patience};
use crate::nl::ovpn::{cmd, peer, put_remote, top};
use crate::tap::{Case, During, Failure, Outcome};

fn bind_to(end: &End, device: &str) -> Outcome {
    let name = CString::new(device).map_err(Failure::new)?;
    let fd = end.sock.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: the option's value is a NUL-terminated string of the length given, and outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            device.len() as libc::socklen_t + 1,
        )
    };
    check_eq!(ret, 0, "SO_BINDTODEVICE");
    Ok(())
}

/// A second way from the driver to the soft peer's address 10.30.0.2 or fd00:30::2, by `veth2`, worse than the first.
fn two_ways(lab: &mut SoftTunnel, v6: bool) -> Outcome {
    let far = lab.soft.ns.path();
    lab.a.ns.ip(&format!(
        "link add veth2 index 11 type veth peer name veth2 index 21 netns {far}"
    ))?;
    for (ns, n) in [(&lab.a.ns, 1), (&*lab.soft.ns, 2)] {
        ns.ip(&format!(
            "addr add 10.20.0.{n}/24 dev veth2\naddr add fd00:20::{n}/64 dev veth2 nodad\nlink set veth2 up"
        ))?;
    }
    lab.soft
        .ns
        .ip("addr add 10.30.0.2/32 dev lo\naddr add fd00:30::2/128 dev lo nodad")?;
    let remote: SocketAddr = if v6 {
        "[fd00:30::2]:1194"
    } else {
        "10.30.0.2:1194"
    }
    .parse()?;
    let end = &mut lab.a;
    end.remote = remote;
    let mut msg = end.nl.msg(cmd::PEER_SET, end.ifindex);
    msg.nest(top::PEER, |m| {
        m.u32(peer::ID, end.id);
        put_remote(m, remote);
    });
    end.nl.request(&msg)??;
    Ok(())
}

/// Where the next packet to the peer comes from.
fn source(lab: &SoftTunnel) -> Outcome<IpAddr> {
    lab.push(b"which way")?;
    Ok(lab.soft.recv_raw()?.1.ip())
}

const ROUTES: &str = "route add 10.30.0.2/32 via 10.10.0.2 metric 10\n\
     route add 10.30.0.2/32 via 10.20.0.2 metric 20\n\
     route add fd00:30::2/128 via fd00:10::2 metric 10\n\
     route add fd00:30::2/128 via fd00:20::2 metric 20";

/// SO_BINDTODEVICE chooses the route, also when it is set under a peer.
fn device(outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, outer)?;
    let v6 = outer.is_v6();
    two_ways(&mut lab, v6)?;
    lab.a.ns.ip(ROUTES)?;
    let (first, second) = if v6 {
        ("fd00:10::1", "fd00:20::1")
    } else {
        ("10.10.0.1", "10.20.0.1")
    };
    check_eq!(source(&lab)?, first.parse::<IpAddr>()?, "source, unbound");
    bind_to(&lab.a, "veth2")?;
    check_eq!(source(&lab)?, second.parse::<IpAddr>()?, "source, bound");
    // And what comes in there is taken.
    lab.soft.to.set_ip(second.parse()?);
    lab.fence().during("bound")?;
    bind_to(&lab.a, "")?;
    check_eq!(
        lab.a.nl.peer_dump(lab.a.ifindex)?.len(),
        1,
        "peers afterwards"
    );
    Ok(())
}

/// A socket in a VRF uses the routes of that VRF.
fn vrf(outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    let v6 = outer.is_v6();
    two_ways(&mut lab, v6)?;
    // Without `nodad` again: enslaving takes the IPv6 address away.
    lab.a.ns.ip(
        "link add red index 31 type vrf table 100\nlink set red up\nlink set veth2 master red\n\
         addr replace fd00:20::1/64 dev veth2 nodad\n\
         route add 10.30.0.2/32 via 10.20.0.2 vrf red\nroute add fd00:30::2/128 via fd00:20::2 vrf red",
    )?;
    bind_to(&lab.a, "red")?;
    let address: IpAddr = if v6 { "fd00:20::1" } else { "10.20.0.1" }.parse()?;
    check_eq!(source(&lab)?, address, "source in the VRF");
    lab.soft.to.set_ip(address);
    lab.soft
        .sock
        .set_read_timeout(Some(crate::lab::LIMIT * patience()))?;
    for _ in 0..5 {
        lab.fence().during("in the VRF")?;
        source(&lab)?;
    }
    Ok(())
}

/// A case for each transport.
type Body = fn(Outer) -> Outcome;

/// All cases. Mainline's driver looks at neither (ovpn-net-next#26).
pub fn cases() -> Vec<Case> {
    let bodies: [(&str, Body); 2] = [("device", device), ("VRF", vrf)];
    let all = bodies.into_iter().flat_map(|(name, body)| {
        Outer::BOTH.map(|outer| {
            Case::new(
                format!("socket bound to a {name}, {outer:?}"),
                move |_| match Module::ours() {
                    true => body(outer),
                    false => Err(Failure::Skipped("mainline does not look at it".into())),
                },
            )
        })
    });
    all.collect()
}

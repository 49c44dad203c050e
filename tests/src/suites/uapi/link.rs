// SPDX-License-Identifier: GPL-2.0-only
//! The link kind "ovpn".

use std::os::fd::AsRawFd;

use super::Fixture;
use crate::lab::{Module, Ns};
use crate::nl::errno_name;
use crate::nl::link::{IFLA_OVPN_MODE, Links};
use crate::nl::ovpn::Ovpn;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

const IFLA_MTU: u16 = 4;
const IFLA_CARRIER: u16 = 33;
const IFLA_MIN_MTU: u16 = 50;
const IFLA_MAX_MTU: u16 = 51;
const ARPHRD_NONE: u16 = 0xfffe;
const MODE_P2P: u8 = 0;
/// Largest transport headers and the data channel's own, as the driver reserves them (drivers/net/ovpn/proto.h).
const HEAD_ROOM: u32 = 84;

struct Fresh {
    ns: Ns,
    links: Links,
}

impl Fresh {
    fn new() -> Outcome<Self> {
        let ns = Ns::new()?;
        Ok(Self {
            links: Links::open(&ns)?,
            ns,
        })
    }

    fn index(&self, name: &str) -> Outcome<u32> {
        self.ns
            .ifindex(name)?
            .ok_or_else(|| Failure::new(format!("{name} is not there")))
    }
}

fn defaults(_: &Ctx) -> Outcome {
    let lab = Fresh::new()?;
    lab.links.create("tun", None)?.during("RTM_NEWLINK")?;
    let link = lab.links.get(lab.index("tun")?)?;
    check_eq!(link.info_kind().as_deref(), Some("ovpn"), "IFLA_INFO_KIND");
    check_eq!(link.mode(), Some(vec![MODE_P2P]), "IFLA_OVPN_MODE");
    check_eq!(link.kind, ARPHRD_NONE, "ifi_type");
    let wanted = (libc::IFF_POINTOPOINT | libc::IFF_NOARP) as u32;
    let asked = wanted | (libc::IFF_BROADCAST | libc::IFF_MULTICAST | libc::IFF_UP) as u32;
    check_eq!(link.flags & asked, wanted, "ifi_flags");
    check_eq!(link.attrs.u32(IFLA_MTU), Some(1500 - HEAD_ROOM), "IFLA_MTU");
    check_eq!(link.attrs.u32(IFLA_MIN_MTU), Some(68), "IFLA_MIN_MTU");
    check_eq!(
        link.attrs.u32(IFLA_MAX_MTU),
        Some(65535 - HEAD_ROOM),
        "IFLA_MAX_MTU"
    );
    Ok(())
}

fn mode(_: &Ctx) -> Outcome {
    let lab = Fresh::new()?;
    lab.links
        .create("tun", Some((IFLA_OVPN_MODE, &[MODE_P2P])))?
        .during("mode P2P by name")?;
    let index = lab.index("tun")?;
    check_eq!(lab.links.get(index)?.mode(), Some(vec![MODE_P2P]), "mode");
    let refusals: [(&str, u16, &[u8], i32); 6] = [
        ("mode 2", IFLA_OVPN_MODE, &[2], libc::ERANGE),
        ("mode 255", IFLA_OVPN_MODE, &[255], libc::ERANGE),
        ("mode of no byte", IFLA_OVPN_MODE, &[], libc::ERANGE),
        // rtnetlink checks the attributes of older kinds loosely: too long a value is cut, not refused.
        ("unknown attribute", 2, &[0], 0),
        ("mode of two bytes", IFLA_OVPN_MODE, &[0, 0], 0),
        (
            "mode of four bytes, out of range",
            IFLA_OVPN_MODE,
            &[2, 0, 0, 0],
            libc::ERANGE,
        ),
    ];
    for (what, kind, value, errno) in refusals {
        let got = lab
            .links
            .create("bad", Some((kind, value)))?
            .err()
            .map_or(0, |r| r.errno);
        check!(
            got == errno,
            "{what}: {}, expected {}",
            errno_name(got),
            errno_name(errno)
        );
        match lab.ns.ifindex("bad")? {
            Some(index) => lab.links.delete(index)?.during("RTM_DELLINK")?,
            None => check!(errno != 0, "{what}: accepted, but no link"),
        }
    }
    for mode in [0, 1] {
        let refusal = lab.links.change_mode(index, mode)?.err();
        check_eq!(
            refusal.map(|r| r.errno),
            Some(libc::EOPNOTSUPP),
            "changing the mode to {mode}"
        );
    }
    Ok(())
}

/// In P2P mode the carrier tells whether there is a peer.
fn carrier(_: &Ctx) -> Outcome {
    let lab = Fresh::new()?;
    let nl = Ovpn::open(&lab.ns)?;
    lab.links.create("tun", None)?.during("RTM_NEWLINK")?;
    let index = lab.index("tun")?;
    lab.ns.ip("link set tun up")?;
    let carrier = || -> Outcome<_> {
        Ok(lab
            .links
            .get(index)?
            .attrs
            .get(IFLA_CARRIER)
            .map(<[u8]>::to_vec))
    };
    check_eq!(carrier()?, Some(vec![0]), "carrier without peer");
    let sock = lab.ns.udp(false, 1194)?;
    for round in 0..2 {
        nl.peer_new(index, 1, sock.as_raw_fd(), Fixture::REMOTE, None)?;
        check_eq!(
            carrier()?,
            Some(vec![1]),
            "carrier with peer, round {round}"
        );
        nl.peer_new(index, 1, sock.as_raw_fd(), Fixture::REMOTE, None)?;
        check_eq!(
            carrier()?,
            Some(vec![1]),
            "carrier with peer replaced, round {round}"
        );
        nl.peer_del(index, 1)?;
        check_eq!(
            carrier()?,
            Some(vec![0]),
            "carrier after PEER_DEL, round {round}"
        );
    }
    Ok(())
}

/// MTU between the minimum of IPv4 and the largest packet less headers.
fn mtu_limits(_: &Ctx) -> Outcome {
    let lab = Fresh::new()?;
    lab.links.create("tun", None)?.during("RTM_NEWLINK")?;
    for good in [68, 1500, 65535 - HEAD_ROOM] {
        lab.ns.ip(&format!("link set tun mtu {good}"))?;
    }
    for bad in [67, 65536 - HEAD_ROOM] {
        check!(
            lab.ns.ip(&format!("link set tun mtu {bad}")).is_err(),
            "MTU {bad} was accepted"
        );
    }
    Ok(())
}

/// The family, and the kind where mainline forgot it, bring the module in by themselves.
fn aliases(ctx: &Ctx) -> Outcome {
    let aliases = ctx.module.info("alias");
    let mut wanted = vec!["net-pf-16-proto-16-family-ovpn"];
    if Module::ours() {
        wanted.push("rtnl-link-ovpn");
    }
    for alias in wanted {
        check!(
            aliases.iter().any(|a| a == alias),
            "{alias} is not among {aliases:?}"
        );
    }
    Ok(())
}

/// Cases about links.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("link: defaults", defaults),
        Case::new("link: mode", mode),
        Case::new("link: carrier", carrier),
        Case::new("link: MTU limits", mtu_limits),
        Case::new("module: aliases", aliases),
    ]
}

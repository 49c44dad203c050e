// SPDX-License-Identifier: GPL-2.0-only
//! The generic netlink family "wireguard", numbers from include/uapi/linux/wireguard.h (Linux 7.3).

use std::net::SocketAddrV4;

use crate::lab::Ns;
use crate::nl::ovpn::family;
use crate::nl::{Msg, Sock};
use crate::tap::{During, Outcome};

const VERSION: u8 = 1;
const SET_DEVICE: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_ENDPOINT: u16 = 4;
const PEER_ALLOWEDIPS: u16 = 9;
const ALLOWEDIP_FAMILY: u16 = 1;
const ALLOWEDIP_IPADDR: u16 = 2;
const ALLOWEDIP_CIDR_MASK: u16 = 3;

/// Private and public key of two ends (X25519, RFC 7748).
const KEYS: [[&str; 2]; 2] = [
    [
        "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
        "d89e3bad79437dbed9f843418304f460ff05c7fe81fe4a9577a804cb9367ff66",
    ],
    [
        "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
        "34e42d4af5ef94a07a3a84201b889d4cd1a743cb27b11b6a10438a8feb8e5847",
    ],
];

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    pairs
        .map_while(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}

/// Makes one of two ends of a WireGuard device: everything goes to the peer at `remote`, whose port is this end's, too.
pub fn set_device(ns: &Ns, ifindex: u32, is_a: bool, remote: SocketAddrV4) -> Outcome {
    let sock = Sock::open(ns, libc::NETLINK_GENERIC)?;
    let (family, _) = family(&sock, "wireguard")?;
    let [[private, _], [_, public]] = match is_a {
        true => KEYS,
        false => [KEYS[1], KEYS[0]],
    };
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut msg = Msg::new(family, flags, &[SET_DEVICE, VERSION, 0, 0]);
    // struct sockaddr_in
    let mut endpoint = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    endpoint.extend(remote.port().to_be_bytes());
    endpoint.extend(remote.ip().octets());
    endpoint.resize(16, 0);
    msg.u32(DEVICE_IFINDEX, ifindex)
        .put(DEVICE_PRIVATE_KEY, &bytes(private))
        .put(DEVICE_LISTEN_PORT, &remote.port().to_ne_bytes())
        .nest(DEVICE_PEERS, |m| {
            m.nest(0, |m| {
                m.put(PEER_PUBLIC_KEY, &bytes(public))
                    .put(PEER_ENDPOINT, &endpoint)
                    .nest(PEER_ALLOWEDIPS, |m| {
                        m.nest(0, |m| {
                            m.put(ALLOWEDIP_FAMILY, &(libc::AF_INET as u16).to_ne_bytes())
                                .put(ALLOWEDIP_IPADDR, &[0; 4])
                                .put(ALLOWEDIP_CIDR_MASK, &[0]);
                        });
                    });
            });
        });
    sock.ok(&msg).during("WG_CMD_SET_DEVICE")?;
    Ok(())
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VPN of forty lines: a tunnel between two hosts that share a file of 80 random bytes.
//!
//! ```text
//! head -c 80 /dev/urandom >key
//! static_tunnel key 1 192.0.2.1:1194 192.0.2.2:1194 10.9.0.1/24     on the one host
//! static_tunnel key 2 192.0.2.2:1194 192.0.2.1:1194 10.9.0.2/24     on the other
//! ```
//!
//! For laboratories: packet ids begin anew with each start, so a file that serves twice repeats nonces, and an observer
//! can then read packets. A VPN for use agrees on fresh keys, as OpenVPN does in its control channel.

use std::error::Error;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ovpn_netlink::{
    CipherAlg, Event, Keepalive, KeyDir, KeyId, Mode, NewKey, Ovpn, PeerId, PeerParams, Rtnl, Slot,
};

const LINK: &str = "static0";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, side, local, remote, address] = &args[..] else {
        return Err("static_tunnel KEYFILE 1|2 LOCAL:PORT REMOTE:PORT ADDRESS/LENGTH".into());
    };
    let secret = std::fs::read(file)?;
    let [first, second] = [direction(secret.get(..40))?, direction(secret.get(40..80))?];
    let (encrypt, decrypt) = match side.as_str() {
        "1" => (first, second),
        _ => (second, first),
    };

    let (mut ovpn, mut rtnl) = (Ovpn::open()?, Rtnl::open()?);
    let mut monitor = ovpn.monitor()?;
    rtnl.link_new(LINK, Mode::P2p)?;
    let link = rtnl.link(LINK)?.index;
    // The kernel deletes the interface when this program ends. The mainline driver cannot: then it stays.
    let _ = ovpn.hold(link);

    let peer = PeerId::new(1).ok_or("1 is no peer id")?;
    let socket = UdpSocket::bind(local)?;
    let params = PeerParams {
        remote: Some(remote.parse()?),
        keepalive: Some(Keepalive {
            interval: 10,
            timeout: 60,
        }),
        ..Default::default()
    };
    ovpn.peer_new(link, peer, socket.as_fd(), &params)?;
    let (slot, key_id) = (Slot::Primary, KeyId::default());
    let cipher = CipherAlg::Chacha20Poly1305;
    ovpn.key_new(
        link,
        &NewKey {
            peer,
            slot,
            key_id,
            cipher,
            encrypt,
            decrypt,
        },
    )?;
    rtnl.addr_add(link, address.parse()?)?;
    rtnl.link_set_up(link, true)?;
    println!("{LINK} is up");

    loop {
        match monitor.next_event()? {
            Some(Event::PeerDel {
                ifindex, reason, ..
            }) if ifindex == link => {
                return Err(format!("the kernel deleted the peer: {reason:?}").into());
            }
            Some(event) => println!("{event:?}"),
            None => {
                poll(
                    &mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)],
                    PollTimeout::NONE,
                )?;
            }
        }
    }
}

/// The key of one direction: 32 bytes for the cipher, 8 for the nonce.
fn direction(bytes: Option<&[u8]>) -> Result<KeyDir, Box<dyn Error>> {
    let (key, tail) = bytes
        .ok_or("the key file has fewer than 80 bytes")?
        .split_at(32);
    Ok(KeyDir {
        cipher_key: key.to_vec().into(),
        nonce_tail: <[u8; 8]>::try_from(tail)?.into(),
    })
}

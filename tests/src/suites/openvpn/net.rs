// SPDX-License-Identifier: GPL-2.0-only
//! The network between a server and its clients: each in a namespace of its own behind a router.
//!
//! The server is 10.10.0.1 and fd00:10::1. Client n is 10.20.n.1 and fd00:20:n::1, at its second place 10.21.n.1 and
//! fd00:21:n::1; the router is .254 and ::fe everywhere. Inside the tunnel the server is 10.8.0.1 and fd00:8::1, client
//! n is 10.8.0.(10+n) and fd00:8::(10+n). Behind client n is 192.168.n.2 and fd00:192:n::2.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::relay::Relay;
use super::table::{Client, Role};
use crate::lab::Ns;
use crate::tap::{During, Outcome};

/// Port of the server, UDP and TCP.
pub const PORT: u16 = 1194;

/// Transport address of the server.
pub fn server(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, 10, 0, 1).into()
    }
}

/// Transport address of client `n` at its first or second place.
pub fn outer(v6: bool, n: u8, place: u8) -> IpAddr {
    at(v6, n, place, 1)
}

fn at(v6: bool, n: u8, place: u8, host: u8) -> IpAddr {
    if v6 {
        let net = 0x20 + u16::from(place);
        let host = if host == 254 { 0xfe } else { host };
        Ipv6Addr::new(0xfd00, net, n.into(), 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, 20 + place, n, host).into()
    }
}

/// Inner address of client `n`, or with 0 of the server.
pub fn inner(v6: bool, n: u8) -> IpAddr {
    let host = if n == 0 { 1 } else { 10 + n };
    if v6 {
        Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, 8, 0, host).into()
    }
}

/// The host behind client `n`; with host 1 the client itself on that side.
pub fn lan(v6: bool, n: u8, host: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0x192, n.into(), 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(192, 168, n, host).into()
    }
}

/// Lets a namespace pass on packets.
fn forward(ns: &Ns) -> Outcome {
    ns.enter(|| {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{switch}"), "1").during(switch)?;
        }
        Ok(())
    })
}

/// Where a client lives.
pub struct Site {
    pub n: u8,
    pub ns: Ns,
    /// The host behind it.
    pub lan: Option<Ns>,
    /// The NAT before it.
    pub nat: Option<Relay>,
}

/// All namespaces.
pub struct Net {
    pub hub: Ns,
    pub server: Ns,
    pub sites: Vec<Site>,
}

impl Net {
    /// Makes them.
    pub fn new(clients: &[Client]) -> Outcome<Self> {
        let (hub, server_ns) = (Ns::new()?, Ns::new()?);
        forward(&hub)?;
        // Inner packets from client to client.
        forward(&server_ns)?;
        // All indices differ: the kernel reports a change of carrier at once only for a device whose peer's index is
        // not its own (linkwatch_urgent_event), else up to a second later, and IPv6 waits for it.
        hub.ip(&format!(
            "link add server index 500 type veth peer name wan index 10 netns {}\n\
             addr add 10.10.0.254/24 dev server\naddr add fd00:10::fe/64 dev server nodad\nlink set server up",
            server_ns.path()
        ))?;
        server_ns.ip(
            "addr add 10.10.0.1/24 dev wan\naddr add fd00:10::1/64 dev wan nodad\nlink set wan up\n\
             route add default via 10.10.0.254\nroute add ::/0 via fd00:10::fe",
        )?;
        let sites = clients
            .iter()
            .map(|client| Site::new(&hub, client))
            .collect::<Outcome<_>>()?;
        Ok(Self {
            hub,
            server: server_ns,
            sites,
        })
    }
}

impl Site {
    fn new(hub: &Ns, client: &Client) -> Outcome<Self> {
        let (n, ns) = (client.n, Ns::new()?);
        hub.ip(&format!(
            "link add c{n} index {} type veth peer name wan index 10 netns {}\n\
             addr add 10.20.{n}.254/24 dev c{n}\naddr add 10.21.{n}.254/24 dev c{n}\n\
             addr add {}/64 dev c{n} nodad\naddr add {}/64 dev c{n} nodad\nlink set c{n} up",
            500 + u32::from(n),
            ns.path(),
            at(true, n, 0, 254),
            at(true, n, 1, 254),
        ))?;
        let mut site = Self {
            n,
            ns,
            lan: None,
            nat: None,
        };
        site.ns.ip("link set wan up")?;
        site.settle(0)?;
        match client.role {
            Role::Lan => {
                let host = Ns::new()?;
                site.ns.ip(&format!(
                    "link add lan index 30 type veth peer name lan index 40 netns {}\n\
                     addr add {}/24 dev lan\naddr add {}/64 dev lan nodad\nlink set lan up",
                    host.path(),
                    lan(false, n, 1),
                    lan(true, n, 1),
                ))?;
                host.ip(&format!(
                    "addr add {}/24 dev lan\naddr add {}/64 dev lan nodad\nlink set lan up\n\
                     route add default via {}\nroute add ::/0 via {}",
                    lan(false, n, 2),
                    lan(true, n, 2),
                    lan(false, n, 1),
                    lan(true, n, 1),
                ))?;
                forward(&site.ns)?;
                site.lan = Some(host);
            }
            Role::Nat => {
                let v6 = client.transport.v6();
                let upstream = SocketAddr::new(server(v6), PORT);
                site.nat = Some(Relay::start(hub, v6, site.nat_port(), upstream)?);
            }
            _ => (),
        }
        Ok(site)
    }

    /// The port at which this client's NAT listens.
    fn nat_port(&self) -> u16 {
        2000 + u16::from(self.n)
    }

    /// The address that this client takes for the server.
    pub fn remote(&self, v6: bool) -> SocketAddr {
        match self.nat {
            Some(_) => SocketAddr::new(at(v6, self.n, 0, 254), self.nat_port()),
            None => SocketAddr::new(server(v6), PORT),
        }
    }

    /// Gives the client the addresses of a place, and the way from there.
    fn settle(&self, place: u8) -> Outcome {
        self.ns.ip(&format!(
            "addr add {}/24 dev wan\naddr add {}/64 dev wan nodad\n\
             route replace default via {}\nroute replace ::/0 via {}",
            outer(false, self.n, place),
            outer(true, self.n, place),
            at(false, self.n, place, 254),
            at(true, self.n, place, 254),
        ))
    }

    /// Moves the client to its second place: the addresses of the first are gone afterwards.
    pub fn move_away(&self) -> Outcome {
        self.settle(1)?;
        self.ns.ip(&format!(
            "addr del {}/24 dev wan\naddr del {}/64 dev wan",
            outer(false, self.n, 0),
            outer(true, self.n, 0)
        ))
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! Which routes lead to which peer: all that are wanted, or none. With half of them, half of a network's traffic would take
//! another way, unprotected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ovpn_netlink::IpPrefix;

use crate::config::{Endpoint, Interface, Peer};
use crate::state::Route;

/// How an address is reached without a question to the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Bits of the route's destination.
    pub prefix_len: u8,
    /// Whether the route leads into the tunnel.
    pub inside: bool,
}

/// The routes to `peer`. `endpoints` are the addresses of the interface's peers outside of the tunnel, with their sections;
/// `way` tells how the kernel reaches one.
///
/// # Errors
/// An endpoint would be reached through the tunnel, so that no packet would ever leave it.
pub fn plan(
    interface: &Interface,
    peer: &Peer,
    endpoints: &BTreeMap<IpAddr, String>,
    way: &mut dyn FnMut(IpAddr) -> Option<Way>,
) -> Result<BTreeSet<Route>, String> {
    let mut routes = BTreeSet::new();
    for network in interface.networks(peer) {
        // With a mark, the user's rules keep the transport out of the tunnel.
        if !interface.routing.pinned && interface.socket.mark == 0 {
            caught(network, peer, endpoints, way)?;
        }
        routes.insert(Route {
            dst: network,
            via: interface.via(peer, network),
            peer: peer.id,
        });
    }
    Ok(routes)
}

/// Whether an endpoint in `network` is reached by no better route than one to the network itself.
fn caught(
    network: IpPrefix,
    peer: &Peer,
    endpoints: &BTreeMap<IpAddr, String>,
    way: &mut dyn FnMut(IpAddr) -> Option<Way>,
) -> Result<(), String> {
    for (ip, name) in endpoints.range(network.addr()..=network.last()) {
        let better = |way: Way| !way.inside && way.prefix_len > network.prefix_len();
        if way(*ip).is_some_and(better) {
            continue;
        }
        let whose = match *name == peer.name {
            true => String::new(),
            false => format!(" of peer '{name}'"),
        };
        return Err(format!(
            "{network} would lead the endpoint {ip}{whose} into the tunnel, so that none of the peer's routes is set: a \
             route to {ip} is needed, or fwmark and a rule"
        ));
    }
    Ok(())
}

/// The peers of an interface that would have no route, as far as their endpoints need no lookup, and why.
pub fn refused(
    interface: &Interface,
    way: &mut dyn FnMut(IpAddr) -> Option<Way>,
) -> Vec<(String, String)> {
    let place = |peer: &Peer| {
        let literal = peer.endpoint.as_ref().and_then(Endpoint::literal)?;
        Some((literal.ip(), peer.name.clone()))
    };
    let endpoints = interface.peers.iter().filter_map(place).collect();
    let peers = interface.peers.iter();
    let refused = peers.filter_map(|peer| {
        let planned = plan(interface, peer, &endpoints, way);
        planned.err().map(|why| (peer.name.clone(), why))
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::reconcile::tests::load_key;
    use crate::uci;

    const TEXT: &str = "config interface v\noption proto openvpn_dco\nlist addresses 10.8.0.1/24\noption mode mp\n\
        config openvpn_dco_v a\noption peer_id 1\noption endpoint_host 192.0.2.1\nlist vpn_ip 10.8.0.2\n\
        option route_allowed_ips 1\nlist allowed_ips 0.0.0.0/1\nlist allowed_ips 128.0.0.0/1\n\
        list allowed_ips 192.168.9.0/24\noption key_file /a\noption key_direction 0\noption insecure_static_key 1\n";

    fn interface(text: &str, netifd: bool) -> Interface {
        let mut config = Config {
            netifd,
            ..Config::default()
        };
        config.read_network("network", &uci::File::parse(text.as_bytes()), &load_key);
        config.interfaces["v"].interface.clone().unwrap()
    }

    /// The destinations, or the error, when `endpoints` are reached by `way`.
    fn planned(
        interface: &Interface,
        endpoints: &[&str],
        way: Option<Way>,
    ) -> Result<Vec<String>, String> {
        let own = |ip: &&str| (ip.parse().unwrap(), "a".to_owned());
        let mut endpoints: BTreeMap<_, _> = endpoints.iter().map(own).collect();
        endpoints.insert("192.168.9.7".parse().unwrap(), "b".into());
        let mut way = |ip: IpAddr| match ip.to_string().as_str() {
            "192.168.9.7" => outside(32),
            _ => way,
        };
        let routes = plan(interface, &interface.peers[0], &endpoints, &mut way)?;
        Ok(routes.iter().map(|route| route.dst.to_string()).collect())
    }

    fn outside(prefix_len: u8) -> Option<Way> {
        Some(Way {
            prefix_len,
            inside: false,
        })
    }

    #[test]
    fn an_endpoint_with_a_better_route_may_lie_in_a_routed_network() {
        let own = interface(TEXT, false);
        let all = ["0.0.0.0/1", "128.0.0.0/1", "192.168.9.0/24"].map(str::to_owned);
        for better in [32, 24, 2] {
            let routes = planned(&own, &["192.0.2.1"], outside(better));
            assert_eq!(routes.as_deref(), Ok(&all[..]), "/{better}");
        }
        let inside = Some(Way {
            prefix_len: 32,
            inside: true,
        });
        for way in [outside(1), outside(0), inside, None] {
            let error = planned(&own, &["192.0.2.1"], way).unwrap_err();
            let said =
                "128.0.0.0/1 would lead the endpoint 192.0.2.1 into the tunnel, so that none";
            assert!(error.starts_with(said), "{way:?}: {error}");
        }
        // One of several is enough, of any owner; of another family it is elsewhere.
        let others = ["192.0.2.1", "10.0.0.1", "fd00::1"];
        let error = planned(&own, &others, outside(0)).unwrap_err();
        assert!(
            error.starts_with("0.0.0.0/1 would lead the endpoint 10.0.0.1 "),
            "{error}"
        );
        let mut endpoints = BTreeMap::new();
        endpoints.insert("10.0.0.1".parse().unwrap(), "b".to_owned());
        let error = plan(&own, &own.peers[0], &endpoints, &mut |_| None).unwrap_err();
        assert!(error.contains("10.0.0.1 of peer 'b'"), "{error}");
        assert_eq!(planned(&own, &["fd00::1"], None).as_deref(), Ok(&all[..]));
    }

    #[test]
    fn a_mark_or_netifd_keeps_the_endpoint_out() {
        let marked = TEXT.replace("option mode mp", "option mode mp\noption fwmark 7");
        let by_hand = TEXT.replace("option mode mp", "option mode mp\noption nohostroute 1");
        let routes = |text: &str, netifd| planned(&interface(text, netifd), &["192.0.2.1"], None);
        assert_eq!(routes(&marked, false).map(|all| all.len()), Ok(3));
        assert_eq!(routes(TEXT, true).map(|all| all.len()), Ok(3));
        assert!(routes(&by_hand, true).is_err() && routes(TEXT, false).is_err());
    }
}

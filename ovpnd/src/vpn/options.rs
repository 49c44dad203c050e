// SPDX-License-Identifier: GPL-2.0-or-later
//! Options of a server as the kernel and netifd take them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openvpn_control::push::{Gateway, Options, Prefix};
use ovpn_netlink::{IpPrefix, Keepalive, PeerId};

use crate::state::Route;

/// Addresses of our end.
pub(super) fn addresses(options: &Options) -> BTreeSet<IpPrefix> {
    let v4 = options.ipv4().map(|(prefix, _)| prefix);
    let v4 = v4.and_then(|Prefix { address, len }| IpPrefix::new(address.into(), len));
    let v6 = options.ifconfig_ipv6;
    let v6 = v6.and_then(|Prefix { address, len }| IpPrefix::new(address.into(), len));
    v4.into_iter().chain(v6).collect()
}

/// Routes into the tunnel, and sentences about those that are not made. Without `server` its address has a way around the
/// tunnel already.
pub(super) fn routes(
    options: &Options,
    id: PeerId,
    server: Option<IpAddr>,
) -> (BTreeSet<Route>, Vec<String>) {
    let (mut routes, mut left_out) = (BTreeSet::new(), Vec::new());
    let v4 = options.routes.iter().map(|route| {
        let vpn = route.gateway != Gateway::Net;
        (IpAddr::from(route.network.address), route.network.len, vpn)
    });
    let v6 = options.routes_ipv6.iter().map(|route| {
        let vpn = route.gateway != Gateway::Net;
        (IpAddr::from(route.network.address), route.network.len, vpn)
    });
    // The other end, in a topology where it is no neighbour.
    let peer = options.ipv4().and_then(|(_, peer)| peer);
    let peer = peer.map(|peer| (IpAddr::from(peer), 32, true));
    for (address, len, vpn) in v4.chain(v6).chain(peer) {
        let Some(dst) = IpPrefix::new(address, len) else {
            continue;
        };
        if !vpn {
            left_out.push(format!(
                "the route to {dst} around the tunnel is not made: netifd owns those"
            ));
        } else if let Some(server) = server.filter(|server| dst.contains(*server)) {
            // Its own packets would go into the tunnel.
            left_out.push(format!(
                "the route to {dst} is not made: the server {server} is behind it"
            ));
        } else {
            routes.insert(Route {
                dst,
                via: None,
                peer: id,
            });
        }
    }
    let redirect = options.redirect.unwrap_or_default();
    let everything = [
        (redirect.ipv4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        (redirect.ipv6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    ];
    let wanted = everything.iter().filter(|(wanted, _)| *wanted);
    for dst in wanted.filter_map(|(_, any)| IpPrefix::new(*any, 0)) {
        match server {
            // netifd puts it into its order of default routes, by the interface's metric.
            None => drop(routes.insert(Route {
                dst,
                via: None,
                peer: id,
            })),
            Some(_) => left_out.push(format!(
                "redirect-gateway of the server is not done: nothing keeps the way to the server out of {dst}"
            )),
        }
    }
    (routes, left_out)
}

/// DNS servers and search domains for netifd, and a sentence about what it cannot be told.
pub(super) fn names(options: &Options) -> ((Vec<IpAddr>, Vec<String>), Option<String>) {
    let dns = &options.dns;
    let search = dns.search.clone();
    if dns.resolve.is_empty() || dns.servers.is_empty() {
        return ((dns.servers.clone(), search), None);
    }
    // netifd would have every name asked there.
    let sentence = format!(
        "the server's DNS servers are for {} alone, which netifd cannot be told: set them in dnsmasq",
        dns.resolve.join(", ")
    );
    ((Vec::new(), search), Some(sentence))
}

/// Timers of the session: the server's, else our own.
pub(super) fn keepalive(options: &Options, own: Option<Keepalive>) -> Keepalive {
    let pushed = Keepalive {
        interval: options.ping.unwrap_or(0),
        timeout: options.ping_timeout.unwrap_or(0),
    };
    match own {
        Some(own) if pushed.interval == 0 && pushed.timeout == 0 => own,
        _ => pushed,
    }
}

#[cfg(test)]
mod tests {
    use openvpn_control::push::Filter;

    use super::*;

    fn made(pushed: &[&str], server: Option<&str>) -> (Vec<String>, usize) {
        let options = Options::parse(&pushed.join(","), &Filter::default()).unwrap();
        let id = PeerId::new(7).unwrap();
        let (routes, left_out) = routes(&options, id, server.map(|ip| ip.parse().unwrap()));
        let routes = routes.iter().map(|route| route.dst.to_string()).collect();
        (routes, left_out.len())
    }

    const PUSHED: [&str; 3] = [
        "route 10.99.0.0 255.255.255.0",
        "route 192.0.2.0 255.255.255.0",
        "redirect-gateway def1 ipv6",
    ];

    #[test]
    fn no_route_catches_a_server_without_a_way_of_its_own() {
        let (routes, left_out) = made(&PUSHED, Some("192.0.2.1"));
        assert_eq!(routes, ["10.99.0.0/24"]);
        assert_eq!(left_out, 3, "the server's network and two default routes");
    }

    #[test]
    fn dns_servers_for_all_names_are_handed_over() {
        let names = |pushed: &[&str]| {
            let options = Options::parse(&pushed.join(","), &Filter::default()).unwrap();
            let ((servers, search), left_out) = names(&options);
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            (servers, search, left_out.is_some())
        };
        let all = ["dhcp-option DNS 10.8.0.1", "dhcp-option DOMAIN lan.example"];
        let lan = || vec!["lan.example".to_owned()];
        assert_eq!(names(&all), (vec!["10.8.0.1".to_owned()], lan(), false));
        let both = [
            "dns server 0 address 10.8.0.1 fd00::1",
            "dns search-domains lan.example",
        ];
        let servers = ["10.8.0.1", "fd00::1"].map(str::to_owned).to_vec();
        assert_eq!(names(&both), (servers, lan(), false));
        let split = [
            "dns server 0 address 10.8.0.1",
            "dns server 0 resolve-domains corp.example",
        ];
        assert_eq!(names(&split), (vec![], vec![], true));
    }

    #[test]
    fn a_server_with_a_way_of_its_own_may_have_everything_routed() {
        let (routes, left_out) = made(&PUSHED, None);
        assert_eq!(
            routes,
            ["0.0.0.0/0", "10.99.0.0/24", "192.0.2.0/24", "::/0"]
        );
        assert_eq!(left_out, 0);
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! The addresses of a server's clients, and the numbers of their peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ovpn_netlink::{IpPrefix, PeerId};

use crate::config::vpn::server::{ClientSection, Networks, ServerSpec};

/// Addresses of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Its place in the pool; none when all its addresses are fixed.
    index: Option<u32>,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Lease {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::from);
        v4.into_iter().chain(self.v6.map(IpAddr::from))
    }
}

/// Addresses that are given out, and those that clients had before: a client that comes back gets the same.
#[derive(Debug, Default)]
pub(super) struct Pool {
    used: BTreeSet<IpAddr>,
    /// The client that had a place last, and the other way round. Each client has one place at most.
    last: BTreeMap<u32, String>,
    place: BTreeMap<String, u32>,
}

impl Pool {
    /// Gives addresses to a client of this name.
    ///
    /// # Errors
    /// A sentence: there are none.
    pub(super) fn take(
        &mut self,
        spec: &ServerSpec,
        name: &str,
        section: Option<&ClientSection>,
    ) -> Result<Lease, String> {
        let networks = &spec.networks;
        let fixed = section.map_or((None, None), |section| (section.v4, section.v6));
        let whole = (networks.v4.is_none() || fixed.0.is_some())
            && (networks.v6.is_none() || fixed.1.is_some());
        let lease = |index: Option<u32>| Lease {
            index,
            v4: fixed.0.or_else(|| networks.v4_of(index?)),
            v6: fixed.1.or_else(|| networks.v6_of(index?)),
        };
        if whole {
            let lease = lease(None);
            if lease.addresses().any(|ip| self.used.contains(&ip)) {
                return Err("the client's fixed address is in use".into());
            }
            self.used.extend(lease.addresses());
            return Ok(lease);
        }
        let reserved = reserved(spec, name);
        let is_free = |index: u32| {
            let mut addresses = lease(Some(index))
                .addresses()
                .collect::<Vec<_>>()
                .into_iter();
            addresses.all(|ip| !self.used.contains(&ip) && !reserved.contains(&ip))
        };
        let before = self.place.get(name).copied();
        let before = before.filter(|index| networks.has(*index) && is_free(*index));
        let places = || (0..).take_while(|index| networks.has(*index));
        let index = before
            .or_else(|| places().find(|index| !self.last.contains_key(index) && is_free(*index)))
            .or_else(|| places().find(|index| is_free(*index)))
            .ok_or("all addresses of the server's network are in use")?;
        self.remember(name, index);
        let lease = lease(Some(index));
        self.used.extend(lease.addresses());
        Ok(lease)
    }

    fn remember(&mut self, name: &str, index: u32) {
        if let Some(other) = self.last.insert(index, name.to_owned()) {
            self.place.remove(&other);
        }
        if let Some(old) = self.place.insert(name.to_owned(), index) {
            if old != index {
                self.last.remove(&old);
            }
        }
    }

    /// Takes addresses back.
    pub(super) fn give_back(&mut self, lease: &Lease) {
        for ip in lease.addresses() {
            self.used.remove(&ip);
        }
    }
}

/// Fixed addresses of other clients.
fn reserved(spec: &ServerSpec, name: &str) -> BTreeSet<IpAddr> {
    let others = spec.clients.iter().filter(|(other, _)| *other != name);
    others
        .flat_map(|(_, section)| {
            let v4 = section.v4.map(IpAddr::from);
            v4.into_iter().chain(section.v6.map(IpAddr::from))
        })
        .collect()
}

/// The next number for a peer. One that was in use a moment ago does not come again soon: packets to the old peer may be
/// on their way.
pub(super) fn next_id(last: Option<PeerId>, used: impl Fn(PeerId) -> bool) -> Option<PeerId> {
    // The highest number stands for none.
    const COUNT: u32 = PeerId::MAX;
    let first = last.map_or(0, |last| last.get() + 1);
    let numbers = (0..COUNT).map(|step| first.wrapping_add(step) % COUNT);
    numbers.filter_map(PeerId::new).find(|id| !used(*id))
}

/// The own address and length of a family, as OpenVPN writes them to a client.
pub(super) fn ifconfig(networks: &Networks, lease: &Lease) -> Vec<String> {
    let mut options = Vec::new();
    if let (Some(own), Some(address)) = (networks.v4, lease.v4) {
        options.push(format!("route-gateway {}", own.addr()));
        options.push("topology subnet".to_owned());
        options.push(format!("ifconfig {address} {}", mask(own)));
    }
    if let (Some(own), Some(address)) = (networks.v6, lease.v6) {
        let len = own.prefix_len();
        options.push(format!("ifconfig-ipv6 {address}/{len} {}", own.addr()));
    }
    options
}

fn mask(network: IpPrefix) -> Ipv4Addr {
    let host = u32::MAX
        .checked_shr(network.prefix_len().into())
        .unwrap_or(0);
    (!host).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vpn::server::tests::spec;

    fn section(v4: &str) -> ClientSection {
        ClientSection {
            v4: v4.parse().ok(),
            ..ClientSection::default()
        }
    }

    fn v4(lease: &Result<Lease, String>) -> String {
        lease.as_ref().unwrap().v4.unwrap().to_string()
    }

    #[test]
    fn a_client_that_comes_back_has_the_address_of_before() {
        let spec = spec("10.8.0.0/29", "");
        let mut pool = Pool::default();
        let a = pool.take(&spec, "a", None);
        let b = pool.take(&spec, "b", None);
        assert_eq!((v4(&a), v4(&b)), ("10.8.0.2".into(), "10.8.0.3".into()));
        pool.give_back(&a.unwrap());
        assert_eq!(v4(&pool.take(&spec, "c", None)), "10.8.0.4");
        let a = pool.take(&spec, "a", None);
        assert_eq!(v4(&a), "10.8.0.2");
        // A second session of the same name, where that is allowed.
        assert_eq!(v4(&pool.take(&spec, "a", None)), "10.8.0.5");
        assert_eq!(v4(&pool.take(&spec, "d", None)), "10.8.0.6");
        assert!(pool.take(&spec, "e", None).is_err(), ".7 is for broadcasts");
        // The place of a client that is away is taken when there is no other.
        pool.give_back(&a.unwrap());
        assert_eq!(v4(&pool.take(&spec, "e", None)), "10.8.0.2");
    }

    #[test]
    fn fixed_addresses_are_for_their_owners_alone() {
        let mut spec = spec("10.8.0.0/29", "fd00:8::/64");
        spec.clients.insert("x".into(), section("10.8.0.2"));
        let mut pool = Pool::default();
        let other = pool.take(&spec, "a", None).unwrap();
        assert_eq!(
            other.v4.map(|ip| ip.to_string()).as_deref(),
            Some("10.8.0.3")
        );
        assert_eq!(
            other.v6.map(|ip| ip.to_string()).as_deref(),
            Some("fd00:8::1001")
        );
        let fixed = spec.clients.get("x").cloned();
        let own = pool.take(&spec, "x", fixed.as_ref()).unwrap();
        assert_eq!(own.v4, "10.8.0.2".parse().ok());
        assert_eq!(
            own.v6.map(|ip| ip.to_string()).as_deref(),
            Some("fd00:8::1000")
        );
        let all = ClientSection {
            v6: "fd00:8::7".parse().ok(),
            ..section("10.8.0.2")
        };
        assert!(pool.take(&spec, "x", Some(&all)).is_err(), "in use");
        pool.give_back(&own);
        assert_eq!(pool.take(&spec, "x", Some(&all)).unwrap().v6, all.v6);
    }

    #[test]
    fn numbers_of_peers_go_round() {
        let id = |number| PeerId::new(number).unwrap();
        assert_eq!(next_id(None, |_| false), Some(id(0)));
        assert_eq!(next_id(Some(id(4)), |_| false), Some(id(5)));
        assert_eq!(next_id(Some(id(4)), |used| used == id(5)), Some(id(6)));
        let last = id(PeerId::MAX - 1);
        assert_eq!(next_id(Some(last), |used| used == id(0)), Some(id(1)));
    }

    #[test]
    fn a_mask_has_the_networks_length() {
        for (len, text) in [
            (8, "255.0.0.0"),
            (24, "255.255.255.0"),
            (29, "255.255.255.248"),
        ] {
            let network = IpPrefix::new([10, 0, 0, 1].into(), len).unwrap();
            assert_eq!(mask(network).to_string(), text);
        }
    }
}

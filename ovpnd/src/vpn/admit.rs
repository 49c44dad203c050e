// SPDX-License-Identifier: GPL-2.0-or-later
//! A server's decisions about its clients: their names, whether they are let in, and the options that they get.

use openvpn_control::session::PeerHello;
use openvpn_control::verify::fingerprint_text;
use ovpn_netlink::Keepalive;

use super::pool::{Lease, ifconfig};
use crate::config::vpn::server::{ClientSection, ServerSpec};

/// The name of a client: its certificate's common name, or the start of the fingerprint of one without; the name of its
/// user, where users are what the server goes by or there is no certificate.
pub(super) fn name(spec: &ServerSpec, hello: &PeerHello, user: Option<&str>) -> Option<String> {
    let by_user = spec.logins.as_ref().is_some_and(|logins| logins.by_user);
    let identity = hello.identity.as_ref();
    let identity = identity.filter(|_| !by_user || user.is_none());
    let Some(identity) = identity else {
        return user.map(str::to_owned);
    };
    if !identity.common_name.is_empty() {
        return Some(identity.common_name.clone());
    }
    let leaf = identity.chain.first()?;
    Some(fingerprint_text(leaf).chars().take(23).collect())
}

/// Whether a client of this name may come in, and its section if it has one. `others` is the number of clients that are
/// there, this one's older sessions apart.
///
/// # Errors
/// The reason, which the client is told.
pub(super) fn judge<'a>(
    spec: &'a ServerSpec,
    name: &str,
    others: usize,
) -> Result<Option<&'a ClientSection>, String> {
    let section = spec.clients.get(name);
    match section {
        Some(ClientSection {
            refused: Some(why), ..
        }) => Err(why.clone()),
        None if spec.exclusive => Err("the server has no section for this client".into()),
        // Clients since OpenVPN 2.6 try again later.
        _ if others >= spec.max_clients => {
            Err("TEMP:the server has no room for another client".into())
        }
        _ => Ok(section),
    }
}

/// Options for a client, besides those that the control channel adds.
pub(super) fn options(
    spec: &ServerSpec,
    section: Option<&ClientSection>,
    lease: &Lease,
) -> Vec<String> {
    let Keepalive { interval, timeout } = spec.keepalive;
    let mut options = ifconfig(&spec.networks, lease);
    if interval > 0 {
        options.push(format!("ping {interval}"));
    }
    if timeout > 0 {
        options.push(format!("ping-restart {timeout}"));
    }
    if spec.mtu != 1500 {
        options.push(format!("tun-mtu {}", spec.mtu));
    }
    let all = spec.push.iter();
    let all = all.filter(|_| section.is_none_or(|section| !section.push_reset));
    options.extend(all.cloned());
    options.extend(section.iter().flat_map(|s| &s.push).cloned());
    options
}

/// Timers of a client's peer here: it is given up after twice the time after which it gives up itself, as stock OpenVPN
/// does.
pub(super) fn keepalive(spec: &ServerSpec) -> Keepalive {
    Keepalive {
        interval: spec.keepalive.interval,
        timeout: spec.keepalive.timeout.saturating_mul(2),
    }
}

#[cfg(test)]
mod tests {
    use openvpn_control::keys::Role;
    use openvpn_control::packet::KeyId;
    use openvpn_control::tls::PeerIdentity;

    use super::*;
    use crate::config::vpn::server::LoginSpec;
    use crate::config::vpn::server::tests::spec;
    use crate::vpn::pool::Pool;

    fn hello(common_name: &str) -> PeerHello {
        PeerHello {
            key_id: KeyId::FIRST,
            identity: Some(PeerIdentity {
                common_name: common_name.into(),
                chain: vec![[0xab; 32]],
                serial: vec![1],
            }),
            credentials: None,
            peer_info: String::new(),
            options: openvpn_control::exchange::options_string(Role::Client, "UDPv4", 1500),
        }
    }

    #[test]
    fn a_client_is_called_by_its_certificate() {
        let mut spec = spec("10.8.0.0/24", "");
        let of = |spec: &ServerSpec, hello: &PeerHello, user| name(spec, hello, user);
        assert_eq!(of(&spec, &hello("alice"), None).as_deref(), Some("alice"));
        assert_eq!(
            of(&spec, &hello(""), None).as_deref(),
            Some("AB:AB:AB:AB:AB:AB:AB:AB")
        );
        let nobody = PeerHello {
            identity: None,
            ..hello("alice")
        };
        assert_eq!(of(&spec, &nobody, None), None);
        assert_eq!(of(&spec, &nobody, Some("anna")).as_deref(), Some("anna"));
        let user = Some("anna");
        assert_eq!(of(&spec, &hello("alice"), user).as_deref(), Some("alice"));
        spec.logins = Some(LoginSpec {
            file: "/nonexistent".into(),
            optional: true,
            by_user: true,
            certless: true,
            tokens: None,
        });
        assert_eq!(of(&spec, &hello("alice"), user).as_deref(), Some("anna"));
        assert_eq!(of(&spec, &hello("alice"), None).as_deref(), Some("alice"));
    }

    #[test]
    fn sections_and_room_decide() {
        let mut spec = spec("10.8.0.0/24", "");
        let off = ClientSection {
            refused: Some("off".into()),
            ..ClientSection::default()
        };
        spec.clients.insert("off".into(), off);
        spec.clients.insert("on".into(), ClientSection::default());
        spec.max_clients = 2;
        assert_eq!(judge(&spec, "off", 0), Err("off".into()));
        assert_eq!(judge(&spec, "on", 1).unwrap(), spec.clients.get("on"));
        assert_eq!(judge(&spec, "x", 1), Ok(None));
        assert!(judge(&spec, "x", 2).unwrap_err().starts_with("TEMP:"));
        spec.exclusive = true;
        assert!(judge(&spec, "x", 0).is_err());
        assert!(judge(&spec, "on", 0).is_ok());
    }

    #[test]
    fn options_are_the_servers_and_then_the_clients() {
        let mut spec = spec("10.8.0.0/24", "fd00:8::/64");
        spec.push = vec!["route 192.168.1.0 255.255.255.0".into()];
        let section = ClientSection {
            push: vec!["dhcp-option DNS 10.8.0.1".into()],
            ..ClientSection::default()
        };
        let lease = Pool::default().take(&spec, "a", None).unwrap();
        assert_eq!(
            options(&spec, Some(&section), &lease),
            [
                "route-gateway 10.8.0.1",
                "topology subnet",
                "ifconfig 10.8.0.2 255.255.255.0",
                "ifconfig-ipv6 fd00:8::1000/64 fd00:8::1",
                "ping 10",
                "ping-restart 60",
                "route 192.168.1.0 255.255.255.0",
                "dhcp-option DNS 10.8.0.1",
            ]
        );
        let alone = ClientSection {
            push_reset: true,
            ..section
        };
        let alone = options(&spec, Some(&alone), &lease);
        assert!(!alone.contains(&"route 192.168.1.0 255.255.255.0".to_owned()));
        spec.keepalive.interval = 0;
        spec.keepalive.timeout = 0;
        spec.mtu = 1400;
        let options = options(&spec, None, &lease);
        assert!(options.contains(&"tun-mtu 1400".to_owned()));
        assert!(!options.iter().any(|option| option.starts_with("ping")));
    }

    #[test]
    fn the_server_waits_twice_as_long() {
        let spec = spec("10.8.0.0/24", "");
        let Keepalive { interval, timeout } = keepalive(&spec);
        assert_eq!((interval, timeout), (10, 120));
    }
}

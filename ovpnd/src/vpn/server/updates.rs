// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes of options that a server tells its clients while they are there (`PUSH_UPDATE`, since OpenVPN 2.7).

use openvpn_control::messages::push_updates;

use super::super::serving::Decision;
use super::super::worker::Worker;
use super::{Server, Session};
use ovpn_netlink::PeerId;

/// The clients that an update was for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Updated {
    /// Names of those that it was sent to.
    pub sent: Vec<String>,
    /// Names of those that take none: they are older than OpenVPN 2.7, or have their data in the kernel.
    pub unable: Vec<String>,
}

/// Why an option of an update is not sent: the two sides would not agree any more.
fn is_ours(option: &str) -> bool {
    let option = option.trim_start_matches(['-', '?']);
    let name = option.split_ascii_whitespace().next();
    matches!(
        name,
        Some("ifconfig" | "ifconfig-ipv6" | "topology" | "tun-mtu" | "keepalive")
    )
}

impl Server {
    /// See [`Clients::push_update`](super::super::Clients::push_update).
    pub(in super::super) fn push_update(
        &self,
        who: Option<&str>,
        options: &[String],
        worker: &Worker,
    ) -> Result<Updated, String> {
        if let Some(option) = options.iter().find(|option| is_ours(option)) {
            return Err(format!(
                "\"{option}\" concerns both sides: change the sections of the server and its clients, and reload"
            ));
        }
        let messages = push_updates(options.iter().map(String::as_str)).map_err(|why| why.0)?;
        let number = who.and_then(|who| who.parse().ok()).and_then(PeerId::new);
        let is_meant = |session: &Session| {
            who.is_none_or(|who| session.name == who || Some(session.id) == number)
        };
        let mut updated = Updated::default();
        let sessions = self.live.iter().flat_map(|live| &live.sessions);
        for (handle, session) in sessions.filter(|(_, session)| is_meant(session)) {
            if !session.updates {
                updated.unable.push(session.name.clone());
                continue;
            }
            self.decide(worker, Decision::Update(*handle, messages.clone()));
            updated.sent.push(session.name.clone());
        }
        Ok(updated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_both_sides_are_known_by_their_names() {
        for (option, ours) in [
            ("ifconfig 10.8.0.9 255.255.255.0", true),
            ("-?tun-mtu", true),
            ("?keepalive 1 2", true),
            ("-topology", true),
            ("route 10.1.0.0 255.255.0.0", false),
            ("-dns", false),
            ("ifconfigs", false),
        ] {
            assert_eq!(is_ours(option), ours, "{option}");
        }
    }
}

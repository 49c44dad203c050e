// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that the user does not want from a server: `pull-filter` and `route-nopull`.

/// The fate of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Accept,
    /// It is left out.
    Ignore,
    /// It ends the session.
    Reject,
}

/// Rules about pushed options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// `pull-filter`: the first rule counts whose text the option begins with.
    pub rules: Vec<(Verdict, String)>,
    /// `route-nopull`: no routes, no DNS.
    pub no_routes: bool,
}

impl Filter {
    /// The verdict on an option.
    pub fn judge(&self, option: &str) -> Verdict {
        let rule = self
            .rules
            .iter()
            .find(|(_, start)| option.starts_with(start));
        match rule {
            Some((verdict, _)) if *verdict != Verdict::Accept => *verdict,
            _ if self.no_routes && is_route(option) => Verdict::Ignore,
            _ => Verdict::Accept,
        }
    }
}

fn is_route(option: &str) -> bool {
    let name = option.split_ascii_whitespace().next().unwrap_or_default();
    matches!(
        name,
        "route"
            | "route-ipv6"
            | "route-metric"
            | "redirect-gateway"
            | "redirect-private"
            | "dhcp-option"
            | "dns"
            | "block-ipv4"
            | "block-ipv6"
            | "block-outside-dns"
    )
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that a server changes while the session is up: `PUSH_UPDATE` (OpenVPN 2.7's doc/management-notes.txt,
//! push-update-broad, and its list of options that may be updated in options_util.c).
//!
//! The options in force are kept as the server wrote them. An update replaces or removes all options of a kind, and then
//! everything is read anew: no check of a push reply can be missing for an update.

use super::{Filter, Options, Refused, Verdict};

/// Bytes of all options in force: as much as a whole push reply can bring.
const MAX_BYTES: usize = 128 * 1024;

/// Names of options that replace one another.
type Kind = &'static [&'static str];

/// The names of the options that an update of this one replaces; none when it may not be updated.
fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "block-ipv6" => &["block-ipv6"],
        "block-outside-dns" => &["block-outside-dns"],
        "dhcp-option" => &["dhcp-option"],
        "dns" => &["dns"],
        "ifconfig" => &["ifconfig"],
        "ifconfig-ipv6" => &["ifconfig-ipv6"],
        // A push reply has it in its two parts.
        "keepalive" => &["keepalive", "ping", "ping-restart", "ping-exit"],
        "push-continuation" => &["push-continuation"],
        "redirect-gateway" | "redirect-private" => &["redirect-gateway", "redirect-private"],
        "route" => &["route"],
        "route-gateway" => &["route-gateway"],
        "route-ipv6" => &["route-ipv6"],
        "route-metric" => &["route-metric"],
        "topology" => &["topology"],
        "tun-mtu" => &["tun-mtu"],
        _ => return None,
    })
}

fn name(option: &str) -> &str {
    option.split_ascii_whitespace().next().unwrap_or_default()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|o| !o.is_empty())
}

/// An option of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change<'a> {
    /// `-`: all options of its kind go.
    remove: bool,
    /// `?`: a client may leave it out.
    optional: bool,
    option: &'a str,
}

impl<'a> Change<'a> {
    /// `-?name`, `-name`, `?name arguments`, `name arguments`
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (remove, rest) = strip(text, '-');
        let (optional, option) = strip(rest, '?');
        match option.starts_with(['-', '?']) || option.is_empty() {
            true => Err("its marks are not in their order, a minus before a question mark"),
            false => Ok(Self {
                remove,
                optional,
                option,
            }),
        }
    }
}

fn strip(text: &str, mark: char) -> (bool, &str) {
    match text.strip_prefix(mark) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// The options of a server that are in force, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed(Vec<String>);

impl Pushed {
    /// Those of a push reply, which is checked by [`Options::parse`].
    pub fn new(reply: &str) -> Self {
        // The session keeps tokens, and wipes them.
        let kept = split(reply).filter(|option| !option.starts_with("auth-token"));
        Self(kept.map(str::to_owned).collect())
    }

    /// Applies an update: printable text with commas between options. Options that are marked as optional and cannot be
    /// taken are among [`Options::ignored`].
    ///
    /// # Errors
    /// An option cannot be updated or is malformed, or the tunnel cannot work with it, or `filter` says that it ends the
    /// session. Nothing is changed then.
    pub fn update(&mut self, update: &str, filter: &Filter) -> Result<Options, Refused> {
        // The kinds that change, each with its new options.
        let mut changed: Vec<(Kind, Vec<&str>)> = Vec::new();
        let mut left_out = Vec::new();
        for text in split(update) {
            let refused = |reason: &str| Refused {
                option: text.to_owned(),
                reason: reason.to_owned(),
            };
            let change = Change::parse(text).map_err(refused)?;
            let kind = match take(change, filter) {
                Ok(Some(kind)) => kind,
                Ok(None) => continue,
                Err(why) if change.optional => {
                    left_out.push((text, why));
                    continue;
                }
                Err(why) => return Err(refused(&why)),
            };
            let new: &[&str] = if change.remove { &[] } else { &[change.option] };
            match changed.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, options)) if change.remove => options.clear(),
                Some((_, options)) => options.extend(new),
                None => changed.push((kind, new.to_vec())),
            }
        }
        let stays =
            |option: &&String| !changed.iter().any(|(kind, _)| kind.contains(&name(option)));
        let mut next: Vec<String> = self.0.iter().filter(stays).cloned().collect();
        let new = changed.iter().flat_map(|(_, options)| options);
        next.extend(new.map(|option| (*option).to_owned()));
        if next.iter().map(String::len).sum::<usize>() > MAX_BYTES {
            return Err(Refused {
                option: format!("{}...", update.chars().take(40).collect::<String>()),
                reason: "these are more options than fit".into(),
            });
        }
        let mut options = Options::parse(&next.join(","), filter)?;
        for (option, why) in left_out {
            options.leave_out(option, &why);
        }
        self.0 = next;
        Ok(options)
    }
}

/// The kind that a change concerns; none when there is nothing to do.
fn take(change: Change<'_>, filter: &Filter) -> Result<Option<Kind>, String> {
    let Change { remove, option, .. } = change;
    let kind = kind(name(option)).ok_or("it cannot be changed while the session is up")?;
    match filter.judge(option) {
        Verdict::Accept => {}
        Verdict::Ignore => return Ok(None),
        Verdict::Reject => return Err("pull_filter rejects it".into()),
    }
    if remove {
        return match option == name(option) {
            true => Ok(Some(kind)),
            false => Err("an option that is removed has no arguments".into()),
        };
    }
    // Whether it fits the others is seen when all are there.
    Options::parse(option, filter).map_err(|refused| refused.reason)?;
    Ok(Some(kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REPLY: &str = "route 10.1.0.0 255.255.0.0,route 10.2.0.0 255.255.0.0,route-ipv6 fd00:1::/64,\
        redirect-private def1,dhcp-option DNS 10.8.0.53,dhcp-option DOMAIN a.example,dns search-domains b.example,\
        route-gateway 10.8.0.1,topology subnet,ping 10,ping-restart 60,ifconfig 10.8.0.4 255.255.255.0,peer-id 3,\
        tun-mtu 1400,auth-token secret,cipher AES-256-GCM";

    fn shown(options: &Options) -> Vec<String> {
        let v4 = options.routes.iter().map(|r| r.network.address.to_string());
        let v6 = options.routes_ipv6.iter();
        v4.chain(v6.map(|r| r.network.address.to_string()))
            .collect()
    }

    fn after(update: &str) -> Options {
        Pushed::new(REPLY)
            .update(update, &Filter::default())
            .unwrap()
    }

    fn refused(update: &str) -> String {
        let mut pushed = Pushed::new(REPLY);
        let error = pushed.update(update, &Filter::default()).unwrap_err();
        assert_eq!(pushed, Pushed::new(REPLY), "{update} changed something");
        error.to_string()
    }

    #[test]
    fn an_option_replaces_all_of_its_kind_and_no_others() {
        let options = after("route 10.3.0.0 255.255.0.0,route 10.4.0.0 255.255.0.0");
        assert_eq!(shown(&options), ["10.3.0.0", "10.4.0.0", "fd00:1::"]);
        assert_eq!(options.dns, after("").dns);
        assert_eq!((options.peer_id, options.tun_mtu), (Some(3), Some(1400)));
        let options = after("dhcp-option DNS 10.8.0.9");
        let servers: Vec<String> = options.dns.servers.iter().map(|s| s.to_string()).collect();
        assert_eq!((servers.len(), &*servers[0]), (1, "10.8.0.9"));
        assert_eq!(options.dns.search, ["b.example"]);
        let options = after("redirect-gateway ipv6,keepalive 5 30,tun-mtu 1300");
        assert!(
            options
                .redirect
                .is_some_and(|r| r.ipv4 && r.ipv6 && !r.def1)
        );
        assert_eq!((options.ping, options.ping_timeout), (Some(5), Some(30)));
        assert_eq!(options.tun_mtu, Some(1300));
    }

    #[test]
    fn a_minus_removes_all_of_a_kind_wherever_it_stands() {
        let options = after("-route,-dns,-dhcp-option,-keepalive,-tun-mtu,-redirect-gateway");
        assert_eq!(shown(&options), ["fd00:1::"]);
        assert_eq!(options.dns, super::super::Dns::default());
        assert_eq!(
            (options.ping, options.ping_timeout, options.tun_mtu),
            (None, None, None)
        );
        assert_eq!(options.redirect, None);
        let options =
            after("route 10.3.0.0 255.255.0.0,-route,route 10.4.0.0 255.255.0.0,-?route-ipv6");
        assert_eq!(shown(&options), ["10.4.0.0"]);
        assert_eq!(after("-ifconfig").ipv4(), None);
        assert_eq!(after("-push-continuation"), after(""));
    }

    #[test]
    fn updates_build_on_each_other() {
        let mut pushed = Pushed::new(REPLY);
        let filter = Filter::default();
        pushed.update("-route,-route-ipv6", &filter).unwrap();
        pushed
            .update("route 10.7.0.0 255.255.0.0", &filter)
            .unwrap();
        let options = pushed.update("-dns", &filter).unwrap();
        assert_eq!(shown(&options), ["10.7.0.0"]);
        assert!(!format!("{pushed:?}").contains("secret"));
    }

    #[test]
    fn options_that_may_not_change_end_the_session() {
        for (update, why) in [
            ("cipher AES-128-GCM", "cannot be changed"),
            ("peer-id 4", "cannot be changed"),
            ("ping 4", "cannot be changed"),
            ("up /bin/sh", "cannot be changed"),
            ("frobnicate", "cannot be changed"),
            ("-frobnicate", "cannot be changed"),
            ("routes", "cannot be changed"),
            ("?-route", "order"),
            ("--route", "order"),
            ("-", "order"),
            ("-route 10.1.0.0 255.255.0.0", "no arguments"),
            ("route 10.1.0.0 255.0.255.0", "no netmask"),
            ("route", "too few"),
            ("dns server 1 transport DoT", "not supported"),
            ("-dns,tun-mtu 5", "MTU"),
            (
                "topology p2p,ifconfig 0.0.0.0 10.8.0.1",
                "no address of a host",
            ),
            // Alone it could be right.
            ("ifconfig 10.8.0.4 10.8.0.1", "no netmask"),
        ] {
            let sentence = refused(update);
            assert!(sentence.contains(why), "{update}: {sentence}");
        }
    }

    #[test]
    fn optional_ones_that_cannot_be_taken_are_left_out_by_name() {
        let options = after("?frobnicate 1,-?up,?route 10.9.0.0 1.2.3.4,?route-metric 7");
        assert_eq!(shown(&options), shown(&after("")));
        assert_eq!(options.route_metric, Some(7));
        assert_eq!(options.ignored.len(), 3);
        for (sentence, name) in
            options
                .ignored
                .iter()
                .zip(["?frobnicate 1", "-?up", "?route 10.9.0.0 1.2.3.4"])
        {
            assert!(sentence.contains(name), "{sentence}");
        }
    }

    #[test]
    fn the_users_filter_holds_for_updates() {
        let rule = |verdict, start: &str| Filter {
            rules: vec![(verdict, start.into())],
            no_routes: false,
        };
        let with = |filter: &Filter, update| Pushed::new(REPLY).update(update, filter);
        let ignore = rule(Verdict::Ignore, "route 10.3");
        let options = with(&ignore, "route 10.3.0.0 255.255.0.0,-dns").unwrap();
        assert_eq!(shown(&options), ["10.1.0.0", "10.2.0.0", "fd00:1::"]);
        let reject = rule(Verdict::Reject, "route 10.3");
        let why = with(&reject, "route 10.3.0.0 255.255.0.0").unwrap_err();
        assert!(why.to_string().contains("pull_filter"), "{why}");
        assert!(with(&reject, "?route 10.3.0.0 255.255.0.0").is_ok());
        let none = Filter {
            no_routes: true,
            ..Filter::default()
        };
        let options = with(&none, "route 10.3.0.0 255.255.0.0,-route-ipv6").unwrap();
        assert_eq!(shown(&options), [""; 0]);
    }

    #[test]
    fn a_server_cannot_fill_the_memory() {
        let many = "block-outside-dns,".repeat(MAX_BYTES / 16);
        assert!(refused(&many).contains("more options than fit"));
    }

    proptest! {
        #[test]
        fn an_update_is_a_push_reply_of_what_is_left(
            updates in prop::collection::vec(
                "(-|\\?|-\\?)?(route|dns|dhcp-option|ifconfig|tun-mtu|redirect-gateway|topology|x)( [0-9a-z.]{1,12}){0,3}", 0..6),
        ) {
            let mut pushed = Pushed::new(REPLY);
            let before = pushed.clone();
            match pushed.update(&updates.join(","), &Filter::default()) {
                Ok(mut options) => {
                    options.ignored.retain(|sentence| !sentence.starts_with("\"?") && !sentence.starts_with("\"-?"));
                    prop_assert_eq!(options, Options::parse(&pushed.0.join(","), &Filter::default()).unwrap());
                }
                Err(_) => prop_assert_eq!(pushed, before),
            }
        }

        #[test]
        fn no_update_makes_it_panic(reply in ".{0,60}", update in ".{0,80}") {
            let _ = Pushed::new(&reply).update(&update, &Filter::default());
        }
    }
}

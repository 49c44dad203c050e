// SPDX-License-Identifier: GPL-2.0-or-later
use super::routes::Way;
use super::*;
use crate::keyfile::StaticKey;
use crate::keys::{KeyEvent, KeySource};
use crate::resolver::Found;
use crate::uci;
use ovpn_netlink::{Counters, Keepalive, PeerInfo};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

mod routing;

/// A kernel that does as it is told, unless told to fail.
#[derive(Debug, Default)]
struct Fake {
    done: Vec<(String, Op)>,
    peers: BTreeMap<String, BTreeSet<PeerId>>,
    /// Steps whose debug text starts with this fail, with this loss.
    fail: Option<(&'static str, Option<Gone>)>,
    connected: Vec<(String, PeerId)>,
    strangers: Vec<ovpn_netlink::Link>,
    way: Option<Way>,
    adopted: bool,
}

impl Kernel for Fake {
    fn run(
        &mut self,
        interface: &str,
        op: &Op,
        keys: Option<&dyn KeySource>,
    ) -> Result<(), Failure> {
        if let Some((start, gone)) = self
            .fail
            .filter(|(start, _)| format!("{op:?}").starts_with(start))
        {
            return Err(Failure {
                message: format!("{start} refused"),
                gone,
            });
        }
        let peers = self.peers.entry(interface.into()).or_default();
        match op {
            Op::NewPeer(id, _) => drop(peers.insert(*id)),
            Op::DelPeer(id) => drop(peers.remove(id)),
            Op::DeleteLink | Op::CreateLink(_) => peers.clear(),
            Op::InstallKeys(..) => assert!(keys.is_some(), "no keys were given"),
            _ => {}
        }
        self.done.push((interface.into(), op.clone()));
        Ok(())
    }

    fn prefer(&mut self, _: &str, _: &Interface) {}

    fn key_event(&mut self, _: &str, _: PeerId, _: &KeyEvent) -> Result<(), Failure> {
        Ok(())
    }

    fn way(&mut self, _: &str, _: IpAddr) -> Option<Way> {
        self.way
    }

    fn adopted(&self, _: &str) -> bool {
        self.adopted
    }

    fn forget(&mut self, interface: &str) {
        self.peers.remove(interface);
    }

    fn peer(&mut self, interface: &str, peer: PeerId) -> Option<PeerInfo> {
        let there = self.peers(interface).unwrap_or_default();
        there.into_iter().find(|info| info.id == peer)
    }

    fn peers(&mut self, interface: &str) -> Result<Vec<PeerInfo>, Failure> {
        let peers = self.peers.get(interface).into_iter().flatten();
        let info = |id: &PeerId| PeerInfo {
            id: *id,
            tx_id: None,
            socket_netnsid: None,
            vpn_ipv4: None,
            vpn_ipv6: None,
            keepalive: Keepalive {
                interval: 0,
                timeout: 0,
            },
            remote: None,
            local: None,
            local_port: None,
            vpn: Counters::default(),
            link: Counters::default(),
            drops: None,
            last_seen: None,
        };
        Ok(peers.map(info).collect())
    }

    fn key(&mut self, _: &str, _: PeerId) -> Option<ovpn_netlink::KeyInfo> {
        None
    }

    fn connected(&mut self, interface: &str, peer: PeerId, _: std::os::fd::OwnedFd) {
        self.connected.push((interface.into(), peer));
    }

    fn strangers(
        &mut self,
        ours: &BTreeSet<String>,
    ) -> Vec<(ovpn_netlink::Link, Vec<ovpn_netlink::IpPrefix>)> {
        let strangers = self
            .strangers
            .iter()
            .filter(|link| !ours.contains(&link.name));
        strangers.map(|link| (link.clone(), Vec::new())).collect()
    }

    fn disconnect(&mut self, interface: &str, peer: PeerId) -> Result<(), Failure> {
        self.peers
            .entry(interface.into())
            .or_default()
            .remove(&peer);
        Ok(())
    }
}

pub(super) fn load_key(path: &Path) -> Result<StaticKey, String> {
    let hex = format!(
        "{:02x}",
        path.display()
            .to_string()
            .bytes()
            .fold(0u8, u8::wrapping_add)
    )
    .repeat(256);
    StaticKey::parse(
        format!(
            "-----BEGIN OpenVPN Static key V1-----\n{hex}\n-----END OpenVPN Static key V1-----"
        )
        .as_bytes(),
    )
}

/// An interface with one peer; `more` are further options of the peer.
fn uci(name: &str, port: u16, host: &str, more: &str) -> String {
    format!(
        "config interface {name}\noption proto openvpn_dco\noption local_port {port}\nlist addresses 10.8.0.1/24\n\
         config openvpn_dco_{name} {name}_peer\noption peer_id 1\noption endpoint_host {host}\noption key_file /{name}\n\
         option key_direction 0\noption insecure_static_key 1\noption keepalive_timeout 60\n{more}\n"
    )
}

fn config(text: &str) -> Config {
    let mut config = Config::default();
    config.read_network("network", &uci::File::parse(text.as_bytes()), &load_key);
    config
}

struct Test {
    engine: Reconciler<Fake>,
    now: Instant,
}

impl Test {
    fn new(text: &str) -> Self {
        let mut test = Self {
            engine: Reconciler::new(Fake::default()),
            now: Instant::now(),
        };
        test.reload(text);
        test
    }

    fn reload(&mut self, text: &str) {
        self.engine.configure(config(text), self.now);
    }

    /// The steps since the last call, without interface.
    fn steps(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.engine.kernel.done)
            .into_iter()
            .map(|(_, op)| op)
            .collect()
    }

    fn names(&mut self) -> Vec<String> {
        let words = self.steps().into_iter().map(|op| format!("{op:?}"));
        words
            .map(|text| text.split('(').next().unwrap().to_owned())
            .collect()
    }

    /// Lets time pass up to the next wait's end, and tells how long that was.
    fn wait(&mut self) -> Duration {
        let until = self.engine.next_wait().expect("nothing is waited for");
        let waited = until - self.now;
        self.now = until;
        self.engine.wake(self.now);
        waited
    }

    fn lose(&mut self, reason: DelReason) {
        self.engine.kernel.peers.get_mut("v").unwrap().clear();
        self.engine.peer_deleted("v", id(), Some(reason), self.now);
    }

    fn peer(&self) -> &PeerRun {
        &self.engine.interfaces["v"].peers["v_peer"]
    }

    fn answer(&mut self, result: Result<&str, &str>) {
        let lookup = self
            .engine
            .lookups(self.now)
            .pop()
            .expect("no lookup was asked for");
        let result = result.map(found).map_err(str::to_owned);
        self.engine.resolved(Answer { lookup, result }, self.now);
    }
}

fn found(text: &str) -> Found {
    Found {
        remote: text.parse().unwrap(),
        stream: None,
    }
}

fn id() -> PeerId {
    PeerId::new(1).unwrap()
}

const ALL: [&str; 7] = [
    "CreateLink",
    "SetMtu",
    "AddAddress",
    "OpenSocket",
    "NewPeer",
    "InstallKeys",
    "SetUp",
];

#[test]
fn an_interface_comes_up_and_an_unchanged_reload_does_nothing() {
    let text = uci("v", 1194, "192.0.2.1", "");
    let mut test = Test::new(&text);
    assert_eq!(test.names(), ALL);
    test.reload(&text);
    assert_eq!(test.names(), [""; 0]);
    assert_eq!(test.engine.next_wait(), None);
    test.engine.shut_down(test.now);
    assert_eq!(test.names(), ["DeleteLink", "CloseSocket"]);
    assert!(test.engine.interfaces.is_empty());
}

#[test]
fn a_reload_touches_what_changed_alone() {
    let both = |b_host| uci("a", 1, "192.0.2.1", "") + &uci("b", 2, b_host, "");
    let mut test = Test::new(&both("192.0.2.2"));
    test.steps();
    test.reload(&both("192.0.2.3"));
    let done = std::mem::take(&mut test.engine.kernel.done);
    assert!(
        matches!(&done[..], [(name, Op::SetPeer(..))] if name == "b"),
        "{done:?}"
    );
    test.reload(&uci("b", 2, "192.0.2.3", ""));
    let done = std::mem::take(&mut test.engine.kernel.done);
    assert!(
        done.iter().all(|(name, _)| name == "a") && done.len() == 2,
        "{done:?}"
    );
}

#[test]
fn a_reload_that_moves_a_port_frees_it_first() {
    let mut test = Test::new(&uci("b", 1194, "192.0.2.1", ""));
    test.steps();
    test.reload(&uci("a", 1194, "192.0.2.1", ""));
    let names = test.names();
    let at = |name: &str| names.iter().position(|n| n == name).unwrap();
    assert!(at("CloseSocket") < at("OpenSocket"), "{names:?}");
}

#[test]
fn a_faulty_reload_keeps_what_ran_and_says_so() {
    let good = uci("v", 1194, "192.0.2.1", "");
    let mut test = Test::new(&good);
    test.steps();
    for (old, new) in [
        ("local_port 1194", "local_port x"),
        ("peer_id 1", "peer_id x"),
        ("10.8.0.1/24", "10.8.0.1/99"),
    ] {
        test.reload(&good.replace(old, new));
        assert_eq!(test.names(), [""; 0], "{new}");
        let managed = &test.engine.interfaces["v"];
        assert_eq!(
            managed.problems.len() + managed.broken_peers.len(),
            1,
            "{new}"
        );
        assert!(
            managed.state.as_ref().unwrap().peers.contains_key(&id()),
            "{new}"
        );
    }
    test.reload(&good);
    assert!(test.engine.interfaces["v"].problems.is_empty() && test.names().is_empty());
}

#[test]
fn a_faulty_interface_does_not_stop_the_others() {
    let mut test = Test::new(
        &(uci("bad", 1, "192.0.2.1", "").replace("10.8.0.1/24", "x")
            + &uci("v", 2, "192.0.2.1", "")),
    );
    assert_eq!(test.names(), ALL);
    assert_eq!(test.engine.interfaces["bad"].problems.len(), 1);
}

#[test]
fn a_lost_peer_comes_back_after_waits_that_grow_and_are_reset_when_it_stayed() {
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", ""));
    test.steps();
    for longest in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
        test.lose(DelReason::Expired);
        assert_eq!(test.names(), [""; 0]);
        assert_eq!(
            test.peer().error.as_deref(),
            Some("nothing was heard from it for 60 s")
        );
        let waited = test.wait();
        assert!(
            waited <= Duration::from_secs(longest) && waited >= Duration::from_secs(longest) / 2,
            "{waited:?}"
        );
        assert_eq!(test.names(), ["NewPeer", "InstallKeys"]);
        assert_eq!(test.peer().error, None);
    }
    test.now += Duration::from_secs(300);
    test.lose(DelReason::Expired);
    assert!(test.wait() <= Duration::from_secs(1));
    assert_eq!(test.peer().losses, 10);
}

#[test]
fn a_notification_about_a_peer_that_was_replaced_is_stale() {
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", ""));
    test.steps();
    test.engine
        .peer_deleted("v", id(), Some(DelReason::Userspace), test.now);
    test.engine
        .peer_deleted("v", PeerId::new(9).unwrap(), None, test.now);
    test.engine.peer_deleted("other", id(), None, test.now);
    assert!(test.steps().is_empty() && test.engine.next_wait().is_none());
}

#[test]
fn lost_notifications_are_made_up_for() {
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", ""));
    test.engine.kernel.peers.get_mut("v").unwrap().clear();
    test.engine.verify(test.now);
    assert_eq!(test.peer().losses, 1);
}

#[test]
fn names_are_looked_up_first_and_again_after_a_loss() {
    let mut test = Test::new(&uci("v", 1194, "vpn.example", ""));
    assert_eq!(
        test.names(),
        ["CreateLink", "SetMtu", "AddAddress", "OpenSocket", "SetUp"]
    );
    test.answer(Ok("192.0.2.1:1194"));
    assert_eq!(test.names(), ["NewPeer", "InstallKeys"]);
    assert!(test.engine.lookups(test.now).is_empty());
    test.lose(DelReason::Expired);
    assert!(test.engine.lookups(test.now).is_empty());
    test.wait();
    assert_eq!(test.names(), [""; 0]);
    test.answer(Ok("192.0.2.9:1194"));
    let steps = test.steps();
    assert!(
        matches!(&steps[0], Op::NewPeer(_, params) if params.remote == "192.0.2.9:1194".parse().ok()),
        "{steps:?}"
    );
}

#[test]
fn a_reload_does_not_forget_where_a_peer_is() {
    still_there(uci("v", 1194, "vpn.example", ""));
    let to_tcp = |text: String| text.replacen("dco\n", "dco\noption transport tcp\n", 1);
    still_there(to_tcp(uci("v", 1194, "vpn.example", "")));
    still_there(to_tcp(uci("v", 1194, "192.0.2.1", "")));
}

fn still_there(text: String) {
    let mut test = Test::new(&text);
    test.answer(Ok("192.0.2.1:1194"));
    test.steps();
    // Unchanged, beside a change of something else, and with a fault.
    for text in [
        text.clone(),
        text.clone() + &uci("w", 1195, "192.0.2.1", ""),
        text.replace("local_port 1194", "local_port x"),
        text.replace("peer_id 1", "peer_id x"),
        text.clone(),
    ] {
        test.reload(&text);
        let done = std::mem::take(&mut test.engine.kernel.done);
        assert!(done.iter().all(|(name, _)| name == "w"), "{text}: {done:?}");
        assert!(test.engine.lookups(test.now).is_empty(), "{text}");
    }
    assert_eq!(test.peer().remote, "192.0.2.1:1194".parse().ok());
}

#[test]
fn a_lost_peer_returns_to_where_it_was_when_nobody_knows_its_name() {
    let mut test = Test::new(&uci("v", 1194, "vpn.example", ""));
    test.answer(Ok("192.0.2.1:1194"));
    test.steps();
    test.lose(DelReason::Expired);
    test.wait();
    test.answer(Err("cannot resolve host 'vpn.example': timed out"));
    assert_eq!(test.names(), ["NewPeer", "InstallKeys"]);
    assert!(test.engine.lookups(test.now).is_empty());
    // Next time the name is asked for again.
    test.lose(DelReason::Expired);
    test.wait();
    assert_eq!(test.engine.lookups(test.now).len(), 1);
}

#[test]
fn a_name_without_address_is_asked_again_and_stops_nobody_else() {
    let mut test =
        Test::new(&(uci("v", 1194, "vpn.example", "") + &uci("w", 1195, "192.0.2.1", "")));
    assert!(
        test.engine.interfaces["w"]
            .state
            .as_ref()
            .unwrap()
            .peers
            .len()
            == 1
    );
    for longest in [1, 2, 4] {
        test.answer(Err("cannot resolve host 'vpn.example': not found"));
        assert_eq!(
            test.peer().error.as_deref(),
            Some("cannot resolve host 'vpn.example': not found")
        );
        assert!(test.engine.lookups(test.now).is_empty());
        let waited = test.wait();
        assert!(waited <= Duration::from_secs(longest), "{waited:?}");
    }
    test.answer(Ok("192.0.2.1:1194"));
    assert_eq!(test.peer().error, None);
    assert_eq!(test.engine.next_wait(), None);
}

#[test]
fn an_answer_to_an_old_question_is_ignored() {
    let mut test = Test::new(&uci("v", 1194, "vpn.example", ""));
    let lookup = test.engine.lookups(test.now).pop().unwrap();
    test.reload(&uci("v", 1194, "other.example", ""));
    test.engine.resolved(
        Answer {
            lookup,
            result: Ok(found("192.0.2.1:1194")),
        },
        test.now,
    );
    assert_eq!(test.peer().remote, None);
    assert_eq!(test.engine.lookups(test.now).len(), 1);
}

#[test]
fn a_refused_step_is_tried_again_and_what_does_not_need_it_is_done() {
    for (step, done) in [
        ("CreateLink", &[][..]),
        (
            "SetMtu",
            &[
                "CreateLink",
                "AddAddress",
                "OpenSocket",
                "NewPeer",
                "InstallKeys",
                "SetUp",
            ],
        ),
        (
            "OpenSocket",
            &["CreateLink", "SetMtu", "AddAddress", "SetUp"],
        ),
        (
            "NewPeer",
            &["CreateLink", "SetMtu", "AddAddress", "OpenSocket", "SetUp"],
        ),
        (
            "InstallKeys",
            &[
                "CreateLink",
                "SetMtu",
                "AddAddress",
                "OpenSocket",
                "NewPeer",
                "SetUp",
            ],
        ),
    ] {
        let mut test = Test::new("");
        test.engine.kernel.fail = Some((step, None));
        test.reload(&uci("v", 1194, "192.0.2.1", ""));
        assert_eq!(test.names(), done, "{step}");
        let managed = &test.engine.interfaces["v"];
        let errors = [&managed.error, &managed.peers["v_peer"].error];
        assert_eq!(
            errors.into_iter().flatten().collect::<Vec<_>>(),
            [&format!("{step} refused")]
        );
        test.engine.kernel.fail = None;
        test.wait();
        let rest: Vec<_> = ALL
            .into_iter()
            .filter(|name| !done.contains(name))
            .collect();
        assert_eq!(test.names(), rest, "{step}");
        let managed = &test.engine.interfaces["v"];
        assert_eq!(
            (&managed.error, &managed.peers["v_peer"].error),
            (&None, &None),
            "{step}"
        );
        assert_eq!(test.engine.next_wait(), None, "{step}");
    }
}

#[test]
fn a_peer_that_vanishes_before_its_key_is_a_lost_peer() {
    let mut test = Test::new("");
    test.engine.kernel.fail = Some(("InstallKeys", Some(Gone::Peer)));
    test.reload(&uci("v", 1194, "192.0.2.1", ""));
    test.steps();
    test.engine.kernel.fail = None;
    test.wait();
    assert_eq!(test.names(), ["NewPeer", "InstallKeys"]);
}

#[test]
fn an_interface_somebody_deleted_is_made_again() {
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", ""));
    test.steps();
    test.engine.link_deleted("v", test.now);
    assert!(test.engine.interfaces["v"].error.is_some() && test.steps().is_empty());
    test.wait();
    assert_eq!(test.names(), ALL);
    // The same found out by a step instead of a notification.
    test.engine.kernel.fail = Some(("SetMtu", Some(Gone::Link)));
    test.reload(
        &uci("v", 1194, "192.0.2.1", "")
            .replace("option local_port", "option mtu 1300\noption local_port"),
    );
    assert!(test.engine.interfaces["v"].state.is_none());
    test.engine.kernel.fail = None;
    test.wait();
    assert_eq!(test.names(), ALL);
}

#[test]
fn a_used_up_static_key_is_an_error_of_its_peer() {
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", ""));
    test.engine.key_exhausted("v", id(), KeyId::default());
    assert!(
        test.peer()
            .error
            .as_ref()
            .unwrap()
            .contains("used up all packet ids")
    );
}

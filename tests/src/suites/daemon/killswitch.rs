// SPDX-License-Identifier: GPL-2.0-only
//! The kill switch: forwarded packets that are captured on the WAN, outside of the tunnel, while the tunnel is away.

use std::fs;
use std::time::Duration;

use super::client::{self, PLAIN, Setting};
use super::netifd::{carry_out, handler};
use super::router::{Dir, LATER, Router, SOON, Uci, genkey};
use crate::lab::{Ns, Pair, Proc, Sniffer, wait_for};
use crate::suites::openvpn::daemon::{Daemon, need_openvpn};
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

/// A host behind the router, and an address behind the other end.
const HOST: [u8; 4] = [192, 168, 1, 2];
const WORLD: &str = "203.0.113.1";
/// Packets of the host that a stage sees at least.
const PACKETS: u64 = 30;

const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\
    config zone\n\toption name 'wan'\n\tlist network 'wan'\n\
    config zone\n\toption name 'vpn'\n\tlist network 'vpn0'\n\
    config forwarding\n\toption src 'lan'\n\toption dest 'vpn'\n\
    config forwarding\n\toption src 'lan'\n\toption dest 'wan'\n";

/// The networks beside the tunnel.
const REST: &str = "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n\
    config interface 'wan'\n\toption device 'veth'\n\toption proto 'dhcp'\n";

/// OpenVPN's directives for the router's network behind its client, and for a tunnel of everything.
macro_rules! networks {
    () => {
        "route 192.168.1.0 255.255.255.0\nclient-config-dir DIR/ccd\n\
         push \"route 0.0.0.0 128.0.0.0\"\npush \"route 128.0.0.0 128.0.0.0\"\n"
    };
}

/// The router, with a host that sends all the time.
struct Home {
    router: Router,
    lan: Ns,
    wan: Sniffer,
    _pings: Proc,
}

impl Home {
    /// Both sides of the WAN: this one with the configuration of its tunnel, which is not up, and [`WORLD`] behind the other,
    /// where the host's packets arrive as they were.
    fn start(tunnel: &str) -> Outcome<(Self, Ns)> {
        let Pair { a, b } = Pair::new()?;
        let lan = Ns::new()?;
        a.ip(&format!(
            "link add br-lan type veth peer name lan0 netns {}",
            lan.path()
        ))?;
        a.ip(
            "addr add 192.168.1.1/24 dev br-lan\nlink set br-lan up\nroute add default via 10.10.0.2",
        )?;
        lan.ip(
            "addr add 192.168.1.2/24 dev lan0\nlink set lan0 up\nroute add default via 192.168.1.1",
        )?;
        b.ip(&format!("addr add {WORLD}/32 dev lo"))?;
        a.enable_forwarding()?;
        let router = Router::with_netifd(a, &(tunnel.to_owned() + REST))?;
        router.dir.write("firewall", FIREWALL)?;
        carry_out(&router)?;
        let wan = Sniffer::open(&router.ns, "veth")?;
        let pings = lan.cmd(&format!("ping -n -q -i 0.01 {WORLD}")).spawn()?;
        let home = Self {
            router,
            lan,
            wan,
            _pings: pings,
        };
        // Without a kill switch the capture sees what leaves.
        check!(
            home.leaks()? > 0,
            "nothing leaves, so that nothing can be seen"
        );
        Ok((home, b))
    }

    /// A boot, in OpenWrt's order: no rules, no WAN and no ovpnd to begin with; the init script of ovpnd (19) loads the rules
    /// and starts the daemon before that of the network (20) brings the WAN up.
    fn reboot(&mut self) -> Outcome {
        self.router.ns.ip("link set veth down")?;
        self.router.crash()?;
        self.router.ns.cmd("nft flush ruleset").ok()?;
        let state = self.router.dir.path().join("state");
        if state.exists() {
            fs::remove_dir_all(state)?;
        }
        self.load_rules()?;
        self.router.start_again()?;
        self.wan_comes()?;
        self.keeps("from boot on, after a reboot")
    }

    /// A capture ends with its link, and none of the host's packets leaves before there is a route by the WAN again.
    fn wan_comes(&mut self) -> Outcome {
        self.router.ns.ip("link set veth up")?;
        self.wan = Sniffer::open(&self.router.ns, "veth")?;
        self.router.ns.ip("route add default via 10.10.0.2")
    }

    /// An answer through the tunnel, and no leak.
    fn up(&self, what: &str) -> Outcome {
        let ping = format!("ping -n -q -c 1 -W 1 {WORLD}");
        wait_for("an answer through the tunnel", LATER, || {
            let done = self.lan.cmd(&ping).run(SOON)?;
            Ok(done.status.success().then_some(()))
        })
        .during(what)?;
        self.keeps(&format!("while {what}"))
    }

    /// Waits for packets of the host, and counts those among them that left by the WAN as they were.
    fn leaks(&self) -> Outcome<usize> {
        let sent = || Ok::<_, Failure>(self.lan.netdev("lan0")?.tx_packets);
        let before = sent()?;
        self.wan.packets()?;
        wait_for("packets of the host", LATER, || {
            Ok((sent()? >= before + PACKETS).then_some(()))
        })?;
        self.count()
    }

    /// The same, which must be none in this state of the tunnel.
    fn keeps(&self, state: &str) -> Outcome {
        let leaks = self.leaks()?;
        crate::note!("{leaks} of at least {PACKETS} packets leaked {state}");
        check_eq!(leaks, 0, "leaks {state}");
        Ok(())
    }

    /// Those of the host's packets that left by the WAN since the last look.
    fn count(&self) -> Outcome<usize> {
        let packets = self.wan.packets()?;
        let of_host = |packet: &&(bool, Vec<u8>)| packet.0 && packet.1.get(12..16) == Some(&HOST);
        Ok(packets.iter().filter(of_host).count())
    }

    fn load_rules(&self) -> Outcome {
        let dir = self.router.dir.path().display();
        let line = format!("ovpnd --killswitch --config-dir {dir}");
        let rules = self.router.ns.cmd(&line).ok()?;
        self.router.ns.cmd("nft -f -").input(rules).ok().map(drop)
    }
}

fn no_leak(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let own = Uci::side(1, false, &key).with("allowed_ips", "0.0.0.0/1 128.0.0.0/1");
    let own = own.with("killswitch", "1");
    let text = |own: &Uci| own.text() + REST;
    let (mut home, b) = Home::start(&own.text())?;
    home.load_rules()?;
    home.keeps("from boot on")?;
    let b = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
    handler(&home.router, "setup", "vpn0")?;
    home.up("up")?;
    // A crash, and the next daemon.
    home.router.crash()?;
    home.keeps("without ovpnd")?;
    home.router.start_again()?;
    home.up("taken over")?;
    // Another key.
    let other = keys.write("other", &genkey()?)?;
    home.wan.packets()?;
    home.router
        .reload(&text(&own.clone().with("key_file", &other)))?;
    b.reload_by_signal(&Uci::side(2, false, &other).text())?;
    home.keeps("while the key changes")?;
    home.up("rekeyed")?;
    // The WAN goes and comes; netifd takes the tunnel down and sets it up.
    home.router.ns.ip("link set veth down")?;
    handler(&home.router, "teardown", "vpn0")?;
    home.wan_comes()?;
    home.keeps("before the tunnel is back")?;
    handler(&home.router, "setup", "vpn0")?;
    home.up("back")?;
    // Stop, and the rules loaded anew.
    handler(&home.router, "teardown", "vpn0")?;
    home.keeps("after a stop")?;
    home.wan.packets()?;
    for _ in 0..20 {
        home.load_rules()?;
    }
    check_eq!(home.count()?, 0, "leaks while the rules are replaced");
    // Not the router's own packets, nor those of a tunnel without a kill switch.
    home.router.ns.cmd("ping -n -q -c 1 -W 5 10.10.0.2").ok()?;
    home.router
        .dir
        .write("network", &text(&own.with("killswitch", "0")))?;
    home.load_rules()?;
    wait_for("packets by the WAN", Duration::from_secs(10), || {
        Ok((home.leaks()? > 0).then_some(()))
    })
}

/// The same with TLS, from a reboot on: both ends of the control channel have the other make new keys, one after the other.
fn no_leak_by_tls(_: &Ctx) -> Outcome {
    need_openvpn()?;
    client::files()?;
    let ccd = pki::dir()?.join("ccd");
    fs::create_dir_all(&ccd)?;
    fs::write(
        ccd.join("client-p256"),
        "iroute 192.168.1.0 255.255.255.0\n",
    )?;
    // A renegotiation is the wish of one side: 0 has none of its own.
    let by_ovpnd = Setting {
        server: concat!("reneg-sec 0\n", networks!()),
        client: &[("reneg_sec", "5"), ("killswitch", "1")],
        ..PLAIN
    };
    let by_openvpn = Setting {
        server: concat!("reneg-sec 6 6\n", networks!()),
        client: &[("reneg_sec", "0"), ("killswitch", "1")],
        ..PLAIN
    };
    let (mut home, b) = Home::start(&by_ovpnd.uci()?)?;
    home.reboot()?;
    for (who, setting) in [("ovpnd", by_ovpnd), ("OpenVPN", by_openvpn)] {
        let mut server = Daemon::start(&b, "vpn-server", &setting.server_config())?;
        home.router.reload(&(setting.uci()? + REST))?;
        handler(&home.router, "setup", "vpn0")?;
        let up = home
            .router
            .wait_peer("up", LATER, |peer| peer["state"] == "up");
        up.during(server.tail(30))?;
        // ovpnd asks netifd for it once the server has pushed its networks.
        handler(&home.router, "renew", "vpn0")?;
        home.up("up with TLS").during(server.tail(30))?;
        let key = || Ok::<_, Failure>(home.router.peer("vpn0")?["key_id"].as_u64());
        let first = key()?;
        let mut leaked = 0;
        wait_for("another key", LATER, || {
            leaked += home.leaks()?;
            Ok((key()? != first).then_some(()))
        })
        .during(server.tail(30))?;
        leaked += home.leaks()?;
        crate::note!("{leaked} packets leaked while {who} renegotiates");
        check_eq!(leaked, 0, "leaks while {who} renegotiates");
        check!(server.handshakes() >= 2, "{}", server.tail(30));
        home.up("rekeyed by TLS")?;
        handler(&home.router, "teardown", "vpn0")?;
        home.keeps("after a stop of TLS")?;
        server.kill()?;
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("kill switch: no packet leaves in the clear", no_leak),
        Case::new(
            "kill switch: no packet leaves while keys change by TLS",
            no_leak_by_tls,
        ),
    ]
}

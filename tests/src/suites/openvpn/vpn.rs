// SPDX-License-Identifier: GPL-2.0-only
//! A server with its clients, started once for all cases of a suite.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::daemon::{BUFFER, DEVICE, Daemon, HANDSHAKE, need_openvpn};
use super::net::{self, Net, PORT, Site};
use super::pki;
use super::table::{Client, Role, Spec, Transport};
use crate::lab::{Cipher, DropReasons, Echo, Ns, large_buffers, wait_for};
use crate::nl::Attrs;
use crate::nl::link::Links;
use crate::nl::ovpn::{Ovpn, PRIMARY, SECONDARY, keyconf, peer, remote_of};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check_eq, note};

/// How long a ping is waited for that may have gone to a dead session.
const SHORT: Duration = Duration::from_millis(500);
/// Column of the table at the end for what befell a client.
pub const EVENT: &str = "event";
/// Why a case fails after the first has told the whole story.
const NOT_STARTED: &str = "the network did not start";
/// Lines of a log that a failure shows.
const TAIL: usize = 40;

/// The whole of it.
pub struct Vpn {
    pub spec: &'static Spec,
    pub net: Net,
    pub server: Daemon,
    /// By number; a client that is not running is not in it.
    pub clients: BTreeMap<u8, Daemon>,
    /// Results of the cases, for the table at the end: by client, then by column.
    pub cells: BTreeMap<u8, BTreeMap<&'static str, String>>,
}

fn server_config(spec: &Spec) -> Outcome<String> {
    let (ping, restart) = spec.keepalive;
    let dir = pki::dir()?.join("clients");
    fs::create_dir_all(&dir)?;
    let mut config = format!(
        "dev {DEVICE}\ndev-type tun\ntls-server\ndh none\ntopology subnet\n\
         server 10.8.0.0 255.255.255.0\nserver-ipv6 fd00:8::/64\nclient-config-dir clients\n\
         data-ciphers {}\nkeepalive {ping} {restart}\nexplicit-exit-notify 1\nreneg-sec 0\n\
         status server.status 1\nstatus-version 2\nmanagement server.management unix\n\
         rcvbuf {BUFFER}\ntxqueuelen 1000\nverb 3\ncert server.crt\nkey server.key\n",
        Cipher::ALL.map(Cipher::name).join(":")
    );
    for transport in Transport::ALL {
        config += &format!(
            "local {} {PORT} {}\n",
            net::server(transport.v6()),
            transport.proto(true)
        );
    }
    if !spec.offload {
        config += "disable-dco\n";
    }
    for client in spec.clients {
        config += &format!("peer-fingerprint {}\n", pki::fingerprint(&client.name())?);
        let mut own = format!(
            "ifconfig-push {} 255.255.255.0\nifconfig-ipv6-push {}/64\n",
            net::inner(false, client.n),
            net::inner(true, client.n)
        );
        if client.role == Role::Lan {
            let (v4, v6) = (
                net::lan(false, client.n, 0).to_string() + " 255.255.255.0",
                net::lan(true, client.n, 0).to_string() + "/64",
            );
            config += &format!(
                "route {v4}\nroute-ipv6 {v6}\npush \"route {v4}\"\npush \"route-ipv6 {v6}\"\n"
            );
            own += &format!("iroute {v4}\niroute-ipv6 {v6}\n");
        }
        fs::write(dir.join(client.name()), own)?;
    }
    Ok(config)
}

fn client_config(spec: &Spec, client: &Client, site: &Site) -> Outcome<String> {
    let name = client.name();
    let remote = site.remote(client.transport.v6());
    let reneg = match client.role {
        // It must be seen that the control channel follows as well.
        Role::Roams | Role::Nat => spec.reneg.min(15),
        _ => spec.reneg,
    };
    let mut config = format!(
        "client\ndev {DEVICE}\ndev-type tun\nnobind\nproto {}\nremote {} {}\ndata-ciphers {}\n\
         reneg-sec {reneg}\nconnect-retry 1 2\nrcvbuf {BUFFER}\ntxqueuelen 1000\nverb 3\n\
         management {name}.management unix\ncert {name}.crt\nkey {name}.key\npeer-fingerprint {}\n",
        client.transport.proto(false),
        remote.ip(),
        remote.port(),
        client.cipher.name(),
        pki::fingerprint("server")?
    );
    // With the keepalive in the kernel a client sleeps until its next TLS timer, and only when awake does it tell the
    // driver to swap keys: at the next renegotiation, when the other end gives up the older of its two keys. The status
    // timer wakes it every second.
    config += &format!("status {name}.status 1\n");
    if client.role == Role::Leaves && !client.transport.tcp() {
        config += "explicit-exit-notify 2\n";
    }
    if !client.offload {
        config += "disable-dco\n";
    }
    Ok(config)
}

/// Kind and index of a namespace's tunnel device.
pub fn device(ns: &Ns) -> Outcome<(String, u32)> {
    let index = ns
        .ifindex(DEVICE)?
        .ok_or_else(|| Failure::new(format!("no {DEVICE}")))?;
    let kind = Links::open(ns)?.get(index)?.info_kind();
    Ok((kind.unwrap_or_default(), index))
}

/// Kind of the device of an end that may or may not use the driver.
pub fn kind_of(offload: bool) -> &'static str {
    if offload { "ovpn" } else { "tun" }
}

/// Path of a file that an OpenVPN process writes, or of its management socket.
pub fn file(name: &str) -> Outcome<PathBuf> {
    Ok(pki::dir()?.join(name))
}

impl Vpn {
    fn start(spec: &'static Spec) -> Outcome<Self> {
        need_openvpn()?;
        large_buffers()?;
        let net = Net::new(spec.clients)?;
        pki::fingerprint("server")?;
        let server = Daemon::start(&net.server, "server", &server_config(spec)?)?;
        server.connected(1)?;
        check_eq!(
            device(&net.server)?.0,
            kind_of(spec.offload),
            "kind of the server's device"
        );
        let mut vpn = Self {
            spec,
            net,
            server,
            clients: BTreeMap::new(),
            cells: BTreeMap::new(),
        };
        for client in spec.clients {
            vpn.start_client(client.n)?;
            if spec.in_turn {
                vpn.daemon(client.n)?.connected(1)?;
            }
        }
        Ok(vpn)
    }

    /// Starts the server anew, after the old one is gone.
    pub fn start_server(&mut self) -> Outcome {
        self.server = Daemon::start(&self.net.server, "server", &server_config(self.spec)?)?;
        self.server.connected(1)
    }

    /// Starts a client.
    pub fn start_client(&mut self, n: u8) -> Outcome {
        let (client, site) = (self.client(n)?, self.site(n)?);
        let config = client_config(self.spec, client, site)?;
        let daemon = Daemon::start(&site.ns, &client.name(), &config)?;
        self.clients.insert(n, daemon);
        Ok(())
    }

    pub fn client(&self, n: u8) -> Outcome<&'static Client> {
        let found = self.spec.clients.iter().find(|c| c.n == n);
        found.ok_or_else(|| Failure::new(format!("no client {n}")))
    }

    pub fn site(&self, n: u8) -> Outcome<&Site> {
        let found = self.net.sites.iter().find(|s| s.n == n);
        found.ok_or_else(|| Failure::new(format!("no client {n}")))
    }

    pub fn daemon(&self, n: u8) -> Outcome<&Daemon> {
        let found = self.clients.get(&n);
        found.ok_or_else(|| Failure::new(format!("client {n} is not running")))
    }

    /// The process of a client that is to end now.
    pub fn take(&mut self, n: u8) -> Outcome<Daemon> {
        let found = self.clients.remove(&n);
        found.ok_or_else(|| Failure::new(format!("client {n} is not running")))
    }

    /// All clients of a role.
    pub fn of(&self, role: Role) -> Vec<&'static Client> {
        let clients = self.spec.clients.iter();
        clients.filter(|c| c.role == role).collect()
    }

    /// Does the same for many clients at once; fails with all failures there were.
    pub fn each<T: Send>(
        &self,
        clients: impl IntoIterator<Item = &'static Client>,
        work: impl Fn(&'static Client, &Site) -> Outcome<T> + Sync,
    ) -> Outcome<Vec<(u8, T)>> {
        let work = &work;
        let (mut done, mut failures, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        thread::scope(|scope| {
            let workers: Vec<_> = clients
                .into_iter()
                .map(|client| {
                    let site = self.site(client.n);
                    (client, scope.spawn(move || work(client, site?)))
                })
                .collect();
            for (client, worker) in workers {
                match worker.join().unwrap_or_else(|_| Err(Failure::new("panic"))) {
                    Ok(result) => done.push((client.n, result)),
                    Err(Failure::Failed(why) | Failure::Skipped(why)) => {
                        failures.push(format!("{client}: {why}"));
                        if let Ok(daemon) = self.daemon(client.n) {
                            logs.push(daemon.tail(TAIL));
                        }
                    }
                }
            }
        });
        match failures.is_empty() {
            true => Ok(done),
            false => Err(Failure::new([failures, logs].concat().join("\n"))),
        }
    }

    /// The client has a tunnel, on a device of the right kind at both ends, with its own cipher.
    pub fn connected(&self, client: &Client, site: &Site) -> Outcome {
        let daemon = self.daemon(client.n)?;
        daemon.connected(1)?;
        check_eq!(
            device(&site.ns)?.0,
            kind_of(client.offload),
            "kind of the device"
        );
        let cipher = format!("Data Channel: cipher '{}'", client.cipher.name());
        // Said a moment after the connection is complete.
        daemon.says(&cipher, 1, HANDSHAKE)?;
        if self.spec.offload {
            self.peer(client.n)?;
        }
        Ok(())
    }

    /// Waits until every client can be pinged from the server, which is the last thing to come about.
    pub fn all_connected(&self) -> Outcome {
        self.each(self.running(), |client, site| self.connected(client, site))?;
        Ok(())
    }

    /// The clients that have a process.
    pub fn running(&self) -> Vec<&'static Client> {
        let clients = self.spec.clients.iter();
        clients
            .filter(|c| self.clients.contains_key(&c.n))
            .collect()
    }

    /// No ping between client and server is lost, in either direction and family.
    pub fn pings(&self, client: &Client, site: &Site, count: u16) -> Outcome {
        for v6 in [false, true] {
            Echo::new(net::inner(v6, 0), count)
                .lossless(&site.ns)
                .during("to the server")?;
            Echo::new(net::inner(v6, client.n), count)
                .lossless(&self.net.server)
                .during("from the server")?;
        }
        Ok(())
    }

    /// Waits until pings pass in both families: what was sent to a dead session is lost, and it is not known when that
    /// ends.
    pub fn reachable(&self, client: &Client, limit: Duration) -> Outcome {
        for v6 in [false, true] {
            wait_for("a ping to pass", limit, || {
                let echo = Echo::new(net::inner(v6, client.n), 1);
                Ok((echo.within(SHORT).run(&self.net.server)?.received == 1).then_some(()))
            })?;
        }
        Ok(())
    }

    /// The peers of the server's device.
    pub fn peers(&self) -> Outcome<Vec<Attrs>> {
        let (_, index) = device(&self.net.server)?;
        Ovpn::open(&self.net.server)?.peer_dump(index)
    }

    /// The server's peer of a client, known by its inner address.
    pub fn find_peer(&self, n: u8) -> Outcome<Option<Attrs>> {
        let std::net::IpAddr::V4(vpn) = net::inner(false, n) else {
            return Err(Failure::new("not IPv4"));
        };
        let mut peers = self.peers()?.into_iter();
        Ok(peers.find(|p| p.get(peer::VPN_IPV4) == Some(&vpn.octets())))
    }

    /// The same, and it is there.
    pub fn peer(&self, n: u8) -> Outcome<Attrs> {
        let found = self.find_peer(n)?;
        found.ok_or_else(|| Failure::new("the server's driver has no such peer"))
    }

    /// The server's driver's view of its peers' keys, and its drops so far.
    fn driver_state(&self) -> Outcome<String> {
        let (_, index) = device(&self.net.server)?;
        let nl = Ovpn::open(&self.net.server)?;
        let mut text = String::from("peers:\n");
        for attrs in nl.peer_dump(index)? {
            let id = attrs.u32(peer::ID).unwrap_or_default();
            let key = |slot| -> Outcome<String> {
                let key = nl.key_get(index, id, slot)?;
                let id = key.ok().and_then(|attrs| attrs.u32(keyconf::KEY_ID));
                Ok(id.map_or("none".into(), |id| id.to_string()))
            };
            text += &format!(
                "{id} {:?}: key {}, {} at {:?}\n",
                attrs.get(peer::VPN_IPV4).unwrap_or_default(),
                key(PRIMARY)?,
                key(SECONDARY)?,
                remote_of(&attrs)
            );
        }
        let drops = DropReasons::open(&self.net.server, DEVICE)?;
        for (name, count) in drops.read()?.iter().filter(|(_, count)| *count > 0) {
            text += &format!("{name}: {count}\n");
        }
        Ok(text)
    }

    /// Writes into the table at the end.
    pub fn note(&mut self, n: u8, column: &'static str, text: impl Into<String>) {
        self.cells.entry(n).or_default().insert(column, text.into());
    }
}

/// The one network of a suite: started by its first case, used by all, ended by the last.
#[derive(Clone)]
pub struct Shared {
    spec: &'static Spec,
    state: Rc<RefCell<State>>,
}

enum State {
    New,
    Up(Box<Vpn>),
    Broken,
}

impl Shared {
    pub fn new(spec: &'static Spec) -> Self {
        Self {
            spec,
            state: Rc::new(RefCell::new(State::New)),
        }
    }

    /// A case that uses the network.
    pub fn case(
        &self,
        name: impl Into<String>,
        run: impl Fn(&mut Vpn) -> Outcome + 'static,
    ) -> Case {
        let shared = self.clone();
        Case::new(name, move |_: &Ctx| shared.with(&run))
    }

    fn with(&self, run: impl Fn(&mut Vpn) -> Outcome) -> Outcome {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::New) {
            *state = match Vpn::start(self.spec) {
                Ok(vpn) => State::Up(Box::new(vpn)),
                Err(Failure::Skipped(why)) => return Err(Failure::Skipped(why)),
                Err(failure) => {
                    *state = State::Broken;
                    return Err(failure);
                }
            };
        }
        match &mut *state {
            State::Up(vpn) => run(vpn).inspect_err(|_| {
                note!("{}", vpn.server.tail(TAIL));
                if vpn.spec.offload {
                    let state = vpn.driver_state();
                    note!("{}", state.unwrap_or_else(|why| format!("{why:?}")));
                }
            }),
            State::Broken => Err(Failure::new(NOT_STARTED)),
            State::New => Err(Failure::new("there is no network")),
        }
    }

    /// A case that ends the network, if there is one, and looks at what is left.
    pub fn last_case(
        &self,
        name: impl Into<String>,
        run: impl Fn(&Ctx, Vpn) -> Outcome + 'static,
    ) -> Case {
        let shared = self.clone();
        Case::new(name, move |ctx: &Ctx| {
            match shared.state.replace(State::New) {
                State::Up(vpn) => run(ctx, *vpn),
                State::Broken => Err(Failure::new(NOT_STARTED)),
                State::New => Err(Failure::Skipped("no case before it was chosen".into())),
            }
        })
    }
}

impl Vpn {
    /// The table of what the cases found, a line for each client.
    pub fn table(&self) -> Vec<String> {
        let mut columns: Vec<&str> = Vec::new();
        for column in self.cells.values().flat_map(BTreeMap::keys) {
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        // The one that is a sentence comes last.
        columns.sort_by_key(|c| *c == EVENT);
        let line = |first: String, cell: &dyn Fn(&str) -> String| {
            let cells: Vec<_> = columns.iter().map(|c| format!("{:>9}", cell(c))).collect();
            format!("{first:<52} {}", cells.join(" "))
        };
        let head = line(String::new(), &|column| column.to_owned());
        let rows = self.spec.clients.iter().map(|client| {
            line(client.to_string(), &|column| {
                let cell = self.cells.get(&client.n).and_then(|row| row.get(column));
                cell.cloned().unwrap_or_else(|| "-".into())
            })
        });
        std::iter::once(head).chain(rows).collect()
    }
}

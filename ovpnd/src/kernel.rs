// SPDX-License-Identifier: GPL-2.0-or-later
//! Carries steps out: the side of the daemon that talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ovpn_netlink::{
    DelReason, Error, Event, IpPrefix, KeyId, KeyInfo, LinkEvent, LinkMonitor, Monitor, Ovpn,
    PeerId, PeerInfo, Rtnl, Slot, Totals,
};

use crate::config::{HwCrypto, Interface, MssFix};
use crate::engines::{Chosen, Refused};
use crate::keys::{KeyEvent, KeySource};
use crate::net;
use crate::reconcile::routes::Way;
use crate::state::{Op, Route};

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A sentence.
    pub message: String,
    /// The interface or the peer is not there any more.
    pub gone: Option<Gone>,
}

/// The object that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The interface.
    Link,
    /// The peer.
    Peer,
}

/// Something the kernel did by itself.
#[derive(Debug)]
pub enum Happened {
    /// A peer was deleted, by whomever. Its counters come from a driver that tells them.
    PeerDeleted(String, PeerId, Option<DelReason>, Option<Totals>),
    /// A key has no packet ids left.
    KeyExhausted(String, PeerId, KeyId),
    /// A peer is at a new address.
    Floated(String, PeerId, SocketAddr),
    /// A connection came to a listening interface.
    Came(String, OwnedFd, SocketAddr),
    /// An interface was deleted, by whomever.
    LinkDeleted(String),
    /// Something that is none of our concern: to an interface that is not known, or of a kind that is not.
    Elsewhere,
    /// Some of the above were missed.
    Lost,
}

/// The kernel as the daemon needs it.
pub trait Kernel {
    /// Carries out a step for an interface. Steps that take something away succeed when it is gone already.
    ///
    /// # Errors
    /// The kernel's reason.
    fn run(
        &mut self,
        interface: &str,
        op: &Op,
        keys: Option<&dyn KeySource>,
    ) -> Result<(), Failure>;

    /// Has an interface that comes fit TCP segments, and keys that come to it be carried, as its configuration says.
    fn prefer(&mut self, interface: &str, wanted: &Interface);

    /// Settings of the configuration that it could not apply.
    fn refused(&self, _interface: &str) -> Vec<Refused> {
        Vec::new()
    }

    /// Carries out what a key source wants for a peer.
    ///
    /// # Errors
    /// The kernel's reason.
    fn key_event(&mut self, interface: &str, peer: PeerId, event: &KeyEvent)
    -> Result<(), Failure>;

    /// How an address is reached when an interface does not ask for anything else; none when it is not.
    fn way(&mut self, interface: &str, to: IpAddr) -> Option<Way>;

    /// Whether an interface is one that an earlier run left, with its addresses and routes.
    fn adopted(&self, _interface: &str) -> bool {
        false
    }

    /// Lets go of what belongs to an interface that is gone.
    fn forget(&mut self, interface: &str);

    /// A peer of an interface, if it is there.
    fn peer(&mut self, interface: &str, peer: PeerId) -> Option<PeerInfo>;

    /// The peers of an interface.
    ///
    /// # Errors
    /// The kernel's reason.
    fn peers(&mut self, interface: &str) -> Result<Vec<PeerInfo>, Failure>;

    /// The key a peer encrypts with, without its secrets; none when it has none.
    fn key(&mut self, interface: &str, peer: PeerId) -> Option<KeyInfo>;

    /// Another descriptor of an interface's socket, if it is open.
    fn socket(&self, _interface: &str) -> Option<OwnedFd> {
        None
    }

    /// Takes the connection that the next step for a TCP peer is to use.
    fn connected(&mut self, interface: &str, peer: PeerId, stream: OwnedFd);

    /// Interfaces of the driver, with their addresses, that are none of `ours`. Peers, keys and disconnection of
    /// them can be asked for from now on.
    fn strangers(&mut self, ours: &BTreeSet<String>) -> Vec<(ovpn_netlink::Link, Vec<IpPrefix>)>;

    /// Deletes a peer of an interface that is none of ours.
    ///
    /// # Errors
    /// The kernel's reason.
    fn disconnect(&mut self, interface: &str, peer: PeerId) -> Result<(), Failure>;
}

/// The real kernel.
#[derive(Debug, Default)]
pub struct Netlink {
    /// Interfaces that an earlier run left are taken over as they are: netifd knows of their addresses and routes.
    netifd: bool,
    handles: Option<Handles>,
    links: BTreeMap<String, Link>,
    /// Interfaces of others.
    strangers: BTreeMap<String, u32>,
    /// Settings that differ from the module's defaults.
    wishes: BTreeMap<String, Wishes>,
}

#[derive(Debug)]
struct Wishes {
    engines: HwCrypto,
    mssfix: MssFix,
    /// Those that were not fulfilled, each told once.
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Handles {
    ovpn: Ovpn,
    rtnl: Rtnl,
    events: Monitor,
    link_events: LinkMonitor,
}

#[derive(Debug)]
struct Link {
    index: u32,
    socket: Option<Socket>,
    /// It was left by an earlier run.
    adopted: bool,
    /// Connections of TCP peers: a peer lives as long as its socket is open.
    streams: BTreeMap<PeerId, OwnedFd>,
}

#[derive(Debug)]
enum Socket {
    /// Shared by the peers.
    Udp(OwnedFd),
    /// Waits for peers, if it has a port.
    Tcp(OwnedFd, bool),
}

impl Link {
    fn new(index: u32) -> Self {
        Self {
            index,
            socket: None,
            adopted: false,
            streams: BTreeMap::new(),
        }
    }
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            gone: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let gone = match error.errno() {
            Some(nix::libc::ENODEV) => Some(Gone::Link),
            Some(nix::libc::ENOENT) => Some(Gone::Peer),
            _ => None,
        };
        Self {
            message: error.to_string(),
            gone,
        }
    }
}

/// Success also when there was nothing to delete.
fn deleted(result: Result<(), Error>) -> Result<(), Failure> {
    match result {
        Err(error) if error.is_gone() => Ok(()),
        result => Ok(result?),
    }
}

impl Wishes {
    fn granted(
        &mut self,
        interface: &str,
        chosen: Result<Option<Chosen>, Refused>,
    ) -> Option<Chosen> {
        match chosen {
            Ok(chosen) => chosen,
            Err(refused) => {
                if !self.refused.contains(&refused) {
                    log::warn!("{interface}: {}", refused.why);
                    self.refused.push(refused);
                }
                None
            }
        }
    }
}

impl Netlink {
    /// One for a daemon whose interfaces' addresses and routes are netifd's, or its own.
    pub fn new(netifd: bool) -> Self {
        Self {
            netifd,
            ..Self::default()
        }
    }

    /// Opens the connections unless they are open to the driver that is there now.
    ///
    /// # Errors
    /// When the driver is not there.
    pub fn open(&mut self) -> Result<(), Failure> {
        // While there is an interface of ours, the module is the one that made it.
        if self.links.is_empty() {
            self.handles.take_if(|handles| !handles.ovpn.is_current());
        }
        if self.handles.is_none() {
            let ovpn = Ovpn::open()?;
            let events = ovpn.monitor()?;
            let handles = Handles {
                ovpn,
                rtnl: Rtnl::open()?,
                events,
                link_events: LinkMonitor::open()?,
            };
            self.handles = Some(handles);
        }
        Ok(())
    }

    /// Sockets to poll for readability.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.handles
            .iter()
            .flat_map(|handles| [handles.events.as_fd(), handles.link_events.as_fd()])
            .chain(self.listeners().map(|(_, fd)| fd.as_fd()))
            .collect()
    }

    fn listeners(&self) -> impl Iterator<Item = (&String, &OwnedFd)> {
        self.links
            .iter()
            .filter_map(|(name, link)| match &link.socket {
                Some(Socket::Tcp(fd, true)) => Some((name, fd)),
                _ => None,
            })
    }

    /// The index of one of our interfaces.
    pub fn ifindex(&self, interface: &str) -> Option<u32> {
        self.links.get(interface).map(|link| link.index)
    }

    fn name(&self, index: u32) -> Option<String> {
        let ours = self.links.iter().map(|(name, link)| (name, link.index));
        let others = self.strangers.iter().map(|(name, index)| (name, *index));
        ours.chain(others)
            .find(|(_, known)| *known == index)
            .map(|(name, _)| name.clone())
    }

    fn index(&self, interface: &str) -> Result<u32, Failure> {
        let ours = self.links.get(interface).map(|link| link.index);
        ours.or_else(|| self.strangers.get(interface).copied())
            .ok_or_else(|| Failure {
                message: "the interface is gone".into(),
                gone: Some(Gone::Link),
            })
    }

    fn ovpn(&mut self) -> Result<&mut Ovpn, Failure> {
        let handles = self.handles.as_mut();
        let handles = handles.ok_or_else(|| Failure::new("no connection to the kernel"))?;
        Ok(&mut handles.ovpn)
    }

    /// The next thing that happened, one notification at a time.
    ///
    /// # Errors
    /// When a notification cannot be read; the next ones can be all the same.
    pub fn happened(&mut self) -> Result<Option<Happened>, Failure> {
        let Some(handles) = &mut self.handles else {
            return Ok(None);
        };
        if let Some(event) = handles.events.next_event()? {
            return Ok(Some(self.event(event)));
        }
        match handles.link_events.next_event()? {
            None => {}
            Some(LinkEvent::Deleted(index)) => {
                return Ok(Some(
                    self.name(index)
                        .map_or(Happened::Elsewhere, Happened::LinkDeleted),
                ));
            }
            Some(LinkEvent::Lost) => return Ok(Some(Happened::Lost)),
            Some(LinkEvent::Other) => return Ok(Some(Happened::Elsewhere)),
        }
        // At last: that the old connection broke must be known before the next one comes.
        Ok(self.listeners().find_map(|(name, listener)| {
            let came = net::accept(listener).ok().flatten();
            came.map(|(stream, remote)| Happened::Came(name.clone(), stream, remote))
        }))
    }

    fn event(&self, event: Event) -> Happened {
        let happened = match event {
            Event::PeerDel {
                ifindex,
                peer,
                reason,
                totals,
            } => self
                .name(ifindex)
                .map(|name| Happened::PeerDeleted(name, peer, reason, totals)),
            Event::KeySwap {
                ifindex,
                peer,
                key_id,
            } => self
                .name(ifindex)
                .map(|name| Happened::KeyExhausted(name, peer, key_id)),
            Event::PeerFloat {
                ifindex,
                peer,
                remote,
            } => self
                .name(ifindex)
                .map(|name| Happened::Floated(name, peer, remote)),
            Event::Lost => Some(Happened::Lost),
            _ => None,
        };
        happened.unwrap_or(Happened::Elsewhere)
    }

    fn parts(&mut self, interface: &str) -> Result<(&mut Handles, &mut Link), Failure> {
        let gone = || Failure {
            message: "the interface is gone".into(),
            gone: Some(Gone::Link),
        };
        let link = self.links.get_mut(interface).ok_or_else(gone)?;
        let handles = self
            .handles
            .as_mut()
            .ok_or_else(|| Failure::new("no connection to the kernel"))?;
        Ok((handles, link))
    }

    fn create(&mut self, interface: &str, mode: ovpn_netlink::Mode) -> Result<(), Failure> {
        self.open()?;
        let Some(handles) = &mut self.handles else {
            return Err(Failure::new("no connection to the kernel"));
        };
        match handles.rtnl.link(interface) {
            Ok(link) if link.is_ovpn() && link.mode == Some(mode) && self.netifd => {
                log::info!("{interface}: left by an earlier run: taken over");
                // Their sockets are closed, or are another program's.
                for peer in handles.ovpn.peers(link.index)? {
                    deleted(handles.ovpn.peer_del(link.index, peer.id))?;
                }
                let index = link.index;
                let link = Link {
                    adopted: true,
                    ..Link::new(index)
                };
                self.links.insert(interface.to_owned(), link);
                return Ok(());
            }
            Ok(link) if link.is_ovpn() => {
                log::warn!("{interface}: was there already, left by an earlier run: made anew");
                deleted(handles.rtnl.link_del(link.index))?;
            }
            Ok(_) => {
                return Err(Failure::new(format!(
                    "an interface called {interface} exists and is not of kind ovpn"
                )));
            }
            Err(Error::NoSuchLink(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let wishes = self.wishes.get_mut(interface);
        let chosen =
            wishes.and_then(|wishes| wishes.granted(interface, Chosen::clamp(wishes.mssfix)));
        handles.rtnl.link_new(interface, mode)?;
        drop(chosen);
        let index = handles.rtnl.link(interface)?.index;
        // Nothing in a tunnel answers from a link-local address; an administrator who wants one lists it in `addresses`.
        if let Err(error) = handles.rtnl.link_set_no_link_local(index) {
            log::debug!("{interface}: {error}");
        }
        self.links.insert(interface.to_owned(), Link::new(index));
        Ok(())
    }
}

impl Kernel for Netlink {
    fn run(
        &mut self,
        interface: &str,
        op: &Op,
        keys: Option<&dyn KeySource>,
    ) -> Result<(), Failure> {
        if let Op::CreateLink(mode) = op {
            return self.create(interface, *mode);
        }
        if let Op::InstallKeys(peer, _) = op {
            let keys = keys.ok_or_else(|| Failure::new("no key to install"))?;
            return keys
                .install(*peer)
                .iter()
                .try_for_each(|event| self.key_event(interface, *peer, event));
        }
        let (handles, link) = match self.parts(interface) {
            Err(_) if matches!(op, Op::DeleteLink | Op::CloseSocket) => return Ok(()),
            parts => parts?,
        };
        let Handles { ovpn, rtnl, .. } = handles;
        match op {
            Op::CreateLink(_) | Op::InstallKeys(..) => Ok(()),
            Op::DeleteLink => {
                deleted(rtnl.link_del(link.index))?;
                self.links.remove(interface);
                Ok(())
            }
            Op::SetMtu(mtu) => Ok(rtnl.link_set_mtu(link.index, *mtu)?),
            Op::AddAddress(address) => Ok(rtnl.addr_add(link.index, *address)?),
            Op::DelAddress(address) => deleted(rtnl.addr_del(link.index, *address)),
            Op::SetUp => Ok(rtnl.link_set_up(link.index, true)?),
            Op::OpenSocket(spec) => {
                let opened = net::open(*spec);
                let failed = |error| {
                    Failure::new(format!(
                        "cannot open {} port {}: {error}",
                        spec.transport, spec.port
                    ))
                };
                let opened = opened.map_err(failed)?;
                link.socket = Some(match spec.transport.is_tcp() {
                    true => Socket::Tcp(opened, spec.port != 0),
                    false => Socket::Udp(opened),
                });
                Ok(())
            }
            Op::CloseSocket => {
                link.socket = None;
                link.streams.clear();
                Ok(())
            }
            Op::NewPeer(id, params) => {
                // A peer over TCP is where its connection goes.
                let stream = link.streams.get(id).filter(|_| params.remote.is_none());
                let socket = match (stream, &link.socket) {
                    (Some(stream), _) => stream,
                    (None, Some(Socket::Udp(socket))) => socket,
                    (None, Some(Socket::Tcp(..))) => {
                        return Err(Failure::new("it is not connected"));
                    }
                    (None, None) => return Err(Failure::new("the socket is not open")),
                };
                Ok(ovpn.peer_new(link.index, *id, socket.as_fd(), params)?)
            }
            Op::SetPeer(id, params) => Ok(ovpn.peer_set(link.index, *id, params)?),
            Op::DelPeer(id) => {
                link.streams.remove(id);
                deleted(ovpn.peer_del(link.index, *id))
            }
            Op::AddRoute(Route { dst, via, .. }) => {
                let added = rtnl.route_add(link.index, *dst, *via);
                added.map_err(|error| Failure {
                    message: match error.errno() {
                        Some(nix::libc::EEXIST) => {
                            format!("route to {dst}: another one is there already")
                        }
                        _ => format!("route to {dst}: {error}"),
                    },
                    ..error.into()
                })
            }
            Op::DelRoute(Route { dst, via, .. }) => deleted(rtnl.route_del(link.index, *dst, *via)),
        }
    }

    fn prefer(&mut self, interface: &str, wanted: &Interface) {
        let known = self.wishes.get(interface);
        let same = known
            .is_some_and(|known| known.engines == wanted.hwcrypto && known.mssfix == wanted.mssfix);
        if !same {
            let wishes = Wishes {
                engines: wanted.hwcrypto.clone(),
                mssfix: wanted.mssfix,
                refused: Vec::new(),
            };
            self.wishes.insert(interface.to_owned(), wishes);
        }
    }

    fn refused(&self, interface: &str) -> Vec<Refused> {
        let wishes = self.wishes.get(interface);
        wishes.map_or(Vec::new(), |wishes| wishes.refused.clone())
    }

    fn key_event(
        &mut self,
        interface: &str,
        peer: PeerId,
        event: &KeyEvent,
    ) -> Result<(), Failure> {
        let chosen = match (event, self.wishes.get_mut(interface)) {
            (KeyEvent::Install(key), Some(wishes)) => {
                let chosen = Chosen::carriers(key.cipher, &wishes.engines);
                wishes.granted(interface, chosen)
            }
            _ => None,
        };
        let (handles, link) = self.parts(interface)?;
        match event {
            KeyEvent::Install(key) => {
                let installed = handles.ovpn.key_new(link.index, key);
                drop(chosen);
                Ok(installed?)
            }
            KeyEvent::Swap => Ok(handles.ovpn.key_swap(link.index, peer)?),
            KeyEvent::Delete(slot) => Ok(handles.ovpn.key_del(link.index, peer, *slot)?),
        }
    }

    fn way(&mut self, interface: &str, to: IpAddr) -> Option<Way> {
        let own = self.links.get(interface).map(|link| link.index);
        let way = self.handles.as_mut()?.rtnl.way(to).ok()?;
        Some(Way {
            prefix_len: way.prefix_len,
            inside: own.is_some() && way.ifindex == own,
        })
    }

    fn adopted(&self, interface: &str) -> bool {
        let link = self.links.get(interface);
        link.is_some_and(|link| link.adopted)
    }

    fn forget(&mut self, interface: &str) {
        self.links.remove(interface);
    }

    fn peer(&mut self, interface: &str, peer: PeerId) -> Option<PeerInfo> {
        let index = self.index(interface).ok()?;
        self.ovpn().ok()?.peer_get(index, peer).ok()
    }

    fn peers(&mut self, interface: &str) -> Result<Vec<PeerInfo>, Failure> {
        let index = self.index(interface)?;
        Ok(self.ovpn()?.peers(index)?)
    }

    fn key(&mut self, interface: &str, peer: PeerId) -> Option<KeyInfo> {
        let index = self.index(interface).ok()?;
        self.ovpn().ok()?.key_get(index, peer, Slot::Primary).ok()
    }

    fn socket(&self, interface: &str) -> Option<OwnedFd> {
        match &self.links.get(interface)?.socket {
            Some(Socket::Udp(socket)) => socket.try_clone().ok(),
            _ => None,
        }
    }

    fn connected(&mut self, interface: &str, peer: PeerId, stream: OwnedFd) {
        if let Some(link) = self.links.get_mut(interface) {
            link.streams.insert(peer, stream);
        }
    }

    fn strangers(&mut self, ours: &BTreeSet<String>) -> Vec<(ovpn_netlink::Link, Vec<IpPrefix>)> {
        self.strangers.clear();
        // Without the driver there are none.
        if self.open().is_err() {
            return Vec::new();
        }
        let Some(handles) = &mut self.handles else {
            return Vec::new();
        };
        let links = match handles.rtnl.ovpn_links() {
            Ok(links) => links,
            Err(error) => {
                log::debug!("interfaces of others: {error}");
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for link in links.into_iter().filter(|link| !ours.contains(&link.name)) {
            let addresses = handles.rtnl.addresses(link.index).unwrap_or_default();
            self.strangers.insert(link.name.clone(), link.index);
            found.push((link, addresses));
        }
        found
    }

    fn disconnect(&mut self, interface: &str, peer: PeerId) -> Result<(), Failure> {
        let index = self.index(interface)?;
        Ok(self.ovpn()?.peer_del(index, peer)?)
    }
}

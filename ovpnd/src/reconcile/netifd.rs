// SPDX-License-Identifier: GPL-2.0-or-later
//! Interfaces that are started and taken down by a call, and what netifd, which sets their addresses and routes, is told.
//!
//! netifd's handler asks for an interface to be up and is given an offer. When the offer changes by itself - a name is looked
//! up, a peer moves, a reload brings a network - netifd is asked to fetch the new one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ovpn_netlink::IpPrefix;

use super::{Managed, Reconciler};
use crate::kernel::Kernel;
use crate::state::{Op, Route};

/// The needs of an interface besides its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Its own addresses.
    pub addresses: Vec<IpPrefix>,
    /// Routes to its peers.
    pub routes: BTreeSet<Route>,
    /// Where its peers are, outside of the tunnel.
    pub endpoints: BTreeSet<IpAddr>,
    /// DNS servers for all names, the first preferred.
    pub dns: Vec<IpAddr>,
    /// Domains to complete names with.
    pub search: Vec<String>,
}

/// A request to netifd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To fetch the offer.
    Renew,
    /// To set the interface up anew: it is another one, without the addresses and routes of the old.
    Restart,
}

/// netifd's knowledge of an interface.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The offer its handler fetched last.
    offer: Option<Offer>,
    /// The one it was asked to fetch.
    asked: Option<Offer>,
    /// The interface was made without its asking.
    remade: bool,
}

impl Told {
    /// Its handler has fetched this offer.
    pub(crate) fn fetched(offer: Offer) -> Self {
        Self {
            offer: Some(offer),
            ..Self::default()
        }
    }

    /// An operation was carried out; `adopted` is whether the interface is one that an earlier run left.
    pub(crate) fn follows(&mut self, op: &Op, adopted: bool) {
        if matches!(op, Op::CreateLink(_)) {
            self.remade = !adopted;
        }
    }

    /// The request to netifd that follows from an offer; each is given out once.
    pub(crate) fn ask(&mut self, offer: Option<Offer>) -> Option<Ask> {
        let ask = if std::mem::take(&mut self.remade) {
            Ask::Restart
        } else if self.offer != offer && self.asked != offer {
            Ask::Renew
        } else {
            return None;
        };
        self.asked = offer;
        Some(ask)
    }
}

impl Managed {
    fn offer(&self) -> Option<Offer> {
        Some(Offer {
            addresses: self.wanted.as_ref()?.addresses.clone(),
            routes: self.routes.clone(),
            endpoints: self.peers.values().filter_map(|run| run.place).collect(),
            ..Offer::default()
        })
    }
}

impl<K: Kernel> Reconciler<K> {
    /// Starts an interface, or finds it started, and makes an offer. None when there is no such interface.
    ///
    /// # Errors
    /// The reason why it is not up; it will be tried again.
    pub fn start(&mut self, name: &str, now: Instant) -> Option<Result<Offer, String>> {
        #[cfg(feature = "tls")]
        if let Some(started) = self.clients.start(name, &mut self.kernel, now) {
            return Some(started);
        }
        let managed = self.interfaces.get_mut(name)?;
        managed.stopped = None;
        managed.retry.succeeded();
        self.reconcile(name, now);
        let managed = self.interfaces.get_mut(name)?;
        let up = managed.state.as_ref().is_some_and(|state| state.up);
        let Some(offer) = managed.offer().filter(|_| up) else {
            managed.told = Told::default();
            let fault = managed.problems.first().map(ToString::to_string);
            let error = managed.error.clone().or(fault);
            return Some(Err(error.unwrap_or_else(|| "it is not up".into())));
        };
        managed.told = Told::fetched(offer.clone());
        Some(Ok(offer))
    }

    /// Takes an interface down, and its routes with it. Whether there is one of this name.
    pub fn stop(&mut self, name: &str, reason: String, now: Instant) -> bool {
        #[cfg(feature = "tls")]
        if self.clients.stop(name, &reason, &mut self.kernel, now) {
            return true;
        }
        let Some(managed) = self.interfaces.get_mut(name) else {
            return false;
        };
        if managed.stopped.is_none() {
            log::info!("{name}: down: {reason}");
        }
        managed.stopped = Some(reason);
        managed.told = Told::default();
        managed.retry.succeeded();
        let sockets = managed.wanted.as_ref().map(|wanted| wanted.socket);
        let tcp = sockets.is_some_and(|socket| socket.transport.is_tcp());
        for run in managed.peers.values_mut() {
            run.error = None;
            run.retry.succeeded();
            // A connection ends with the interface.
            run.remote = run.remote.filter(|_| !tcp);
        }
        self.reconcile(name, now);
        true
    }

    /// The requests to netifd that are due; each is given out once.
    pub fn asks(&mut self) -> Vec<(String, Ask)> {
        let mut asks = Vec::new();
        for (name, managed) in self.interfaces.iter_mut().filter(|_| self.netifd) {
            if managed.stopped.is_some() || managed.state.is_none() {
                continue;
            }
            let offer = managed.offer();
            let ask = managed.told.ask(offer);
            asks.extend(ask.map(|ask| (name.clone(), ask)));
        }
        #[cfg(feature = "tls")]
        if self.netifd {
            asks.extend(self.clients.asks());
        }
        asks
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The tick of an interface: keepalives to send, silent peers, keys without packet ids.

use crate::device::{Burial, Device, NEWS_AT_ONCE};
use crate::peer::Peer;
use crate::proto::del_reason::DelReason;
use crate::proto::slots::Role;
use crate::sys::rcu::Rcu;
use crate::sys::stats::now;
use crate::{rx, tx};

/// Does what is due and arranges for the next time. Process context.
pub(crate) fn run(device: &Device) {
    let at = now();
    let mut next: Option<u32> = None;
    let mut expired = 0u32;
    let mut config = device.config.lock();
    let mut burial = Burial::new(device, DelReason::Expired);
    device.peers.drain(
        &mut config,
        |rcu, peer| {
            reap(rcu, peer);
            let early = rx::give_up(device, peer, at);
            let due = peer.timers().due(at, peer.last_sent(), peer.last_recv());
            if due.expired {
                expired = expired.saturating_add(1);
                return expired <= NEWS_AT_ONCE;
            }
            if due.send {
                tx::keepalive(device, rcu, peer);
                // Also when it could not be sent, or a missing key would be tried in a loop.
                peer.sent(at);
            }
            for seconds in [due.next_in, early].into_iter().flatten() {
                next = Some(next.map_or(seconds, |other| other.min(seconds)));
            }
            false
        },
        |silent| burial.push(silent),
    );
    drop(burial);
    device.update_carrier();
    if expired > NEWS_AT_ONCE {
        // Userspace hears of each, and its socket buffer is bounded.
        return device.net.tick_again();
    }
    if let Some(seconds) = next {
        device.net.tick_in(seconds.max(1));
    }
}

/// Arranges for a peer whose timers were set.
pub(crate) fn arrange(device: &Device, peer: &Peer) {
    let due = peer.timers().due(now(), peer.last_sent(), peer.last_recv());
    if due.expired || due.send {
        device.net.tick_in(0);
    } else if let Some(seconds) = due.next_in {
        device.net.tick_in(seconds);
    }
}

/// Takes keys without packet ids out of their slots.
fn reap(rcu: &Rcu, peer: &Peer) {
    for role in [Role::Primary, Role::Secondary] {
        if peer.keys.of(rcu, role).is_some_and(|key| key.is_dead()) {
            drop(peer.keys.remove(role));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! OpenVPN data channel in the kernel.
//!
//! | layer | files |
//! |---|---|
//! | configuration | [`netlink`] (requests), [`device`] (interface), [`peers`] (peer table) |
//! | state | [`peer`], [`keys`] (two key slots), [`key`] (one key), [`engine`] (which implementation carries it) |
//! | packets | [`rx`], [`tx`], [`stream`] (TCP), [`tick`] (keepalive and expiry) |
//! | pure rules | `proto`: wire format, replay window, packet ids, request checks |
//! | border to C | `sys`: the only place that holds `unsafe`; `compat`: kernel versions |
//!
//! Lock order: RTNL, the configuration lock of a [`device::Device`], a socket's lock. Packets
//! take none of these; they see peers and keys under RCU and take one lock, that of a key's
//! replay window.

mod compat;
mod device;
mod engine;
mod key;
mod keys;
mod netlink;
mod peer;
mod peers;
#[path = "../core/src/lib.rs"]
mod proto;
mod rx;
mod stream;
mod sys;
mod tick;
mod tx;

use kernel::prelude::*;

#[cfg(kver_ge_6_14)]
module! {
    type: Ovpn,
    name: "ovpn",
    authors: ["kmod-ovpn authors"],
    description: "OpenVPN data channel offload",
    license: "GPL",
}

#[cfg(not(kver_ge_6_14))]
module! {
    type: Ovpn,
    name: "ovpn",
    author: "kmod-ovpn authors",
    description: "OpenVPN data channel offload",
    license: "GPL",
}

/// What the loaded module keeps registered; dropped from the last field to the first, that is,
/// in the order of the fields: no new requests, no interfaces, no deferred work.
struct Ovpn {
    _genl: sys::genl::Family,
    _link: sys::netdev::LinkKind,
    _defer: sys::rcu::Deferral,
}

impl kernel::Module for Ovpn {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let defer = sys::rcu::Deferral::start()?;
        let link = sys::netdev::LinkKind::register()?;
        let genl = sys::genl::Family::register()?;
        Ok(Ovpn {
            _genl: genl,
            _link: link,
            _defer: defer,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0
//! OpenVPN data channel in the kernel.
//!
//! | layer | files |
//! |---|---|
//! | entry points | [`entry`]: the functions that C calls |
//! | configuration | [`netlink`] (requests), [`device`] (interface), [`config`] (its lock), [`peers`] (peer table) |
//! | state | [`peer`], [`keys`] (two key slots), [`key`] (one key), [`engine`] (choice of its crypto implementation), [`early`] (packets that came before their key) |
//! | packets | [`rx`], [`tx`], [`stream`] (TCP), [`tick`] (keepalive and expiry) |
//! | pure rules | `proto`: wire format, replay window, packet ids, request checks |
//! | border to C | `sys`: the only `unsafe`, knows nothing above; `compat`: kernel versions |
//!
//! Lock order: RTNL, the configuration lock of a [`device::Device`], a socket's lock. Packets
//! take none of these; they see peers and keys under RCU and take one lock, that of a key's
//! replay window, and if the key is not there yet that of the packets that wait for it.

// 6.12's pin_init! takes several steps for each field, and a peer has many.
#![recursion_limit = "256"]

mod compat;
mod config;
mod device;
mod early;
mod engine;
mod entry;
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

/// The registrations of the loaded module. Rust drops fields in the order of their declaration:
/// requests end first, then interfaces; then jobs, sockets and deferred releases are waited for.
struct Ovpn {
    _genl: sys::genl::Family,
    _link: sys::netdev::LinkKind,
    _jobs: sys::order::Jobs,
    _sockets: sys::socket::Sockets,
    _defer: sys::rcu::Deferral,
}

impl kernel::Module for Ovpn {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let defer = sys::rcu::Deferral::start()?;
        let sockets = sys::socket::Sockets::open();
        let jobs = sys::order::Jobs::open();
        let link = sys::netdev::LinkKind::register()?;
        let genl = sys::genl::Family::register()?;
        Ok(Ovpn {
            _genl: genl,
            _link: link,
            _jobs: jobs,
            _sockets: sockets,
            _defer: defer,
        })
    }
}

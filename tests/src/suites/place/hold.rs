// SPDX-License-Identifier: GPL-2.0-only
//! Interfaces tied to the netlink socket that asked for it (DEV_HOLD, kmod-ovpn/uapi/ovpn-ext.yaml).

use std::thread;
use std::time::Duration;

use crate::lab::{Module, Ns, Outer, Ping, Tunnel, TunnelSpec, wait_for};
use crate::nl::Refusal;
use crate::nl::link::Links;
use crate::nl::ovpn::{Event, Ovpn, Reason, cmd};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(5);
const NOBODY: u32 = 65534;

fn hold(nl: &Ovpn, ifindex: u32) -> Outcome<Result<(), Refusal>> {
    Ok(nl.request(&nl.msg(cmd::DEV_HOLD, ifindex))?.map(drop))
}

fn create(ns: &Ns, name: &str) -> Outcome<u32> {
    Links::open(ns)?.create(name, None)??;
    ns.ifindex(name)?
        .ok_or_else(|| Failure::new("the new link is not there"))
}

fn goes(ns: &Ns, name: &str) -> Outcome {
    wait_for(&format!("{name} to go"), SOON, || {
        Ok(ns.ifindex(name)?.is_none().then_some(()))
    })
}

fn errno(answer: &Result<(), Refusal>) -> i32 {
    answer.as_ref().err().map_or(0, |r| r.errno)
}

/// The interfaces of a holder go with it, those of others stay.
fn holders(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    let (first, second, idle) = (Ovpn::open(&ns)?, Ovpn::open(&ns)?, Ovpn::open(&ns)?);
    let ours = [create(&ns, "one")?, create(&ns, "two")?];
    let (other, free) = (create(&ns, "three")?, create(&ns, "four")?);
    for index in ours {
        hold(&first, index)?.during("first")?;
        hold(&first, index)?.during("once more")?;
        let refused = hold(&second, index)?;
        check_eq!(errno(&refused), libc::EBUSY, "hold of what another holds");
        let text = refused.err().and_then(|r| r.text).unwrap_or_default();
        check_eq!(
            text,
            "ovpn: another socket holds the interface",
            "extended acknowledgement"
        );
    }
    hold(&second, other)?.during("second")?;
    drop(idle);
    drop(first);
    goes(&ns, "one")?;
    goes(&ns, "two")?;
    check_eq!(ns.ifindex("three")?, Some(other), "interface of another");
    check_eq!(ns.ifindex("four")?, Some(free), "interface of nobody");
    // An interface that is deleted by hand needs no holder, and its successor has none.
    Links::open(&ns)?.delete(other)??;
    let again = create(&ns, "three")?;
    drop(second);
    let last = Ovpn::open(&ns)?;
    hold(&last, free)?.during("the last")?;
    drop(last);
    goes(&ns, "four")?;
    check_eq!(ns.ifindex("three")?, Some(again), "the successor");
    Ok(())
}

/// Callers that may ask, and their requests.
fn refusals(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    let nl = Ovpn::open(&ns)?;
    let index = create(&ns, "one")?;
    check_eq!(errno(&hold(&nl, 9999)?), libc::ENODEV, "unknown interface");
    check_eq!(errno(&hold(&nl, 1)?), libc::EINVAL, "hold of lo");
    let bare = nl.request(&nl.bare(cmd::DEV_HOLD, 0))?.map(drop);
    check_eq!(errno(&bare), libc::EINVAL, "no interface named");
    let elsewhere = Ovpn::open(&Ns::new()?)?;
    check_eq!(
        errno(&hold(&elsewhere, index)?),
        libc::ENODEV,
        "interface of another namespace"
    );
    let refused = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: the system call itself, unlike libc's function, changes this short-lived thread only.
            let ret = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            check_eq!(ret, 0, "setresuid");
            hold(&nl, index)
        });
        worker.join().unwrap_or_else(|_| Err(Failure::new("panic")))
    })?;
    check_eq!(errno(&refused), libc::EPERM, "hold without CAP_NET_ADMIN");
    drop(nl);
    check_eq!(
        ns.ifindex("one")?,
        Some(index),
        "interface that nobody holds"
    );
    Ok(())
}

/// With a peer and traffic in it, in the namespace of its holder or in another, over UDP and TCP.
fn in_use(moved: bool, outer: Outer) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        outer,
        ..TunnelSpec::default()
    })?;
    let events = tunnel.b.nl.listen(&tunnel.b.ns)?;
    let holder = Ovpn::open(&tunnel.b.ns)?;
    hold(&holder, tunnel.b.ifindex)??;
    let _traffic = Ping::new(Tunnel::inner(false, 2), 100_000)
        .interval(1)
        .spawn(&tunnel.a.ns)?;
    let other = Ns::new()?;
    let at = if moved {
        let path = other.path();
        tunnel.b.ns.ip(&format!("link set tun netns {path}"))?;
        &other
    } else {
        &tunnel.b.ns
    };
    check!(at.ifindex("tun")?.is_some(), "the interface is not there");
    let ifindex = at.ifindex("tun")?.unwrap_or_default();
    drop(holder);
    goes(at, "tun")?;
    let event = Event::PeerDel {
        ifindex,
        id: tunnel.b.id,
        reason: Reason::Teardown,
    };
    events.expect(&event, SOON)
}

/// Holders outlive the module, the namespace of their interface, and each other.
fn survivors(ctx: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    let nl = Ovpn::open(&ns)?;
    hold(&nl, create(&ns, "one")?)??;
    Module::unload()?;
    ctx.module.load()?;
    let index = create(&ns, "one")?;
    drop(nl);
    // Another holder's end is heard after that of the first.
    let second = Ovpn::open(&ns)?;
    hold(&second, create(&ns, "two")?)??;
    drop(second);
    goes(&ns, "two")?;
    check_eq!(ns.ifindex("one")?, Some(index), "interface of nobody");

    let third = Ovpn::open(&ns)?;
    let gone = Ns::new()?;
    hold(&third, index)??;
    ns.ip(&format!("link set one netns {}", gone.path()))?;
    drop(gone);
    hold(&third, create(&ns, "three")?)??;
    drop(third);
    goes(&ns, "three")
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("hold: holders", holders),
        Case::new("hold: refusals", refusals),
        Case::new("hold: survivors", survivors),
    ];
    for (moved, outer) in [(false, Outer::V4), (true, Outer::V4), (false, Outer::Tcp4)] {
        let name = format!("hold: in use over {outer:?}, moved: {moved}");
        cases.push(Case::new(name, move |_| in_use(moved, outer)));
    }
    let gate = |case: Case| {
        let Case { name, run } = case;
        Case::new(name, move |ctx| match Module::ours() {
            true => run(ctx),
            false => Err(Failure::Skipped("mainline has no DEV_HOLD".into())),
        })
    };
    cases.into_iter().map(gate).collect()
}

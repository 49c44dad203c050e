// SPDX-License-Identifier: GPL-2.0-or-later
//! The methods of the ubus object; API.md describes them for callers.
//!
//! A method takes its typed arguments, calls the reconciler and makes an answer. Key material has no way into one:
//! only marks and fingerprints do.

mod args;
#[cfg(feature = "tls")]
mod authority;
mod keys;
mod peers;
mod profile;
mod section;
mod switch;
#[cfg(feature = "tls")]
mod users;
mod view;

use std::collections::BTreeSet;
use std::path::Path;

use ovpn_netlink::PeerId;
use serde_json::{Map, Value, json};

use crate::config::overlay::{self, Edit, Overlay, What};
use crate::config::{Config, Problem};
use crate::json::counters;
use crate::kernel::{Failure, Kernel};
use crate::reconcile::Reconciler;
use crate::tunnel::{News, Notice};
use crate::ubus::{Data, Reply, Status};
pub use args::Args;
#[cfg(feature = "tls")]
pub use authority::Task;
#[cfg(feature = "tls")]
pub(crate) use keys::save;
pub use keys::{delete, delete_all, generate, import, tidy};
pub use peers::peers;
pub use profile::take as take_profile;
pub use switch::{faulty, not_kept, offer, unknown};
pub(crate) use view::VERSION_FILE;
pub use view::{interfaces, problems, status};

/// A call that is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    status: Status,
    pub(crate) problems: Vec<Problem>,
}

impl Refusal {
    fn argument(name: &str, message: impl Into<String>) -> Self {
        Self::new(
            Status::InvalidArgument,
            Problem::of_call(Some(name), message),
        )
    }

    fn new(status: Status, problem: Problem) -> Self {
        Self {
            status,
            problems: vec![problem],
        }
    }

    /// One for later.
    #[cfg(feature = "tls")]
    pub(crate) fn busy(why: String) -> Self {
        Self::new(Status::UnknownError, Problem::of_call(None, why))
    }

    /// One that this build does not do.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn not_here(why: &str) -> Self {
        Self::new(Status::NotSupported, Problem::of_call(None, why))
    }

    fn no_interface(name: &str) -> Self {
        let problem = Problem::of_call(Some("interface"), format!("there is no '{name}'"));
        Self::new(Status::NotFound, problem)
    }

    fn no_peer(name: &str) -> Self {
        let problem = Problem::of_call(Some("peer"), format!("there is no '{name}'"));
        Self::new(Status::NotFound, problem)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(
            Status::UnknownError,
            Problem::of_call(None, failure.message),
        )
    }
}

/// The answer to a call.
pub fn reply(result: Result<impl Into<Data>, Refusal>) -> Reply {
    match result {
        Ok(data) => Reply {
            status: Status::Ok,
            data: Some(data.into()),
        },
        Err(Refusal {
            status,
            problems: list,
        }) => Reply {
            status,
            data: Some(json!({ "ok": false, "problems": problems(&list) }).into()),
        },
    }
}

/// Runs a method with a call's arguments, or says that they are none.
pub fn with_args<T: Into<Data>>(
    args: Option<&Value>,
    method: impl FnOnce(Args<'_>) -> Result<T, Refusal>,
) -> Reply {
    let none = Map::new();
    let args = match args {
        Some(Value::Object(map)) => Ok(Args(map)),
        Some(_) => Ok(Args(&none)),
        None => {
            let problem = Problem::of_call(None, "the arguments are no valid message");
            Err(Refusal::new(Status::InvalidArgument, problem))
        }
    };
    reply(args.and_then(method))
}

/// What `peer_add`, `peer_set` and `peer_del` are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A peer that is not there comes.
    Add,
    /// One that is there changes.
    Set,
    /// One that is there goes.
    Delete,
}

/// Longest name of a section that libuci is asked to take, in bytes.
const MAX_SECTION: usize = 64;

/// Reads a change of a peer, and tries it on the configuration in `dir`. Returns what the new overlay and
/// configuration are.
///
/// # Errors
/// Arguments are wrong, or the configuration would have faults it does not have now.
pub fn change<K: Kernel>(
    engine: &Reconciler<K>,
    dir: &Path,
    overlay: &Overlay,
    kind: Change,
    args: Args<'_>,
) -> Result<(Overlay, Config), Refusal> {
    let interface = args.needed("interface")?;
    let peer = args.needed("peer")?;
    let Some(managed) = engine.interfaces.get(interface) else {
        let refusal = Refusal::no_interface(interface);
        return Err(match engine.observed.contains_key(interface) {
            false => refusal,
            true => Refusal::new(
                Status::NotSupported,
                Problem::of_call(
                    Some("interface"),
                    format!(
                        "'{interface}' belongs to another program, whose configuration says who its peers are"
                    ),
                ),
            ),
        });
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if peer.len() > MAX_SECTION || !peer.bytes().all(is_name) {
        return Err(Refusal::argument(
            "peer",
            format!("must be the name of a section: up to {MAX_SECTION} letters, digits and _"),
        ));
    }
    let there = managed.peers.contains_key(peer)
        || managed.broken_peers.contains_key(peer)
        || managed.disabled.iter().any(|name| name == peer);
    match (kind, there) {
        (Change::Add, true) => {
            return Err(Refusal::argument(
                "peer",
                format!("there is a '{peer}' already"),
            ));
        }
        (Change::Set | Change::Delete, false) => return Err(Refusal::no_peer(peer)),
        _ => {}
    }
    let what = match kind {
        Change::Delete => What::Delete,
        Change::Add | Change::Set => What::Set(options(args)?),
    };
    let next = overlay.with(Edit {
        interface: interface.to_owned(),
        peer: peer.to_owned(),
        what,
    });
    let then = Config::load(dir, &next, engine.netifd);
    let (faults, warnings) = then.all_problems();
    // A misspelt option of a file is a warning; of a call it is a mistake that can be told at once.
    let about = |problem: &&Problem| problem.section.as_deref() == Some(peer);
    let said = faults.into_iter().chain(warnings.into_iter().filter(about));
    let said: Vec<Problem> = said.cloned().collect();
    if !said.is_empty() {
        let now = Config::load(dir, overlay, engine.netifd);
        let (faults, warnings) = now.all_problems();
        let before: BTreeSet<&Problem> = faults.into_iter().chain(warnings).collect();
        let problems: Vec<Problem> = said
            .into_iter()
            .filter(|new| !before.contains(new))
            .collect();
        if !problems.is_empty() {
            return Err(Refusal {
                status: Status::InvalidArgument,
                problems,
            });
        }
    }
    Ok((next, then))
}

fn options(args: Args<'_>) -> Result<Vec<(String, Option<crate::uci::Value>)>, Refusal> {
    let mut options = Vec::new();
    for (name, json) in args.table("options")? {
        let value = overlay::value(json).map_err(|why| Refusal::argument(name, why))?;
        options.push((name.clone(), value));
    }
    Ok(options)
}

/// Deletes a peer in the kernel, once.
///
/// # Errors
/// There is none, or the kernel refuses.
pub fn disconnect<K: Kernel>(
    engine: &mut Reconciler<K>,
    args: Args<'_>,
    now: std::time::Instant,
) -> Result<Value, Refusal> {
    let interface = args.needed("interface")?;
    let peer = args.needed_name("peer")?;
    #[cfg(feature = "tls")]
    if let Some(found) = engine
        .clients
        .disconnect(interface, &peer, &mut engine.kernel)
    {
        return match found {
            true => Ok(json!({ "ok": true })),
            false => Err(Refusal::no_peer(&peer)),
        };
    }
    let known =
        engine.interfaces.contains_key(interface) || engine.observed.contains_key(interface);
    if !known {
        return Err(Refusal::no_interface(interface));
    }
    let id = peer_id(engine, interface, &peer).ok_or_else(|| Refusal::no_peer(&peer))?;
    let there = match engine.interfaces.get(interface) {
        None => engine
            .kernel
            .peers(interface)?
            .iter()
            .any(|peer| peer.id == id),
        Some(_) => engine.kernel.peer(interface, id).is_some(),
    };
    if !there {
        return Err(Refusal::no_peer(&peer));
    }
    engine.disconnect(interface, id, now)?;
    Ok(json!({ "ok": true }))
}

/// Tells clients of a server other options while they are there.
///
/// # Errors
/// There is no such server or client, or an option cannot be told.
pub fn push_update<K: Kernel>(
    engine: &mut Reconciler<K>,
    args: Args<'_>,
) -> Result<Value, Refusal> {
    let interface = args.needed("interface")?;
    let peer = args.name("peer")?;
    let options = args.texts("options")?;
    #[cfg(feature = "tls")]
    if let Some(updated) = engine
        .clients
        .push_update(interface, peer.as_deref(), &options)
    {
        let updated = updated.map_err(|why| Refusal::argument("options", why))?;
        let nobody = updated.sent.is_empty() && updated.unable.is_empty();
        return match peer.filter(|_| nobody) {
            Some(peer) => Err(Refusal::no_peer(&peer)),
            None => Ok(json!({ "ok": true, "sent": updated.sent, "unable": updated.unable })),
        };
    }
    let _ = (engine, peer, options);
    Err(Refusal::no_interface(interface))
}

/// Takes the user's answer to the question of an interface that is a client.
///
/// # Errors
/// There is none of this name, or it asks nothing.
pub fn answer<K: Kernel>(
    engine: &mut Reconciler<K>,
    args: Args<'_>,
    now: std::time::Instant,
) -> Result<Value, Refusal> {
    let interface = args.needed("interface")?;
    let text = args.needed("answer")?;
    let user = args.text("user")?.filter(|user| !user.is_empty());
    #[cfg(feature = "tls")]
    let taken = engine.clients.answer(interface, user, text, now);
    #[cfg(not(feature = "tls"))]
    let taken: Option<Result<(), (&'static str, &'static str)>> = {
        let _ = (engine, user, text, now);
        None
    };
    match taken {
        Some(Ok(())) => Ok(json!({ "ok": true })),
        Some(Err((argument, why))) => Err(Refusal::argument(argument, why)),
        None => Err(Refusal::no_interface(interface)),
    }
}

/// The number of a peer by its section or its number.
fn peer_id<K: Kernel>(engine: &Reconciler<K>, interface: &str, peer: &str) -> Option<PeerId> {
    let managed = engine.interfaces.get(interface);
    let named = managed.and_then(|managed| managed.peers.get(peer));
    named.map(|run| run.id).or_else(|| peer.parse().ok())
}

/// The name and data of a notification.
pub fn notice(notice: &Notice) -> (&'static str, Value) {
    let mut data = json!({
        "interface": notice.interface,
        "peer": notice.peer,
        "peer_id": notice.id.get(),
        "control": notice.control.to_string(),
    });
    let (name, key, value) = match &notice.what {
        News::Up(remote) => (
            "peer.up",
            "remote",
            json!(remote.map(|remote| remote.to_string())),
        ),
        News::Down(reason) => ("peer.down", "reason", json!(reason)),
        News::Float(remote) => ("peer.float", "remote", json!(remote.to_string())),
        News::KeySwap(key) => ("key.swap", "key_id", json!(key)),
        News::Total(totals) => (
            "peer.total",
            "counters",
            json!({ "vpn": counters(&totals.vpn), "link": counters(&totals.link) }),
        ),
    };
    if let Some(map) = data.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
    (name, data)
}

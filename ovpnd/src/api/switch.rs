// SPDX-License-Identifier: GPL-2.0-or-later
//! `up` and `down`.

use std::io;

use serde_json::{Value, json};

use super::view::texts;
use super::{Refusal, Status};
use crate::config::Problem;
use crate::reconcile::Offer;
use crate::state::Route;

/// The needs of an interface that is up: addresses, routes, ways to its peers.
///
/// # Errors
/// There is no such interface, or it is not up.
pub fn offer(name: &str, started: Option<Result<Offer, String>>) -> Result<Value, Refusal> {
    let failed = |why: String| Refusal::new(Status::UnknownError, Problem::of_call(None, why));
    let started = started.ok_or_else(|| Refusal::no_interface(name))?;
    let offer = started.map_err(failed)?;
    let endpoints: Vec<_> = offer.endpoints.iter().collect();
    Ok(json!({
        "ok": true,
        "addresses": texts(&offer.addresses),
        "routes": offer.routes.iter().map(route).collect::<Vec<_>>(),
        "endpoints": texts(&endpoints),
        "dns": texts(&offer.dns),
        "dns_search": offer.search,
    }))
}

/// As `ip route` prints it.
pub(super) fn route(route: &Route) -> String {
    match route.via {
        Some(via) => format!("{} via {via}", route.dst),
        None => route.dst.to_string(),
    }
}

/// A switch that could not be kept.
pub fn not_kept(error: &io::Error) -> Refusal {
    let why = format!("cannot be kept for the next start of ovpnd: {error}");
    Refusal::new(
        Status::UnknownError,
        Problem::of_call(Some("interface"), why),
    )
}

/// An interface that cannot come up for the faults of its section.
pub fn faulty(problems: Vec<Problem>) -> Refusal {
    Refusal {
        status: Status::UnknownError,
        problems,
    }
}

/// There is no such interface.
pub fn unknown(name: &str) -> Refusal {
    Refusal::no_interface(name)
}

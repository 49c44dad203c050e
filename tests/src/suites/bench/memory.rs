// SPDX-License-Identifier: GPL-2.0-only
//! Kernel memory that an interface with many peers takes, of two modules one after the other.
//!
//! It is what /proc/meminfo calls Slab (with allocations of whole pages for it), Percpu and VmallocUsed, so it includes
//! what the allocators themselves keep behind an object, and is exact to some pages.

use std::fs;
use std::time::Duration;

use super::Candidate;
use crate::lab::{Cipher, Ns, Server, wait_for};
use crate::nl::link::{IFLA_OVPN_MODE, Links, MODE_MP};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{During, Failure, Outcome, Totals};

/// Interfaces that are made to know what one takes.
const INTERFACES: u32 = 32;
/// Numbers of peers, unless others are asked for.
const PEERS: &str = "1,256,4096,10000";

/// KiB in use, once it does not change any more.
fn used() -> Outcome<i64> {
    let read = || -> Outcome<i64> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let fields = ["Slab:", "Percpu:", "VmallocUsed:"];
        let values = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            fields.contains(&words.next()?).then(|| words.next())?
        });
        Ok(values.filter_map(|v| v.parse::<i64>().ok()).sum())
    };
    let (mut last, mut same) = (read()?, 0);
    wait_for(
        "the kernel's memory to settle",
        Duration::from_secs(20),
        || {
            std::thread::sleep(Duration::from_millis(50));
            let now = read()?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            Ok((same >= 4).then_some(now))
        },
    )
}

/// KiB of one interface without peers, and of the peers of another at each of the counts.
fn measure(candidate: &Candidate, keyed: bool, peers: &[u32]) -> Outcome<(i64, Vec<i64>)> {
    candidate.module.reload()?;
    let ns = Ns::new()?;
    let links = Links::open(&ns)?;
    let create = |name: &str| links.create(name, Some((IFLA_OVPN_MODE, &[MODE_MP])));
    // The first one fills caches.
    create("first")??;
    let before = used()?;
    for n in 0..INTERFACES {
        create(&format!("mp{n}"))??;
    }
    let one = (used()? - before) / i64::from(INTERFACES);

    let server = Server::new()?;
    let (empty, mut next, mut costs) = (used()?, 0, Vec::new());
    for &count in peers {
        for id in next..count {
            server.crowd([id])?;
            if keyed {
                let key = Cipher::Aes256.key(1, true);
                server.nl.key_new(server.ifindex, id, PRIMARY, &key)?;
            }
        }
        next = count;
        costs.push(used()? - empty);
    }
    // Not every driver deletes so many peers in reasonable time; the guest ends soon.
    std::mem::forget((server, links, ns));
    Ok((one, costs))
}

/// Measures one module: `NAME=FILE`, without keys or with them, at growing numbers of peers.
pub fn run(mut args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let usage =
        || Failure::new("memory wants NAME=FILE, --keys for a key of each peer, --peers N,N..");
    let what = args.next().ok_or_else(usage)?;
    let (mut keyed, mut counts) = (false, PEERS.to_owned());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keys" => keyed = true,
            "--peers" => counts = args.next().ok_or_else(usage)?,
            _ => return Err(usage()),
        }
    }
    let counts: Result<Vec<u32>, _> = counts.split(',').map(str::parse).collect();
    let counts = counts.map_err(|_| usage())?;
    let growing = counts.iter().zip(counts.iter().skip(1)).all(|(a, b)| a < b);
    if !growing || counts.first() == Some(&0) {
        return Err(usage());
    }
    let candidate = Candidate::parse(&what).ok_or_else(usage)?;
    let (one, costs) = measure(&candidate, keyed, &counts).during(&candidate.name)?;
    let keys = if keyed {
        "one AES-256-GCM key each"
    } else {
        "no keys"
    };
    println!("{}: interface {one} KiB; peers, {keys}:", candidate.name);
    for (count, cost) in counts.into_iter().zip(costs) {
        println!(
            "{}: {count:>6} peers {cost:>8} KiB, {:>6} B each; with the interface {:>8} KiB",
            candidate.name,
            cost * 1024 / i64::from(count),
            cost + one
        );
    }
    Ok(Totals::default())
}

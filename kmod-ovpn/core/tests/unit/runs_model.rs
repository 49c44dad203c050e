// SPDX-License-Identifier: GPL-2.0
//! Properties of the runs of any batch.

use ovpn_core::runs::{Run, MAX_BYTES};

/// Numbers of packets in the runs of a batch.
pub(crate) fn cut(lens: &[u32]) -> Vec<u16> {
    let mut runs: Vec<Run> = Vec::new();
    for &len in lens {
        if !runs.last_mut().is_some_and(|run| run.join(len)) {
            runs.push(Run::of(len));
        }
    }
    runs.iter().map(Run::count).collect()
}

/// Each packet is in one run, runs are what the kernel can cut again, and none could have been longer.
pub(crate) fn check(lens: &[u32]) {
    let mut rest = lens;
    let mut before: Option<&[u32]> = None;
    for count in cut(lens) {
        let (run, behind) = rest.split_at(count.into());
        let valid = |run: &[u32]| {
            let (&first, &last) = (run.first().unwrap(), run.last().unwrap());
            run.len() == 1
                || (run.iter().rev().skip(1).all(|&len| len == first)
                    && (1..=first).contains(&last)
                    && run.iter().map(|&len| u64::from(len)).sum::<u64>() <= MAX_BYTES.into())
        };
        assert!(valid(run), "{run:?} of {lens:?}");
        if let Some(before) = before {
            let longer: Vec<u32> = before.iter().chain(&run[..1]).copied().collect();
            assert!(
                !valid(&longer),
                "{before:?} could have had one more of {lens:?}"
            );
        }
        (before, rest) = (Some(run), behind);
    }
    assert!(rest.is_empty());
}

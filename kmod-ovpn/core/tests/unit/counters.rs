// SPDX-License-Identifier: GPL-2.0

use std::collections::HashSet;

use ovpn_core::counters::DropReason;

#[test]
fn numbers_are_indices_and_names_differ() {
    assert_eq!(DropReason::ALL.len(), DropReason::COUNT);
    for (i, reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), i);
        assert!(reason.name().len() < 32 && reason.name().is_ascii());
    }
    let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), DropReason::COUNT);
}

/// Scripts and graphs refer to these numbers and names.
#[test]
fn numbers_are_stable() {
    assert_eq!(DropReason::Short.index(), 0);
    assert_eq!(DropReason::Replay.index(), 5);
    assert_eq!(DropReason::AuthFailed.index(), 6);
    assert_eq!(DropReason::TxExhausted.index(), 14);
    assert_eq!(DropReason::TxQueueFull.index(), 21);
    assert_eq!(DropReason::Replay.name(), "rx_replay");
}

/// The documentation of the netlink extension lists the reasons in the order of their numbers.
#[test]
fn documented_in_order() {
    let yaml = include_str!("../../../uapi/ovpn-ext.yaml");
    let documented: Vec<&str> = yaml
        .lines()
        .filter_map(|line| line.trim().strip_prefix("name: "))
        .filter(|name| name.starts_with("rx_") || name.starts_with("tx_"))
        .collect();
    let names: Vec<&str> = DropReason::ALL.map(DropReason::name).to_vec();
    assert_eq!(documented, names);
}

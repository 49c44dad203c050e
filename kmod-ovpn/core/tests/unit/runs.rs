// SPDX-License-Identifier: GPL-2.0
use ovpn_core::runs::{Run, MAX_BYTES};
use proptest::prelude::*;

use crate::runs_model::{check, cut};

#[test]
fn equal_packets_go_together_and_the_last_may_be_shorter() {
    assert_eq!(cut(&[1400, 1400, 1400]), [3]);
    assert_eq!(cut(&[1400, 1400, 36]), [3]);
    assert_eq!(cut(&[40]), [1]);
    assert_eq!(cut(&[]), [0u16; 0]);
}

#[test]
fn nothing_follows_a_shorter_packet_nor_a_longer_one_a_shorter() {
    assert_eq!(cut(&[1400, 36, 1400, 1400]), [2, 2]);
    assert_eq!(cut(&[1400, 36, 36]), [2, 1]);
    assert_eq!(cut(&[36, 1400, 1400]), [1, 2]);
    assert_eq!(cut(&[3, 2, 1]), [2, 1]);
}

#[test]
fn an_empty_packet_stays_alone() {
    assert_eq!(cut(&[0, 0, 8, 0, 8]), [1, 1, 1, 1, 1]);
}

#[test]
fn a_run_fits_the_length_fields_of_its_headers() {
    let half = MAX_BYTES.div_ceil(2);
    assert_eq!(cut(&[half, half - 1]), [2]);
    assert_eq!(cut(&[half, half]), [1, 1]);
    assert_eq!(cut(&[65_535, 1]), [1, 1]);
    assert_eq!(cut(&[u32::MAX, u32::MAX]), [1, 1]);
    let many = vec![1448; 100];
    assert_eq!(cut(&many), [45, 45, 10]);
}

#[test]
fn a_run_that_was_not_begun_takes_nothing() {
    assert!(!Run::default().join(1));
}

proptest! {
    #[test]
    fn every_batch(lens in prop::collection::vec(
        prop_oneof![0u32..4, 1390u32..1402, Just(1400u32), 0u32..=65_535], 0..200)
    ) {
        check(&lens);
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! What `ovpnctl show --json` and `ubus call ovpnd status` have in common.

use ovpn_netlink::Counters;
use serde_json::{Value, json};

/// One kind of traffic.
pub fn counters(counters: &Counters) -> Value {
    json!({
        "rx_bytes": counters.rx_bytes,
        "tx_bytes": counters.tx_bytes,
        "rx_packets": counters.rx_packets,
        "tx_packets": counters.tx_packets,
    })
}

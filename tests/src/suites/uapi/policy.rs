// SPDX-License-Identifier: GPL-2.0-only
//! Malformed requests, generated from a table of what each command takes.
//!
//! The table was written from the netlink specification (Documentation/netlink/specs/ovpn.yaml, Linux 7.2) and the
//! errnos from lib/nlattr.c; mainline's driver passes every row.

use super::tree::{
    Node, Request, key_new, key_slot, key_swap, peer_del, peer_dump, peer_get, peer_new, peer_set,
};
use super::{Fixture, Report, Row};
use crate::lab::Cipher;
use crate::nl::ovpn::{PRIMARY, cmd, keyconf, keydir, peer, top};

/// Form of a value.
#[derive(Clone, Copy)]
enum Kind {
    /// Four bytes, any value, either order.
    Word,
    /// A u32 up to this.
    Max(u32),
    /// A be16 other than 0.
    Port,
    /// Exactly so many bytes.
    Exact(usize),
    /// At most so many bytes.
    AtMost(usize),
    /// A nest of what the rest of the table says.
    Nest,
}

const PEER_ID: Kind = Kind::Max(0xff_ffff);
const KEEPALIVE: Kind = Kind::Max(86400);

/// Attributes of PEER_NEW; PEER_SET takes them all but SOCKET.
const PEER_NEW: [(u16, Kind); 13] = [
    (peer::ID, PEER_ID),
    (peer::REMOTE_IPV4, Kind::Word),
    (peer::REMOTE_IPV6, Kind::Exact(16)),
    (peer::REMOTE_IPV6_SCOPE_ID, Kind::Word),
    (peer::REMOTE_PORT, Kind::Port),
    (peer::SOCKET, Kind::Word),
    (peer::VPN_IPV4, Kind::Word),
    (peer::VPN_IPV6, Kind::Exact(16)),
    (peer::LOCAL_IPV4, Kind::Word),
    (peer::LOCAL_IPV6, Kind::Exact(16)),
    (peer::KEEPALIVE_INTERVAL, KEEPALIVE),
    (peer::KEEPALIVE_TIMEOUT, KEEPALIVE),
    (peer::TX_ID, PEER_ID),
];

const KEY_NEW: [(u16, Kind); 6] = [
    (keyconf::PEER_ID, PEER_ID),
    (keyconf::SLOT, Kind::Max(1)),
    (keyconf::KEY_ID, Kind::Max(7)),
    (keyconf::CIPHER_ALG, Kind::Max(2)),
    (keyconf::ENCRYPT_DIR, Kind::Nest),
    (keyconf::DECRYPT_DIR, Kind::Nest),
];

const KEY_DIR: [(u16, Kind); 2] = [
    (keydir::CIPHER_KEY, Kind::AtMost(256)),
    (keydir::NONCE_TAIL, Kind::Exact(8)),
];

/// Highest attribute of a PEER nest.
const PEER_MAX: u16 = peer::TX_ID;

fn bad_attr(rows: &mut Vec<Row>, name: String, request: Request, errno: i32) {
    rows.push(Row {
        name,
        request,
        errno,
        report: Report::BadAttr,
    });
}

/// Rows for one attribute of the level at `path`.
fn spoil(rows: &mut Vec<Row>, good: &Request, path: &[u16], attr: u16, kind: Kind) {
    let lengths = |lens: &[usize], errno| -> Vec<(String, Vec<u8>, i32)> {
        lens.iter()
            .map(|n| (format!("{n} bytes"), vec![1; *n], errno))
            .collect()
    };
    let values = |list: &[u32]| -> Vec<(String, Vec<u8>, i32)> {
        list.iter()
            .map(|v| (format!("value {v}"), v.to_ne_bytes().to_vec(), libc::ERANGE))
            .collect()
    };
    let (payloads, valid): (Vec<_>, Option<Vec<u8>>) = match kind {
        Kind::Word => (lengths(&[0, 3, 5, 8], libc::EINVAL), Some(vec![1; 4])),
        Kind::Max(max) => {
            let mut rows = lengths(&[0, 2, 8], libc::EINVAL);
            rows.extend(values(&[max + 1, u32::MAX]));
            (rows, Some(vec![0; 4]))
        }
        Kind::Port => {
            let mut rows = lengths(&[0, 1, 4], libc::EINVAL);
            rows.push(("value 0".into(), vec![0, 0], libc::ERANGE));
            (rows, Some(vec![1; 2]))
        }
        Kind::Exact(n) => (lengths(&[0, n - 1, n + 1], libc::ERANGE), Some(vec![1; n])),
        Kind::AtMost(n) => (lengths(&[n + 1], libc::ERANGE), Some(vec![1; n])),
        Kind::Nest => (lengths(&[1, 3], libc::ERANGE), None),
    };
    let place = format!("{path:?} attribute {attr}");
    for (what, payload, errno) in payloads {
        let mut node = Node::bytes(attr, &payload).marked();
        if matches!(kind, Kind::Nest) {
            node = node.flip_flag();
        }
        bad_attr(
            rows,
            format!("{place}: {what}"),
            good.clone().with(path, node),
            errno,
        );
    }
    match valid {
        Some(valid) => {
            let node = Node::bytes(attr, &valid).flip_flag().marked();
            let name = format!("{place}: NLA_F_NESTED on a value");
            bad_attr(rows, name, good.clone().with(path, node), libc::EINVAL);
        }
        None => {
            let request = good.clone().flip_flag(&[path, &[attr]].concat());
            bad_attr(
                rows,
                format!("{place}: NLA_F_NESTED missing"),
                request,
                libc::EINVAL,
            );
        }
    }
}

/// Rows for a level as a whole: types that do not belong there, and bytes that are no attribute.
fn foreign(rows: &mut Vec<Row>, good: &Request, path: &[u16], known: &[u16], max: u16) {
    for attr in (0..=max + 1)
        .chain([100, 0x3fff])
        .filter(|a| !known.contains(a))
    {
        let request = good.clone().with(path, Node::u32(attr, 1).marked());
        bad_attr(
            rows,
            format!("{path:?} attribute {attr}: does not belong here"),
            request,
            libc::EINVAL,
        );
    }
    if !path.is_empty() {
        for (what, bytes) in [
            ("two stray bytes", &[0u8, 0][..]),
            ("an attribute longer than its nest", &[64, 0, 1, 0]),
        ] {
            let request = good.clone().trailing(path, bytes);
            rows.push(Row {
                name: format!("{path:?}: {what}"),
                request,
                errno: libc::EINVAL,
                report: Report::CoreText,
            });
        }
    }
}

/// Rows for attributes that the command cannot do without.
fn required(rows: &mut Vec<Row>, good: &Request, path: &[u16], attrs: &[u16]) {
    for attr in attrs {
        rows.push(Row {
            name: format!("{path:?} attribute {attr}: missing"),
            request: good.clone().without(path, *attr).mark(path),
            errno: libc::EINVAL,
            report: Report::Missing((*attr).into()),
        });
    }
}

/// Rows that any command has: the device, and the nest itself.
fn device(rows: &mut Vec<Row>, fx: &Fixture, good: &Request, nest: Option<u16>) {
    required(rows, good, &[], &[top::IFINDEX]);
    required(rows, good, &[], nest.as_slice());
    spoil(rows, good, &[], top::IFINDEX, Kind::Word);
    for (what, index) in [("0", 0), ("unknown", 0x7fff_fff0), ("negative", u32::MAX)] {
        rows.push(Row {
            name: format!("ifindex {what}"),
            request: good.clone().with(&[], Node::u32(top::IFINDEX, index)),
            errno: libc::ENODEV,
            report: Report::Text,
        });
    }
    rows.push(Row {
        name: "ifindex of a device that is not ovpn".into(),
        request: good
            .clone()
            .with(&[], Node::u32(top::IFINDEX, fx.other_ifindex).marked()),
        errno: libc::EINVAL,
        report: Report::TextAndBadAttr,
    });
    if let Some(nest) = nest {
        spoil(rows, good, &[], nest, Kind::Nest);
    }
    let mut known = vec![top::IFINDEX];
    known.extend(nest);
    foreign(rows, good, &[], &known, nest.unwrap_or(top::IFINDEX));
}

fn level(rows: &mut Vec<Row>, good: &Request, path: &[u16], table: &[(u16, Kind)], max: u16) {
    for (attr, kind) in table {
        spoil(rows, good, path, *attr, *kind);
    }
    foreign(
        rows,
        good,
        path,
        &table.iter().map(|(a, _)| *a).collect::<Vec<_>>(),
        max,
    );
}

/// PEER_NEW.
pub fn rows_peer_new(fx: &Fixture) -> Vec<Row> {
    let (mut rows, good, path) = (Vec::new(), peer_new(fx), [top::PEER]);
    device(&mut rows, fx, &good, Some(top::PEER));
    required(&mut rows, &good, &path, &[peer::ID, peer::SOCKET]);
    level(&mut rows, &good, &path, &PEER_NEW, PEER_MAX);
    rows
}

/// PEER_SET.
pub fn rows_peer_set(fx: &Fixture) -> Vec<Row> {
    let (mut rows, good, path) = (Vec::new(), peer_set(fx), [top::PEER]);
    device(&mut rows, fx, &good, Some(top::PEER));
    required(&mut rows, &good, &path, &[peer::ID]);
    let table: Vec<_> = PEER_NEW
        .into_iter()
        .filter(|(attr, _)| *attr != peer::SOCKET)
        .collect();
    level(&mut rows, &good, &path, &table, PEER_MAX);
    rows
}

/// PEER_GET of one peer, and as a dump.
pub fn rows_peer_get(fx: &Fixture) -> Vec<Row> {
    let (mut rows, good, path) = (Vec::new(), peer_get(fx), [top::PEER]);
    device(&mut rows, fx, &good, Some(top::PEER));
    required(&mut rows, &good, &path, &[peer::ID]);
    spoil(&mut rows, &good, &path, peer::ID, PEER_ID);
    for (attr, kind) in PEER_NEW.into_iter().filter(|(attr, _)| *attr != peer::ID) {
        // Well-formed, so that it is the surplus that is refused.
        let size = match kind {
            Kind::Exact(n) => n,
            Kind::Port => 2,
            _ => 4,
        };
        let mut value = vec![0; size];
        value.splice(..2, [0, 1]);
        let value = if matches!(kind, Kind::Max(_)) {
            1u32.to_ne_bytes().to_vec()
        } else {
            value
        };
        rows.push(Row {
            name: format!("surplus attribute {attr}"),
            request: good.clone().with(&path, Node::bytes(attr, &value)),
            errno: libc::EINVAL,
            // Mainline's policy takes them and its code refuses them; a policy that does not take them is as good.
            report: Report::CoreText,
        });
    }
    device(&mut rows, fx, &peer_dump(fx), None);
    rows
}

/// PEER_DEL.
pub fn rows_peer_del(fx: &Fixture) -> Vec<Row> {
    let (mut rows, good, path) = (Vec::new(), peer_del(fx), [top::PEER]);
    device(&mut rows, fx, &good, Some(top::PEER));
    required(&mut rows, &good, &path, &[peer::ID]);
    level(&mut rows, &good, &path, &[(peer::ID, PEER_ID)], PEER_MAX);
    rows
}

/// KEY_NEW.
pub fn rows_key_new(fx: &Fixture) -> Vec<Row> {
    let (mut rows, good, path) = (Vec::new(), key_new(fx, Cipher::Aes256), [top::KEYCONF]);
    device(&mut rows, fx, &good, Some(top::KEYCONF));
    let all: Vec<u16> = KEY_NEW.iter().map(|(attr, _)| *attr).collect();
    required(&mut rows, &good, &path, &all);
    level(&mut rows, &good, &path, &KEY_NEW, keyconf::DECRYPT_DIR);
    for direction in [keyconf::ENCRYPT_DIR, keyconf::DECRYPT_DIR] {
        let path = [top::KEYCONF, direction];
        required(
            &mut rows,
            &good,
            &path,
            &[keydir::CIPHER_KEY, keydir::NONCE_TAIL],
        );
        level(&mut rows, &good, &path, &KEY_DIR, keydir::NONCE_TAIL);
    }
    rows
}

/// KEY_GET, KEY_DEL, KEY_SWAP.
pub fn rows_key_rest(fx: &Fixture) -> Vec<Row> {
    let (mut rows, path) = (Vec::new(), [top::KEYCONF]);
    let two = [(keyconf::PEER_ID, PEER_ID), (keyconf::SLOT, Kind::Max(1))];
    let get = key_slot(fx, cmd::KEY_GET, PRIMARY);
    device(&mut rows, fx, &get, Some(top::KEYCONF));
    required(&mut rows, &get, &path, &[keyconf::PEER_ID, keyconf::SLOT]);
    for (attr, kind) in two {
        spoil(&mut rows, &get, &path, attr, kind);
    }
    for attr in [keyconf::KEY_ID, keyconf::CIPHER_ALG] {
        rows.push(Row {
            name: format!("KEY_GET: surplus attribute {attr}"),
            request: get.clone().with(&path, Node::u32(attr, 1)),
            errno: libc::EINVAL,
            report: Report::CoreText,
        });
    }
    let del = key_slot(fx, cmd::KEY_DEL, PRIMARY);
    device(&mut rows, fx, &del, Some(top::KEYCONF));
    required(&mut rows, &del, &path, &[keyconf::PEER_ID, keyconf::SLOT]);
    level(&mut rows, &del, &path, &two, keyconf::DECRYPT_DIR);
    let swap = key_swap(fx);
    device(&mut rows, fx, &swap, Some(top::KEYCONF));
    required(&mut rows, &swap, &path, &[keyconf::PEER_ID]);
    level(
        &mut rows,
        &swap,
        &path,
        &[(keyconf::PEER_ID, PEER_ID)],
        keyconf::DECRYPT_DIR,
    );
    rows
}

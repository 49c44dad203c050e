// SPDX-License-Identifier: GPL-2.0-only
//! Requests as trees of attributes, so that a table can take a good one and spoil one spot of it.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::Fixture;
use crate::lab::Cipher;
use crate::nl::ovpn::{KeyDir, Ovpn, SECONDARY, cmd, keyconf, keydir, peer, top};
use crate::nl::{Msg, NLA_F_NESTED};

/// Content of an attribute.
#[derive(Debug, Clone)]
pub enum Body {
    /// A value.
    Bytes(Vec<u8>),
    /// Attributes.
    Nest(Vec<Node>),
    /// Attributes, then bytes that are none.
    Trailing(Vec<Node>, Vec<u8>),
}

/// An attribute.
#[derive(Debug, Clone)]
pub struct Node {
    kind: u16,
    body: Body,
    nested_flag: bool,
    mark: bool,
}

impl Node {
    /// A value.
    pub fn bytes(kind: u16, bytes: &[u8]) -> Self {
        Self {
            kind,
            body: Body::Bytes(bytes.to_vec()),
            nested_flag: false,
            mark: false,
        }
    }

    /// A u32 in the machine's order.
    pub fn u32(kind: u16, value: u32) -> Self {
        Self::bytes(kind, &value.to_ne_bytes())
    }

    /// A nest.
    pub fn nest(kind: u16, nodes: Vec<Self>) -> Self {
        Self {
            kind,
            body: Body::Nest(nodes),
            nested_flag: true,
            mark: false,
        }
    }

    /// The same with its NLA_F_NESTED flag inverted.
    pub fn flip_flag(self) -> Self {
        Self {
            nested_flag: !self.nested_flag,
            ..self
        }
    }

    /// The same, to be found again by its offset.
    pub fn marked(self) -> Self {
        Self { mark: true, ..self }
    }

    fn build(&self, msg: &mut Msg, mark: &mut Option<u32>) {
        if self.mark {
            *mark = Some(msg.offset());
        }
        let kind = self.kind | if self.nested_flag { NLA_F_NESTED } else { 0 };
        match &self.body {
            Body::Bytes(bytes) => {
                msg.put(kind, bytes);
            }
            Body::Nest(nodes) => {
                msg.nest_as(kind, |m| nodes.iter().for_each(|n| n.build(m, mark)));
            }
            Body::Trailing(nodes, rest) => {
                msg.nest_as(kind, |m| {
                    nodes.iter().for_each(|n| n.build(m, mark));
                    m.raw(rest);
                });
            }
        }
    }
}

/// A whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Command.
    pub command: u8,
    /// NLM_F_ flags on top of REQUEST and ACK.
    pub flags: i32,
    /// Top-level attributes.
    pub nodes: Vec<Node>,
}

impl Request {
    fn new(command: u8, ifindex: u32, nest: Option<(u16, Vec<Node>)>) -> Self {
        let mut nodes = vec![Node::u32(top::IFINDEX, ifindex)];
        nodes.extend(nest.map(|(kind, nodes)| Node::nest(kind, nodes)));
        Self {
            command,
            flags: 0,
            nodes,
        }
    }

    /// Attributes at the end of `path`, each element of which is the type of a nest.
    pub fn level(&mut self, path: &[u16]) -> &mut Vec<Node> {
        let mut level = &mut self.nodes;
        for kind in path {
            let nest = level
                .iter_mut()
                .find(|n| n.kind == *kind)
                .expect("a path of the template");
            level = match &mut nest.body {
                Body::Nest(nodes) => nodes,
                _ => unreachable!("paths lead through nests"),
            };
        }
        level
    }

    /// Marks the nest at the end of `path`.
    pub fn mark(mut self, path: &[u16]) -> Self {
        if let Some((last, parents)) = path.split_last() {
            self.level(parents)
                .iter_mut()
                .filter(|n| n.kind == *last)
                .for_each(|n| n.mark = true);
        }
        self
    }

    /// Without attributes of this type at the end of `path`.
    pub fn without(mut self, path: &[u16], kind: u16) -> Self {
        self.level(path).retain(|n| n.kind != kind);
        self
    }

    /// With this attribute at the end of `path`, in place of others of its type.
    pub fn with(mut self, path: &[u16], node: Node) -> Self {
        let level = self.level(path);
        level.retain(|n| n.kind != node.kind);
        level.push(node);
        self
    }

    /// With bytes after the last attribute of the nest at the end of `path`.
    pub fn trailing(mut self, path: &[u16], bytes: &[u8]) -> Self {
        if let Some((last, parents)) = path.split_last() {
            for nest in self.level(parents).iter_mut().filter(|n| n.kind == *last) {
                if let Body::Nest(nodes) = &nest.body {
                    nest.body = Body::Trailing(nodes.clone(), bytes.to_vec());
                }
            }
        }
        self
    }

    /// With the NLA_F_NESTED flag of the last element of `path` inverted, and that attribute marked.
    pub fn flip_flag(mut self, path: &[u16]) -> Self {
        if let Some((last, parents)) = path.split_last() {
            for node in self.level(parents).iter_mut().filter(|n| n.kind == *last) {
                *node = node.clone().flip_flag().marked();
            }
        }
        self
    }

    /// The message, and the offset of the marked attribute.
    pub fn build(&self, nl: &Ovpn) -> (Msg, Option<u32>) {
        let mut msg = nl.bare(self.command, self.flags);
        let mut mark = None;
        self.nodes.iter().for_each(|n| n.build(&mut msg, &mut mark));
        (msg, mark)
    }
}

/// Attributes of a remote address.
pub fn remote(addr: SocketAddr) -> Vec<Node> {
    let ip = match addr.ip() {
        std::net::IpAddr::V4(ip) => Node::bytes(peer::REMOTE_IPV4, &ip.octets()),
        std::net::IpAddr::V6(ip) => Node::bytes(peer::REMOTE_IPV6, &ip.octets()),
    };
    vec![
        ip,
        Node::bytes(peer::REMOTE_PORT, &addr.port().to_be_bytes()),
    ]
}

/// A KEYDIR nest.
pub fn dir(kind: u16, dir: &KeyDir) -> Node {
    Node::nest(
        kind,
        vec![
            Node::bytes(keydir::CIPHER_KEY, &dir.key),
            Node::bytes(keydir::NONCE_TAIL, &dir.tail),
        ],
    )
}

/// PEER_NEW that would replace the fixture's peer by one on its spare socket.
pub fn peer_new(fx: &Fixture) -> Request {
    let mut nodes = vec![
        Node::u32(peer::ID, 6),
        Node::u32(peer::SOCKET, fx.spare.as_raw_fd() as u32),
    ];
    nodes.extend(remote(Fixture::REMOTE));
    Request::new(cmd::PEER_NEW, fx.ifindex, Some((top::PEER, nodes)))
}

/// PEER_SET that would change the fixture's peer.
pub fn peer_set(fx: &Fixture) -> Request {
    let mut nodes = vec![Node::u32(peer::ID, Fixture::ID)];
    nodes.extend(remote(Fixture::OTHER_REMOTE));
    Request::new(cmd::PEER_SET, fx.ifindex, Some((top::PEER, nodes)))
}

/// PEER_GET of the fixture's peer.
pub fn peer_get(fx: &Fixture) -> Request {
    Request::new(
        cmd::PEER_GET,
        fx.ifindex,
        Some((top::PEER, vec![Node::u32(peer::ID, Fixture::ID)])),
    )
}

/// PEER_GET as a dump.
pub fn peer_dump(fx: &Fixture) -> Request {
    Request {
        flags: libc::NLM_F_DUMP,
        ..Request::new(cmd::PEER_GET, fx.ifindex, None)
    }
}

/// PEER_DEL of the fixture's peer.
pub fn peer_del(fx: &Fixture) -> Request {
    Request::new(
        cmd::PEER_DEL,
        fx.ifindex,
        Some((top::PEER, vec![Node::u32(peer::ID, Fixture::ID)])),
    )
}

/// KEY_NEW into the fixture's empty secondary slot.
pub fn key_new(fx: &Fixture, cipher: Cipher) -> Request {
    let key = cipher.key(2, true);
    let nodes = vec![
        Node::u32(keyconf::PEER_ID, Fixture::ID),
        Node::u32(keyconf::SLOT, SECONDARY),
        Node::u32(keyconf::KEY_ID, key.key_id),
        Node::u32(keyconf::CIPHER_ALG, key.alg),
        dir(keyconf::ENCRYPT_DIR, &key.encrypt),
        dir(keyconf::DECRYPT_DIR, &key.decrypt),
    ];
    Request::new(cmd::KEY_NEW, fx.ifindex, Some((top::KEYCONF, nodes)))
}

/// KEY_GET, KEY_DEL of a slot of the fixture's peer.
pub fn key_slot(fx: &Fixture, command: u8, slot: u32) -> Request {
    let nodes = vec![
        Node::u32(keyconf::PEER_ID, Fixture::ID),
        Node::u32(keyconf::SLOT, slot),
    ];
    Request::new(command, fx.ifindex, Some((top::KEYCONF, nodes)))
}

/// KEY_SWAP of the fixture's peer.
pub fn key_swap(fx: &Fixture) -> Request {
    Request::new(
        cmd::KEY_SWAP,
        fx.ifindex,
        Some((top::KEYCONF, vec![Node::u32(keyconf::PEER_ID, Fixture::ID)])),
    )
}

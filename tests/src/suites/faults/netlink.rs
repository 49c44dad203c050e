// SPDX-License-Identifier: GPL-2.0-only
//! Requests made by chance from the family's specification: whole ones, bent ones, broken ones, with real sockets in
//! them. A refused request must change nothing; afterwards everything must still work.

use std::cell::Cell;
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;

use super::spec::{Attr, Kind, Op, Spec};
use super::tcp::Listener;
use super::{Random, figure, rounds};
use crate::lab::{Pair, Tunnel};
use crate::nl::link::{IFLA_OVPN_MODE, Links};
use crate::nl::ovpn::{Ovpn, peer};
use crate::nl::{Msg, NLA_F_NESTED, Sock};
use crate::tap::{During, Outcome};
use crate::{Ctx, check, check_eq, note};

const SEED: u64 = 0xf022_ba11;
const MESSAGES: usize = 100_000;
/// Refused requests after which the state is looked at again. A look takes more requests than that, so that it is not
/// known all the time: after a change it is learned anew at one message in so many.
const LOOK_EVERY: u32 = 16;
const LEARN_ONE_IN: usize = 64;
/// Links are slow to make and to delete: one message in so many.
const LINK_ONE_IN: usize = 250;
/// Marks an attribute as being in network byte order (include/uapi/linux/netlink.h).
const NLA_F_NET_BYTEORDER: u16 = 1 << 14;

/// Descriptors of all kinds, kept open.
struct Sockets {
    datagrams: Vec<UdpSocket>,
    streams: Vec<(TcpStream, TcpStream)>,
    _listener: TcpListener,
    _local: UnixDatagram,
    _file: File,
    fds: Vec<RawFd>,
}

impl Sockets {
    fn new(ns: &Pair) -> Outcome<Self> {
        let datagrams = [(false, 1194), (true, 1195), (false, 1196)]
            .into_iter()
            .map(|(v6, port)| ns.a.udp(v6, port))
            .collect::<Outcome<Vec<_>>>()?;
        let accept = Listener::new(&ns.a, false)?;
        let streams = (0..3)
            .map(|_| accept.connect(&ns.b))
            .collect::<Outcome<Vec<_>>>()?;
        let listener = ns.a.enter(|| Ok(TcpListener::bind("0.0.0.0:99")?))?;
        let (local, file) = (UnixDatagram::unbound()?, File::open("/dev/null")?);
        let odd = [
            listener.as_raw_fd(),
            local.as_raw_fd(),
            file.as_raw_fd(),
            -1,
            9999,
        ];
        let fds = datagrams
            .iter()
            .map(AsRawFd::as_raw_fd)
            // Most requests get a socket that fits.
            .chain(datagrams.iter().map(AsRawFd::as_raw_fd))
            .chain(streams.iter().map(|(near, _)| near.as_raw_fd()))
            .chain(odd)
            .collect();
        Ok(Self {
            datagrams,
            streams,
            _listener: listener,
            _local: local,
            _file: file,
            fds,
        })
    }
}

/// Devices that the requests are about, and what is known of them.
struct Lab {
    nl: Ovpn,
    raw: Sock,
    route: Sock,
    devices: Vec<u32>,
    sockets: Sockets,
    spec: Spec,
    random: Random,
    /// Shape of the request under construction.
    shape: Cell<Shape>,
}

/// Values that make a request's attributes fit together.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Whether they shall.
    sane: bool,
    /// Index into the devices; the second is in MP mode.
    device: usize,
    v6: bool,
    tcp: bool,
    local: bool,
    keepalive: bool,
}

impl Shape {
    fn new(random: &Random, sane: bool) -> Self {
        Self {
            sane,
            device: random.below(2),
            v6: random.one_in(2),
            tcp: random.one_in(4),
            local: random.one_in(4),
            keepalive: random.one_in(3),
        }
    }

    /// Whether a request of this shape has the attribute; none where that is left to chance.
    fn has(&self, name: &str) -> Option<bool> {
        if !self.sane {
            return None;
        }
        Some(match name {
            "remote-ipv6-scope-id" => false,
            "remote-port" => !self.tcp,
            "remote-ipv4" => !self.tcp && !self.v6,
            "remote-ipv6" => !self.tcp && self.v6,
            "local-ipv4" => !self.tcp && self.local && !self.v6,
            "local-ipv6" => !self.tcp && self.local && self.v6,
            "vpn-ipv4" | "vpn-ipv6" => self.device == 1,
            _ if name.starts_with("keepalive-") => self.keepalive,
            _ => return None,
        })
    }
}

impl Lab {
    fn new(ns: &Pair) -> Outcome<Self> {
        let links = Links::open(&ns.a)?;
        let mut devices = Vec::new();
        for (name, mode) in [("fuzz0", 0), ("fuzz1", 1)] {
            links
                .create(name, Some((IFLA_OVPN_MODE, &[mode])))?
                .during(name)?;
            devices.extend(ns.a.ifindex(name)?);
            ns.a.ip(&format!(
                "link set {name} addrgenmode none\nlink set {name} up"
            ))?;
        }
        Ok(Self {
            nl: Ovpn::open(&ns.a)?,
            raw: Sock::open(&ns.a, libc::NETLINK_GENERIC)?,
            route: Sock::open(&ns.a, libc::NETLINK_ROUTE)?,
            devices,
            sockets: Sockets::new(ns)?,
            spec: Spec::read()?,
            random: Random::new(SEED),
            shape: Cell::default(),
        })
    }

    /// Bytes that an attribute of this kind may have, most of them as they should be.
    fn value(&self, attr: &Attr) -> Vec<u8> {
        let random = &self.random;
        let shape = self.shape.get();
        let number = match attr.name.as_str() {
            "ifindex" if shape.sane => self.devices.get(shape.device).copied().map_or(1, u64::from),
            "socket" if shape.sane => {
                let (datagrams, streams) = (&self.sockets.datagrams, &self.sockets.streams);
                let fd = match shape.tcp {
                    true => random.pick(streams).map(|(near, _)| near.as_raw_fd()),
                    false => random.pick(datagrams).map(AsRawFd::as_raw_fd),
                };
                fd.map_or(0, |fd| fd as u64)
            }
            "keepalive-timeout" | "keepalive-interval" | "remote-port" if shape.sane => 3600,
            "tx-id" if shape.sane => random.below(1 << 24) as u64,
            "cipher-alg" if shape.sane => 1 + random.below(2) as u64,
            "slot" | "key-id" if shape.sane => random.below(2) as u64,
            "cipher-key" if shape.sane => return random.bytes(32),
            "ifindex" if !random.one_in(20) => {
                random.pick(&self.devices).copied().map_or(1, u64::from)
            }
            "socket" => random
                .pick(&self.sockets.fds)
                .map_or(0, |fd| *fd as u32 as u64),
            // Few ids, so that requests meet.
            "id" | "peer-id" if !random.one_in(20) => 1 + random.below(4) as u64,
            // A peer that expires would change the state by itself.
            "keepalive-timeout" | "keepalive-interval" => *random
                .pick(&[0, 3600, 86400, 86401, u64::from(u32::MAX)])
                .unwrap_or(&0),
            "remote-port" if !random.one_in(10) => 1 + random.below(65535) as u64,
            "remote-ipv4" | "vpn-ipv4" | "local-ipv4" if !random.one_in(10) => {
                0x0a0a_0000 + random.below(4) as u64
            }
            _ => match &attr.kind {
                Kind::Number { max: Some(max), .. } => match random.below(8) {
                    0 => max + 1,
                    1 => *max,
                    2 => u64::MAX,
                    _ => random.next() % (max + 1),
                },
                _ => match random.below(4) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => random.next(),
                },
            },
        };
        match &attr.kind {
            Kind::Number {
                bytes, big: true, ..
            } => {
                let all = number.to_be_bytes();
                all.get(8 - bytes..).unwrap_or_default().to_vec()
            }
            Kind::Number { bytes, .. } => number
                .to_le_bytes()
                .get(..*bytes)
                .unwrap_or_default()
                .to_vec(),
            Kind::Bytes {
                exactly: Some(n), ..
            } if !random.one_in(20) => random.bytes(*n),
            // Ciphers want one of three lengths.
            Kind::Bytes { .. } if !random.one_in(8) => {
                random.bytes(*random.pick(&[16, 24, 32, 32]).unwrap_or(&32))
            }
            Kind::Bytes { most, .. } => random.bytes(random.below(most * 5 / 4 + 2)),
            Kind::Nest(_) => random.bytes(random.below(64)),
        }
    }

    /// Appends a level of attributes; `faults` is how many in a thousand go wrong.
    fn fill(&self, msg: &mut Msg, level: &str, takes: Option<&[String]>, faults: usize) {
        let random = &self.random;
        let wrong = || random.below(1000) < faults;
        for attr in self.spec.level(level) {
            let wanted = takes.is_none_or(|takes| takes.contains(&attr.name));
            // Of a nest's attributes a request names some; those that always belong there more often.
            let needed = ["id", "peer-id", "ifindex", "slot", "key-id", "cipher-alg"];
            let needed = takes.is_some() || needed.contains(&attr.name.as_str());
            let there = needed
                || matches!(attr.kind, Kind::Nest(_))
                || attr.name.contains("key")
                || attr.name == "nonce-tail"
                || !random.one_in(2);
            let there = self.shape.get().has(&attr.name).unwrap_or(there);
            if (wanted && there) == wrong() {
                continue;
            }
            let mut number = attr.number;
            if wrong() {
                number = random.below(300) as u16;
            }
            match &attr.kind {
                Kind::Nest(inner) if !wrong() => {
                    let bits = match wrong() {
                        true => 0,
                        false => NLA_F_NESTED,
                    };
                    let inner = match wrong() {
                        true => level,
                        false => inner,
                    };
                    if msg.offset() < 4000 {
                        msg.nest_as(number | bits, |m| self.fill(m, inner, None, faults));
                    }
                }
                _ => {
                    let mut value = self.value(attr);
                    if wrong() {
                        value.truncate(random.below(value.len() + 1));
                    }
                    if wrong() {
                        value.extend(random.bytes(1 + random.below(40)));
                    }
                    if wrong() {
                        number |= [NLA_F_NESTED, NLA_F_NET_BYTEORDER][random.below(2)];
                    }
                    msg.put(number, &value);
                    if wrong() {
                        msg.put(number, &value);
                    }
                }
            }
        }
    }

    fn message(&self, op: &Op) -> Vec<u8> {
        let random = &self.random;
        // Half of them are meant well.
        let faults = [0, 0, 0, 10, 40, 200][random.below(6)];
        self.shape.set(Shape::new(random, !random.one_in(3)));
        let mut number = op.number;
        let mut flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        if op.dumps || random.below(1000) < faults {
            flags |= libc::NLM_F_DUMP;
        }
        if random.below(1000) < faults {
            flags = random.next() as u16 as i32 | libc::NLM_F_REQUEST;
        }
        if random.below(1000) < faults {
            number = random.next() as u8;
        }
        let version = [1, 1, 0, 0x80, 0xff][random.below(5)];
        let reserved = match random.below(1000) < faults {
            true => random.next() as u8,
            false => 0,
        };
        let header = [number, version, reserved, 0];
        let mut msg = Msg::new(self.nl.family, flags as u16, &header);
        self.fill(&mut msg, &op.level, Some(&op.takes), faults);
        let mut bytes = msg.finish(1 + random.next() as u32 % 0xffff);
        self.bend(&mut bytes, faults);
        bytes
    }

    /// Faults below the level of attributes.
    fn bend(&self, bytes: &mut Vec<u8>, faults: usize) {
        let random = &self.random;
        if random.below(1000) < faults {
            // The length stays: the last attribute, or the message, ends behind its end.
            bytes.truncate(16 + random.below(bytes.len() - 15));
            if random.one_in(2) {
                let len = bytes.len() as u32;
                bytes.splice(..4, len.to_ne_bytes());
            }
        }
        if random.below(1000) < faults {
            // A flipped bit behind the header, attribute lengths included.
            let at = 20 + random.below(bytes.len().saturating_sub(20));
            let bit = 1 << random.below(8);
            bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= bit);
        }
        if random.below(1000) < faults {
            bytes.extend(random.bytes(random.below(200)));
            let len = bytes.len() as u32;
            bytes.splice(..4, len.to_ne_bytes());
        }
    }

    /// A message about a link of the driver's kind, as bent as the others.
    fn link(&self) -> Vec<u8> {
        let random = &self.random;
        let name = format!("fuzz{}", random.below(5));
        let mode = random.bytes([0, 1, 1, 1, 1, 2, 4][random.below(7)]);
        let mode: Vec<u8> = mode.iter().map(|b| b % 3).collect();
        let kind = [IFLA_OVPN_MODE, IFLA_OVPN_MODE, 2, 0, 50][random.below(5)];
        let data = (!random.one_in(4)).then_some((kind, mode.as_slice()));
        let names = ["", "a/b", "sixteen-letters-", ".", "%d", "fuzz%d"];
        let mut bytes = match random.below(8) {
            0 => Links::creation(names[random.below(names.len())], data),
            // Not the two that the other requests are about.
            1 => Links::deletion(1000 + random.below(3) as u32),
            _ => Links::creation(&name, data),
        }
        .finish(7);
        self.bend(&mut bytes, if random.one_in(3) { 300 } else { 0 });
        bytes
    }

    /// All that the driver tells about the devices, but for what changes by itself.
    fn state(&self) -> Outcome<Vec<String>> {
        let mut state = Vec::new();
        for device in &self.devices {
            for attrs in self.nl.peer_dump(*device)? {
                let id = attrs.u32(peer::ID).unwrap_or(0);
                let still = attrs.0.iter().filter(|(kind, _)| {
                    !(peer::VPN_RX_BYTES..=peer::LINK_TX_PACKETS).contains(kind)
                });
                let still: Vec<_> = still.collect();
                let keys = [0, 1].map(|slot| self.nl.key_get(*device, id, slot));
                let [primary, secondary] = keys;
                state.push(format!(
                    "{device}: {still:?} {:?} {:?}",
                    primary?.ok(),
                    secondary?.ok()
                ));
            }
        }
        Ok(state)
    }
}

pub fn fuzz(_: &Ctx) -> Outcome {
    let ns = Pair::new()?;
    let lab = Lab::new(&ns)?;
    let (mut accepted, mut refused, mut silent, mut links, mut looked) =
        (0u32, 0u32, 0u32, 0u32, 0u32);
    let mut by_op = std::collections::BTreeMap::<u8, [u32; 2]>::new();
    // The state since the last request that was accepted, if it has been looked at.
    let mut known: Option<Vec<String>> = None;
    let mut since = 0;
    let messages = rounds(MESSAGES);
    for n in 0..messages {
        let during = || format!("message {n}, seed {SEED:#x}");
        if lab.random.one_in(LINK_ONE_IN) {
            lab.route.attempt_raw(&lab.link()).during(during())?;
            links += 1;
            continue;
        }
        let Some(op) = lab.random.pick(&lab.spec.ops) else {
            break;
        };
        if known.is_none() && lab.random.one_in(LEARN_ONE_IN) {
            known = Some(lab.state().during(during())?);
        }
        let verdict = lab.raw.attempt_raw(&lab.message(op)).during(during())?;
        let count = by_op.entry(op.number).or_default();
        match verdict {
            Some(Err(_)) => {
                refused += 1;
                since += u32::from(known.is_some());
                count[1] += 1;
            }
            Some(Ok(())) => {
                accepted += 1;
                count[0] += 1;
                // Answers change nothing: what was known stays known.
                if !op.dumps {
                    (known, since) = (None, 0);
                }
            }
            // Without NLM_F_ACK success is silent, and so is a message that is none.
            None => {
                silent += 1;
                (known, since) = (None, 0);
            }
        }
        if since >= LOOK_EVERY
            && let Some(before) = &known
        {
            looked += since;
            since = 0;
            check_eq!(
                &lab.state()?,
                before,
                "{}: state after refusals only",
                during()
            );
        }
    }
    note!("requests by operation, accepted and refused: {by_op:?}");
    figure(
        "netlink fuzz: messages",
        format!(
            "{messages} (seed {SEED:#x}): {accepted} accepted, {refused} refused, {silent} unanswered, {links} for links"
        ),
    );
    figure("netlink fuzz: refusals shown to change nothing", looked);
    check!(
        accepted as usize > messages / 50,
        "only {accepted} requests were accepted"
    );
    check!(
        refused as usize > messages / 10,
        "only {refused} requests were refused"
    );
    drop((lab.sockets.datagrams, lab.sockets.streams));
    Tunnel::simple()?.works(100).during("a tunnel afterwards")
}

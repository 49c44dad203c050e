// SPDX-License-Identifier: GPL-2.0-only
//! The netlink interface: every request that must be refused, with the exact errno and report, and the state untouched;
//! and what the accepted ones must answer.

mod good;
mod link;
mod mp;
mod policy;
mod rules;
mod tree;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use crate::lab::{Cipher, Ns};
use crate::nl::link::Links;
use crate::nl::ovpn::{Ovpn, PRIMARY, SECONDARY};
use crate::nl::{Attrs, Refusal, errno_name};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, note};
use tree::Request;

/// The kernel's explanation beside the errno.
#[derive(Debug, Clone, Copy)]
enum Report {
    /// A text of the driver's own.
    Text,
    /// Any text, be it the netlink core's.
    CoreText,
    /// Any text, and the offset of the marked attribute.
    BadAttr,
    /// A text of the driver's own, and the offset of the marked attribute.
    TextAndBadAttr,
    /// This attribute type, missing in the marked nest, or at top level when none is marked.
    Missing(u32),
    /// Nothing: refused before any attribute is looked at.
    Nothing,
}

/// A request and the refusal that it must meet.
struct Row {
    name: String,
    request: Request,
    errno: i32,
    report: Report,
}

impl Row {
    fn new(name: impl Into<String>, request: Request, errno: i32, report: Report) -> Self {
        Self {
            name: name.into(),
            request,
            errno,
            report,
        }
    }
}

/// A namespace with a P2P device that has a peer with one key, and things to go wrong with.
struct Fixture {
    ns: Ns,
    nl: Ovpn,
    links: Links,
    ifindex: u32,
    /// A device of another kind.
    other_ifindex: u32,
    /// The peer's socket.
    _sock: UdpSocket,
    /// A UDP socket that no device uses.
    spare: UdpSocket,
    /// A UDP socket that another ovpn device uses, and that device's index.
    taken: (UdpSocket, u32),
}

/// Everything that requests can change, as netlink shows it.
#[derive(Debug, PartialEq)]
struct State {
    peers: Vec<Attrs>,
    keys: [Result<Attrs, Refusal>; 2],
    flags: u32,
}

impl Fixture {
    /// Id of the peer.
    const ID: u32 = 5;
    /// Where the peer is said to be.
    const REMOTE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 1194));
    /// Where a request wants it to be.
    const OTHER_REMOTE: SocketAddr =
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 3), 1195));

    fn new() -> Outcome<Self> {
        let ns = Ns::new()?;
        let links = Links::open(&ns)?;
        let nl = Ovpn::open(&ns)?;
        let mut index = [0; 2];
        for (name, index) in ["tun", "tun2"].iter().zip(&mut index) {
            links
                .create(name, None)?
                .during("creating a link of kind ovpn")?;
            *index = ns
                .ifindex(name)?
                .ok_or_else(|| Failure::new("the new link is not there"))?;
        }
        let other_ifindex = ns.ifindex("lo")?.ok_or_else(|| Failure::new("no lo"))?;
        let (sock, spare, taken) = (
            ns.udp(false, 1194)?,
            ns.udp(false, 1195)?,
            ns.udp(false, 1196)?,
        );
        let [ifindex, second] = index;
        nl.peer_new(ifindex, Self::ID, sock.as_raw_fd(), Self::REMOTE, None)?;
        nl.key_new(ifindex, Self::ID, PRIMARY, &Cipher::Aes256.key(1, true))?;
        nl.peer_new(second, 1, taken.as_raw_fd(), Self::REMOTE, None)?;
        Ok(Self {
            ns,
            nl,
            links,
            ifindex,
            other_ifindex,
            _sock: sock,
            spare,
            taken: (taken, second),
        })
    }

    fn state(&self) -> Outcome<State> {
        Ok(State {
            peers: self.nl.peer_dump(self.ifindex)?,
            keys: [
                self.nl.key_get(self.ifindex, Self::ID, PRIMARY)?,
                self.nl.key_get(self.ifindex, Self::ID, SECONDARY)?,
            ],
            flags: self.links.get(self.ifindex)?.flags,
        })
    }

    /// Sends the row's request; tells what was wrong with the answer, if anything.
    fn try_row(&self, row: &Row) -> Outcome<Option<String>> {
        let (msg, mark) = row.request.build(&self.nl);
        let Err(refusal) = self.nl.request(&msg)? else {
            return Ok(Some(format!(
                "accepted, expected {}",
                errno_name(row.errno)
            )));
        };
        let text = refusal.text.as_deref().unwrap_or_default();
        let own = text
            .strip_prefix("ovpn: ")
            .is_some_and(|sentence| !sentence.is_empty());
        let report_fits = match row.report {
            Report::Text => own,
            Report::CoreText => !text.is_empty(),
            Report::BadAttr => !text.is_empty() && refusal.offset == mark && mark.is_some(),
            Report::TextAndBadAttr => own && refusal.offset == mark && mark.is_some(),
            Report::Missing(kind) => refusal.miss_type == Some(kind) && refusal.miss_nest == mark,
            Report::Nothing => true,
        };
        Ok((refusal.errno != row.errno || !report_fits).then(|| {
            format!(
                "{refusal}, expected {} and {:?} with mark {mark:?}",
                errno_name(row.errno),
                row.report
            )
        }))
    }

    /// Runs all rows; each must be refused as it says and leave the state alone.
    fn run(&self, rows: &[Row]) -> Outcome {
        let before = self.state()?;
        check!(
            before.peers.len() == 1 && before.keys[0].is_ok(),
            "the fixture is not as it should be: {before:?}"
        );
        let mut wrong = Vec::new();
        for row in rows {
            if let Some(why) = self.try_row(row).during(&row.name)? {
                wrong.push(format!("{}: {why}", row.name));
            }
            let after = self.state().during(&row.name)?;
            if after != before {
                wrong.push(format!(
                    "{}: changed the state\nfrom {before:?}\nto   {after:?}",
                    row.name
                ));
                break;
            }
        }
        note!("{} rows", rows.len());
        check!(
            wrong.is_empty(),
            "{} of {} rows\n{}",
            wrong.len(),
            rows.len(),
            wrong.join("\n")
        );
        // A refused PEER_NEW must have let go of its socket: another device can have it.
        self.nl
            .peer_new(self.taken.1, 1, self.spare.as_raw_fd(), Self::REMOTE, None)
            .during("the spare socket")?;
        Ok(())
    }
}

fn table(name: &str, rows: fn(&Fixture) -> Vec<Row>) -> Case {
    Case::new(name, move |_: &Ctx| {
        let fixture = Fixture::new()?;
        fixture.run(&rows(&fixture))
    })
}

/// Cases in P2P mode.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        table("peer-new: malformed", policy::rows_peer_new),
        table("peer-set: malformed", policy::rows_peer_set),
        table("peer-get: malformed", policy::rows_peer_get),
        table("peer-del: malformed", policy::rows_peer_del),
        table("key-new: malformed", policy::rows_key_new),
        table(
            "key-get, key-del, key-swap: malformed",
            policy::rows_key_rest,
        ),
        table(
            "addresses that contradict each other",
            rules::rows_addresses,
        ),
        table("sockets that will not do", rules::rows_sockets),
        table("peers that are not there", rules::rows_absent),
        table("keys that will not do", rules::rows_keys),
        table("commands that are none", rules::rows_commands),
        Case::new("nothing without CAP_NET_ADMIN", rules::unprivileged),
    ];
    cases.extend(good::cases());
    cases.extend(link::cases());
    cases
}

/// Cases in MP mode.
pub fn cases_mp() -> Vec<Case> {
    mp::cases()
}

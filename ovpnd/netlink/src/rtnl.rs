// SPDX-License-Identifier: MIT OR Apache-2.0
//! rtnetlink, as far as a VPN daemon needs it: links of kind `ovpn`, addresses and routes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::family::FAMILY;
use crate::socket::{Request, Socket};
use crate::types::{Mode, ValueError};
use crate::wire::{Attrs, Messages, Schema, Writer, bytes_at, u32_at};

// include/uapi/linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_OVPN_MODE: u16 = 1;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// As an attribute's type.
const AF_INET6: u16 = libc::AF_INET6 as u16;
// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
// include/uapi/linux/rtnetlink.h
pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTNLGRP_LINK: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_LINK: u8 = 253;

const IFINFO_LEN: usize = 16;
const IFADDR_LEN: usize = 8;
pub(crate) const RTMSG_LEN: usize = 12;
const IFF_UP: u32 = 1;
/// Longest name of an interface in bytes (`IFNAMSIZ` without its NUL).
pub const MAX_NAME: usize = 15;

static DATA_SCHEMA: Schema = Schema {
    attrs: &[(IFLA_OVPN_MODE, "mode", None)],
};
static INFO_SCHEMA: Schema = Schema {
    attrs: &[
        (IFLA_INFO_KIND, "kind", None),
        (IFLA_INFO_DATA, "data", Some(&DATA_SCHEMA)),
    ],
};
static LINK_SCHEMA: Schema = Schema {
    attrs: &[
        (IFLA_IFNAME, "name", None),
        (IFLA_MTU, "mtu", None),
        (IFLA_LINKINFO, "linkinfo", Some(&INFO_SCHEMA)),
    ],
};
static ADDR_SCHEMA: Schema = Schema {
    attrs: &[(IFA_ADDRESS, "address", None), (IFA_LOCAL, "local", None)],
};
pub(crate) static ROUTE_SCHEMA: Schema = Schema {
    attrs: &[
        (RTA_DST, "destination", None),
        (RTA_OIF, "interface", None),
        (RTA_GATEWAY, "gateway", None),
    ],
};

/// An address with the length of its network part, written `10.8.0.1/24`. Without a length it is a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// Checks that `len` is at most 32 (IPv4) or 128 (IPv6) bits.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        (len <= Self::host_len(addr)).then_some(Self { addr, len })
    }

    /// The prefix that holds `addr` alone.
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: Self::host_len(addr),
        }
    }

    fn host_len(addr: IpAddr) -> u8 {
        if addr.is_ipv4() { 32 } else { 128 }
    }

    /// The address as given.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// Bits of the network part.
    pub fn prefix_len(self) -> u8 {
        self.len
    }

    /// The same prefix with the host bits cleared, as routes want it.
    pub fn network(self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(ip) => IpAddr::V4(
                (ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)).into(),
            ),
            IpAddr::V6(ip) => IpAddr::V6(
                (ip.to_bits()
                    & u128::MAX
                        .checked_shl(128 - u32::from(self.len))
                        .unwrap_or(0))
                .into(),
            ),
        };
        Self { addr, ..self }
    }

    /// The last address of the network: that of all ones in the host part.
    pub fn last(self) -> IpAddr {
        match self.network().addr {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(self.len.into()).unwrap_or(0);
                IpAddr::V4((ip.to_bits() | host).into())
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(self.len.into()).unwrap_or(0);
                IpAddr::V6((ip.to_bits() | host).into())
            }
        }
    }

    /// Whether `ip` is of this prefix.
    pub fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.addr.is_ipv4()
            && Self {
                addr: ip,
                len: self.len,
            }
            .network()
                == self.network()
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for IpPrefix {
    type Err = ValueError;

    fn from_str(text: &str) -> std::result::Result<Self, ValueError> {
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let wrong = || {
            ValueError(format!(
                "\"{}\" is no IP address with a prefix length",
                text.escape_debug()
            ))
        };
        let addr = addr.parse().map_err(|_| wrong())?;
        match len {
            None => Ok(Self::host(addr)),
            // Digits alone: u8's parser would take a sign too.
            Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => len
                .parse()
                .ok()
                .and_then(|len| Self::new(addr, len))
                .ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link kind; none for hardware.
    pub kind: Option<String>,
    /// Its mode, for kind `ovpn`.
    pub mode: Option<Mode>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
}

impl Link {
    /// Whether the driver's kind is `ovpn`.
    pub fn is_ovpn(&self) -> bool {
        self.kind.as_deref() == Some(FAMILY)
    }

    fn parse(payload: &[u8]) -> Result<Self> {
        let (Some(index), Some(flags)) = (u32_at(payload, 4), u32_at(payload, 8)) else {
            return Err(Error::Malformed("link message shorter than its header"));
        };
        let mut link = Self {
            index,
            name: String::new(),
            kind: None,
            mode: None,
            mtu: 0,
            up: flags & IFF_UP != 0,
            carrier: false,
        };
        for attr in Attrs::after(payload, IFINFO_LEN) {
            let attr = attr?;
            match attr.kind {
                IFLA_IFNAME => link.name = attr.text(),
                IFLA_MTU => link.mtu = attr.u32()?,
                IFLA_CARRIER => link.carrier = attr.u8()? != 0,
                IFLA_LINKINFO => {
                    for info in attr.nested() {
                        let info = info?;
                        match info.kind {
                            IFLA_INFO_KIND => link.kind = Some(info.text()),
                            // Kinds other than ovpn number their data in their own way.
                            IFLA_INFO_DATA if link.is_ovpn() => {
                                link.mode = read_mode(info.nested())?
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(link)
    }
}

fn read_mode(data: Attrs<'_>) -> Result<Option<Mode>> {
    for attr in data {
        let attr = attr?;
        if attr.kind == IFLA_OVPN_MODE {
            return Ok(Mode::from_raw(attr.u8()?));
        }
    }
    Ok(None)
}

/// A connection to rtnetlink, in the network namespace it was opened in. No method waits; every method that
/// changes something needs CAP_NET_ADMIN and fails with [`Error::Refused`] when the kernel refuses.
#[derive(Debug)]
pub struct Rtnl {
    pub(crate) socket: Socket,
}

impl Rtnl {
    /// Connects.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn open() -> Result<Self> {
        Ok(Self {
            socket: Socket::open(libc::NETLINK_ROUTE)?,
        })
    }

    /// Makes an interface of kind `ovpn`, which is down. Open [`crate::Ovpn`] before: that loads the module.
    ///
    /// # Errors
    /// `EEXIST` (the name is in use), `EOPNOTSUPP` (the driver is not there).
    pub fn link_new(&mut self, name: &str, mode: Mode) -> Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let mut request = link_request("RTM_NEWLINK", libc::RTM_NEWLINK, 0, 0, 0);
        request.flags = flags;
        request
            .body
            .put_str(IFLA_IFNAME, name)
            .nest(IFLA_LINKINFO, |w| {
                w.put_str(IFLA_INFO_KIND, FAMILY)
                    .nest(IFLA_INFO_DATA, |w| w.put_u8(IFLA_OVPN_MODE, mode.raw()))
            });
        self.act(&request)
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn link_del(&mut self, ifindex: u32) -> Result<()> {
        self.act(&link_request(
            "RTM_DELLINK",
            libc::RTM_DELLINK,
            ifindex,
            0,
            0,
        ))
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn link_set_up(&mut self, ifindex: u32, up: bool) -> Result<()> {
        self.act(&link_request(
            "RTM_NEWLINK",
            libc::RTM_NEWLINK,
            ifindex,
            if up { IFF_UP } else { 0 },
            IFF_UP,
        ))
    }

    /// Sets the largest packet in bytes.
    ///
    /// # Errors
    /// `ENODEV`, `EINVAL` (out of the driver's range).
    pub fn link_set_mtu(&mut self, ifindex: u32, mtu: u32) -> Result<()> {
        let mut request = link_request("RTM_NEWLINK", libc::RTM_NEWLINK, ifindex, 0, 0);
        request.body.put_u32(IFLA_MTU, mtu);
        self.act(&request)
    }

    /// Keeps the kernel from giving an interface a link-local IPv6 address by itself, from which it would look for
    /// routers. Ask before it is up.
    ///
    /// # Errors
    /// `ENODEV`, `EAFNOSUPPORT` (no IPv6, or not with this MTU).
    pub fn link_set_no_link_local(&mut self, ifindex: u32) -> Result<()> {
        let mut request = link_request("RTM_NEWLINK", libc::RTM_NEWLINK, ifindex, 0, 0);
        request.body.nest(IFLA_AF_SPEC, |w| {
            w.nest(AF_INET6, |w| {
                w.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)
            })
        });
        self.act(&request)
    }

    /// Finds an interface by its name.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`].
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let mut request = link_request("RTM_GETLINK", libc::RTM_GETLINK, 0, 0, 0);
        request.body.put_str(IFLA_IFNAME, name);
        let mut found = None;
        let asked = self.socket.call(&request, &mut |message| {
            found = Some(Link::parse(message.payload)?);
            Ok(())
        });
        match asked {
            Err(error) if error.errno() == Some(libc::ENODEV) => {
                Err(Error::NoSuchLink(name.to_owned()))
            }
            Err(error) => Err(error),
            Ok(()) => found.ok_or(Error::NoAnswer(request.operation)),
        }
    }

    /// All interfaces of kind `ovpn`.
    ///
    /// # Errors
    /// [`Error::DumpInterrupted`].
    pub fn ovpn_links(&mut self) -> Result<Vec<Link>> {
        let request = link_request("RTM_GETLINK", libc::RTM_GETLINK, 0, 0, 0);
        self.socket.dump(&request, &mut |message| {
            Ok(Some(Link::parse(message.payload)?).filter(Link::is_ovpn))
        })
    }

    /// The addresses of an interface, by what stands before its networks.
    ///
    /// # Errors
    /// [`Error::DumpInterrupted`].
    pub fn addresses(&mut self, ifindex: u32) -> Result<Vec<IpPrefix>> {
        let any = IpPrefix::host(Ipv4Addr::UNSPECIFIED.into());
        let mut request = addr_request("RTM_GETADDR", libc::RTM_GETADDR, 0, ifindex, any);
        // A dump takes the header alone: every family, every interface.
        request.body = Writer::new();
        request.body.raw(&[0; IFADDR_LEN]);
        self.socket.dump(&request, &mut |message| {
            read_address(message.payload, ifindex)
        })
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// `EEXIST`, `ENODEV`.
    pub fn addr_add(&mut self, ifindex: u32, addr: IpPrefix) -> Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        self.act(&addr_request(
            "RTM_NEWADDR",
            libc::RTM_NEWADDR,
            flags,
            ifindex,
            addr,
        ))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`, `ENODEV`.
    pub fn addr_del(&mut self, ifindex: u32, addr: IpPrefix) -> Result<()> {
        self.act(&addr_request(
            "RTM_DELADDR",
            libc::RTM_DELADDR,
            0,
            ifindex,
            addr,
        ))
    }

    /// Adds a route to `dst` through an interface, by way of `via` if given, to the main table. Host bits of
    /// `dst` are cleared.
    ///
    /// # Errors
    /// `EEXIST`, `ENODEV`, `ENETDOWN`, `ENETUNREACH` (`via` is not reachable).
    pub fn route_add(&mut self, ifindex: u32, dst: IpPrefix, via: Option<IpAddr>) -> Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        self.act(&route_request(
            "RTM_NEWROUTE",
            libc::RTM_NEWROUTE,
            flags,
            ifindex,
            dst,
            via,
        ))
    }

    /// Deletes a route that [`Self::route_add`] added with the same arguments.
    ///
    /// # Errors
    /// `ESRCH`, `ENODEV`.
    pub fn route_del(&mut self, ifindex: u32, dst: IpPrefix, via: Option<IpAddr>) -> Result<()> {
        self.act(&route_request(
            "RTM_DELROUTE",
            libc::RTM_DELROUTE,
            0,
            ifindex,
            dst,
            via,
        ))
    }

    fn act(&mut self, request: &Request) -> Result<()> {
        self.socket.call(request, &mut |_| Ok(()))
    }
}

fn link_request(
    operation: &'static str,
    kind: u16,
    ifindex: u32,
    flags: u32,
    change: u32,
) -> Request {
    // struct ifinfomsg: family, pad, type, index, flags, change
    let mut body = Writer::new();
    for word in [0, ifindex, flags, change] {
        body.raw(&word.to_ne_bytes());
    }
    Request {
        operation,
        kind,
        flags: 0,
        fixed: IFINFO_LEN,
        body,
        schema: &LINK_SCHEMA,
    }
}

pub(crate) fn family(addr: IpAddr) -> u8 {
    (if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }) as u8
}

pub(crate) fn put_ip(w: &mut Writer, kind: u16, addr: IpAddr) {
    match addr {
        IpAddr::V4(ip) => w.put(kind, &ip.octets()),
        IpAddr::V6(ip) => w.put(kind, &ip.octets()),
    };
}

fn addr_request(
    operation: &'static str,
    kind: u16,
    flags: u16,
    ifindex: u32,
    addr: IpPrefix,
) -> Request {
    // struct ifaddrmsg: family, prefix length, flags, scope, index
    let mut body = Writer::new();
    body.raw(&[family(addr.addr), addr.len, 0, 0])
        .raw(&ifindex.to_ne_bytes());
    put_ip(&mut body, IFA_LOCAL, addr.addr);
    put_ip(&mut body, IFA_ADDRESS, addr.addr);
    Request {
        operation,
        kind,
        flags,
        fixed: IFADDR_LEN,
        body,
        schema: &ADDR_SCHEMA,
    }
}

/// The address in an RTM_NEWADDR message, if it is one of interface `ifindex`.
fn read_address(payload: &[u8], ifindex: u32) -> Result<Option<IpPrefix>> {
    let header: [u8; IFADDR_LEN] =
        bytes_at(payload, 0).ok_or(Error::Malformed("address without a header"))?;
    let [family, len, _, _, index @ ..] = header;
    if u32::from_ne_bytes(index) != ifindex {
        return Ok(None);
    }
    let (mut local, mut address) = (None, None);
    for attr in Attrs::after(payload, IFADDR_LEN) {
        let attr = attr?;
        let ip = || -> Result<Option<IpAddr>> {
            Ok(match i32::from(family) {
                libc::AF_INET => Some(attr.ipv4()?.into()),
                libc::AF_INET6 => Some(attr.ipv6()?.into()),
                _ => None,
            })
        };
        match attr.kind {
            // With a far end (net30, p2p), the local one is ours and the other theirs.
            IFA_LOCAL => local = ip()?,
            IFA_ADDRESS => address = ip()?,
            _ => {}
        }
    }
    Ok(local.or(address).and_then(|ip| IpPrefix::new(ip, len)))
}

fn route_request(
    operation: &'static str,
    kind: u16,
    flags: u16,
    ifindex: u32,
    dst: IpPrefix,
    via: Option<IpAddr>,
) -> Request {
    let dst = dst.network();
    // An IPv4 route without gateway is to neighbours; IPv6 has no such scope.
    let scope = if dst.addr.is_ipv4() && via.is_none() {
        RT_SCOPE_LINK
    } else {
        0
    };
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    let mut body = Writer::new();
    body.raw(&[
        family(dst.addr),
        dst.len,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        scope,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ]);
    if dst.len > 0 {
        put_ip(&mut body, RTA_DST, dst.addr);
    }
    if let Some(via) = via {
        put_ip(&mut body, RTA_GATEWAY, via);
    }
    body.put_u32(RTA_OIF, ifindex);
    Request {
        operation,
        kind,
        flags,
        fixed: RTMSG_LEN,
        body,
        schema: &ROUTE_SCHEMA,
    }
}

/// A socket that tells when interfaces go away; poll it for readability.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Socket,
}

/// A change of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// The interface with this index is gone.
    Deleted(u32),
    /// Something else happened to some interface.
    Other,
    /// Events were lost: look at the interfaces.
    Lost,
}

impl LinkMonitor {
    /// Opens the socket.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(libc::NETLINK_ROUTE)?;
        socket.subscribe(RTNLGRP_LINK, 128 * 1024)?;
        Ok(Self { socket })
    }

    /// The next event, or `None` when none waits.
    ///
    /// # Errors
    /// When the socket fails or the kernel's message cannot be read.
    pub fn next_event(&mut self) -> Result<Option<LinkEvent>> {
        match self.socket.recv() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                return Ok(Some(LinkEvent::Lost));
            }
            Err(error) => return Err(error.into()),
        }
        // The kernel sends one message in a datagram here.
        let message = Messages::new(self.socket.datagram()).next().transpose()?;
        Ok(Some(match message {
            Some(message) if message.header.kind == libc::RTM_DELLINK => {
                LinkEvent::Deleted(Link::parse(message.payload)?.index)
            }
            _ => LinkEvent::Other,
        }))
    }
}

impl AsRawFd for LinkMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_those_of_the_interface_asked_for() {
        let message = |index: u32| {
            let mut w = Writer::new();
            w.raw(&[libc::AF_INET as u8, 24, 0, 0])
                .raw(&index.to_ne_bytes());
            w.put(IFA_ADDRESS, &[10, 8, 0, 9])
                .put(IFA_LOCAL, &[10, 8, 0, 1]);
            w.as_bytes().to_vec()
        };
        let read = |index| read_address(&message(index), 4).unwrap();
        assert_eq!(read(4), Some("10.8.0.1/24".parse().unwrap()));
        assert_eq!(read(5), None);
        assert!(read_address(&[2, 24], 4).is_err());
    }

    #[test]
    fn prefixes_are_read_and_refused() {
        for (text, network) in [
            ("10.8.0.1/24", "10.8.0.0/24"),
            ("10.8.0.1", "10.8.0.1/32"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00::1/64", "fd00::/64"),
            ("::1/0", "::/0"),
        ] {
            let prefix: IpPrefix = text.parse().unwrap();
            assert_eq!(prefix.network().to_string(), network);
            assert!(prefix.contains(prefix.addr()));
        }
        for text in [
            "",
            "/",
            "10.8.0.1/33",
            "10.8.0.1/-1",
            "10.8.0.1/+8",
            "10.8.0.1/",
            "fd00::/129",
            "x/8",
            "1.2.3.4/8/8",
        ] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_message_is_read() {
        let mut w = Writer::new();
        for word in [0u32, 12, IFF_UP, 0] {
            w.raw(&word.to_ne_bytes());
        }
        w.put_str(IFLA_IFNAME, "vpn0")
            .put_u32(IFLA_MTU, 1416)
            .put_u8(IFLA_CARRIER, 1);
        w.nest(IFLA_LINKINFO, |w| {
            w.put_str(IFLA_INFO_KIND, "ovpn")
                .nest(IFLA_INFO_DATA, |w| w.put_u8(IFLA_OVPN_MODE, 1))
        });
        let link = Link::parse(w.as_bytes()).unwrap();
        let expected = Link {
            index: 12,
            name: "vpn0".into(),
            kind: Some("ovpn".into()),
            mode: Some(Mode::Mp),
            mtu: 1416,
            up: true,
            carrier: true,
        };
        assert_eq!(link, expected);
    }

    #[test]
    fn a_route_is_laid_out_as_the_kernel_reads_it() {
        let request = route_request(
            "RTM_NEWROUTE",
            24,
            0,
            3,
            "192.168.9.7/24".parse().unwrap(),
            None,
        );
        let mut expected = vec![2, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0];
        expected.extend([8u16.to_ne_bytes(), RTA_DST.to_ne_bytes()].concat());
        expected.extend([192, 168, 9, 0]);
        expected.extend([8u16.to_ne_bytes(), RTA_OIF.to_ne_bytes()].concat());
        expected.extend(3u32.to_ne_bytes());
        assert_eq!(request.body.as_bytes(), expected);
    }

    #[test]
    fn live_this_machine_has_a_loopback_and_no_such_link() {
        let mut rtnl = Rtnl::open().unwrap();
        let lo = rtnl.link("lo").unwrap();
        assert_eq!(
            (lo.index, lo.kind.is_none(), lo.is_ovpn()),
            (1, true, false)
        );
        assert!(matches!(
            rtnl.link("no-such-link"),
            Err(Error::NoSuchLink(_))
        ));
        assert!(rtnl.ovpn_links().unwrap().iter().all(Link::is_ovpn));
    }

    proptest! {
        #[test]
        fn any_link_message_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Link::parse(&bytes);
        }

        #[test]
        fn prefixes_round_trip(v4: bool, bits: u128, len in 0u8..=32) {
            let addr: IpAddr = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
            let prefix = IpPrefix::new(addr, len).unwrap();
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert!(prefix.network().contains(addr));
            prop_assert_eq!(prefix.network().network(), prefix.network());
            prop_assert!(prefix.contains(prefix.last()) && prefix.last() >= prefix.network().addr());
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! By which of the kernel's routes an address is reached.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::rtnl::{ROUTE_SCHEMA, RTA_DST, RTA_OIF, RTMSG_LEN, Rtnl, family, put_ip};
use crate::socket::Request;
use crate::wire::{Attrs, Writer};

/// `RTM_F_FIB_MATCH` of include/uapi/linux/rtnetlink.h: the answer is the route, not what follows from it.
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// The route by which an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Bits of its destination's network part.
    pub prefix_len: u8,
    /// Index of the interface it leads through; none for one with several next hops.
    pub ifindex: Option<u32>,
}

impl Way {
    fn parse(payload: &[u8]) -> Result<Self> {
        // struct rtmsg: family, dst_len
        let prefix_len = payload.get(1).copied();
        let mut way = Self {
            prefix_len: prefix_len.ok_or(Error::Malformed("route without a header"))?,
            ifindex: None,
        };
        for attr in Attrs::after(payload, RTMSG_LEN) {
            let attr = attr?;
            if attr.kind == RTA_OIF {
                way.ifindex = Some(attr.u32()?);
            }
        }
        Ok(way)
    }
}

impl Rtnl {
    /// Finds the route to an address that packets of this host without a mark take, by all rules and tables.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`: there is none, or one that forbids it.
    pub fn way(&mut self, to: IpAddr) -> Result<Way> {
        let request = way_request(to);
        let mut found = None;
        self.socket.call(&request, &mut |message| {
            found = Some(Way::parse(message.payload)?);
            Ok(())
        })?;
        found.ok_or(Error::NoAnswer(request.operation))
    }
}

fn way_request(to: IpAddr) -> Request {
    let host = if to.is_ipv4() { 32 } else { 128 };
    let mut body = Writer::new();
    body.raw(&[family(to), host, 0, 0, 0, 0, 0, 0])
        .raw(&RTM_F_FIB_MATCH.to_ne_bytes());
    put_ip(&mut body, RTA_DST, to);
    Request {
        operation: "RTM_GETROUTE",
        kind: libc::RTM_GETROUTE,
        flags: 0,
        fixed: RTMSG_LEN,
        body,
        schema: &ROUTE_SCHEMA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read() {
        let mut w = Writer::new();
        w.raw(&[2, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
        put_ip(&mut w, RTA_DST, "192.0.2.0".parse().unwrap());
        let several = Way::parse(w.as_bytes()).unwrap();
        w.put_u32(RTA_OIF, 7);
        let one = Way::parse(w.as_bytes()).unwrap();
        assert_eq!((one.prefix_len, one.ifindex), (24, Some(7)));
        assert_eq!((several.prefix_len, several.ifindex), (24, None));
        assert!(Way::parse(&[2]).is_err());
    }

    #[test]
    fn live_this_machine_reaches_itself() {
        let way = Rtnl::open().unwrap().way([127, 0, 0, 1].into()).unwrap();
        assert!(way.prefix_len >= 8 && way.ifindex == Some(1), "{way:?}");
    }
}

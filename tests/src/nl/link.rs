// SPDX-License-Identifier: GPL-2.0-only
//! Links by rtnetlink: what `ip` cannot say about kind "ovpn", or says differently from version to version.

use crate::lab::Ns;
use crate::nl::{Attrs, Msg, Refusal, Sock};
use crate::tap::{Failure, Outcome};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// The one attribute of kind "ovpn": u8, 0 P2P, 1 MP.
pub const IFLA_OVPN_MODE: u16 = 1;
/// IFLA_OVPN_MODE of a device with many peers.
pub const MODE_MP: u8 = 1;

/// The kernel's view of a link.
pub struct Link {
    /// ifi_type, an ARPHRD_ number.
    pub kind: u16,
    /// ifi_flags.
    pub flags: u32,
    /// All attributes of the top level.
    pub attrs: Attrs,
}

/// rtnetlink in one namespace.
pub struct Links(Sock);

fn ifinfomsg(index: u32) -> [u8; 16] {
    let [a, b, c, d] = index.to_ne_bytes();
    [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn flags(bits: i32) -> u16 {
    (libc::NLM_F_REQUEST | libc::NLM_F_ACK | bits) as u16
}

impl Links {
    /// Opens rtnetlink inside the namespace.
    pub fn open(ns: &Ns) -> Outcome<Self> {
        Ok(Self(Sock::open(ns, libc::NETLINK_ROUTE)?))
    }

    /// The request of [`Links::create`].
    pub fn creation(name: &str, data: Option<(u16, &[u8])>) -> Msg {
        let mut msg = Msg::new(
            RTM_NEWLINK,
            flags(libc::NLM_F_CREATE | libc::NLM_F_EXCL),
            &ifinfomsg(0),
        );
        msg.put(IFLA_IFNAME, format!("{name}\0").as_bytes())
            .nest(IFLA_LINKINFO, |m| {
                m.put(IFLA_INFO_KIND, b"ovpn\0");
                if let Some((kind, value)) = data {
                    m.nest(IFLA_INFO_DATA, |m| {
                        m.put(kind, value);
                    });
                }
            });
        msg
    }

    /// The request of [`Links::delete`].
    pub fn deletion(index: u32) -> Msg {
        Msg::new(RTM_DELLINK, flags(0), &ifinfomsg(index))
    }

    /// Creates a link of kind "ovpn"; `data` is the content of IFLA_INFO_DATA, `None` leaves it out.
    pub fn create(&self, name: &str, data: Option<(u16, &[u8])>) -> Outcome<Result<(), Refusal>> {
        Ok(self.0.request(&Self::creation(name, data))?.map(drop))
    }

    /// Asks to change the mode of an existing link.
    pub fn change_mode(&self, index: u32, mode: u8) -> Outcome<Result<(), Refusal>> {
        let mut msg = Msg::new(RTM_NEWLINK, flags(0), &ifinfomsg(index));
        msg.nest(IFLA_LINKINFO, |m| {
            m.put(IFLA_INFO_KIND, b"ovpn\0");
            m.nest(IFLA_INFO_DATA, |m| {
                m.put(IFLA_OVPN_MODE, &[mode]);
            });
        });
        Ok(self.0.request(&msg)?.map(drop))
    }

    /// Deletes a link.
    pub fn delete(&self, index: u32) -> Outcome<Result<(), Refusal>> {
        Ok(self.0.request(&Self::deletion(index))?.map(drop))
    }

    /// Reads one link.
    pub fn get(&self, index: u32) -> Outcome<Link> {
        let replies = self
            .0
            .ok(&Msg::new(RTM_GETLINK, flags(0), &ifinfomsg(index)))?;
        let body = &replies
            .first()
            .ok_or_else(|| Failure::new("RTM_GETLINK without reply"))?
            .body;
        let Some((&[_, _, k0, k1, _, _, _, _, f0, f1, f2, f3, _, _, _, _], attrs)) =
            body.split_first_chunk::<16>()
        else {
            return Err(Failure::new("RTM_GETLINK: short reply"));
        };
        Ok(Link {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            attrs: Attrs::parse(attrs),
        })
    }
}

impl Link {
    /// IFLA_INFO_KIND.
    pub fn info_kind(&self) -> Option<String> {
        self.attrs.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND)
    }

    /// IFLA_OVPN_MODE as filled in by the driver.
    pub fn mode(&self) -> Option<Vec<u8>> {
        self.attrs
            .nested(IFLA_LINKINFO)
            .nested(IFLA_INFO_DATA)
            .get(IFLA_OVPN_MODE)
            .map(<[u8]>::to_vec)
    }
}

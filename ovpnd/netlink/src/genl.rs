// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generic netlink: finding a family's number and its multicast groups.

use crate::error::{Error, Result};
use crate::socket::{Request, Socket};
use crate::wire::{Attrs, GENL_HEADER_LEN, Schema, Writer};

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_VERSION: u8 = 2;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

static CTRL_SCHEMA: Schema = Schema {
    attrs: &[(CTRL_ATTR_FAMILY_NAME, "family-name", None)],
};

/// The numbers that a family has at the moment; another load of its module may get other numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Family {
    pub(crate) id: u16,
    pub(crate) groups: Vec<(String, u32)>,
}

impl Family {
    /// Asks for the family called `name`. The kernel tries to load its module first when it is not there.
    pub(crate) fn resolve(socket: &mut Socket, name: &'static str) -> Result<Self> {
        let mut request = genl_request(
            "GETFAMILY",
            GENL_ID_CTRL,
            CTRL_CMD_GETFAMILY,
            CTRL_VERSION,
            &CTRL_SCHEMA,
        );
        request.body.put_str(CTRL_ATTR_FAMILY_NAME, name);
        let mut family = Self::default();
        let asked = socket.call(&request, &mut |message| {
            family = Self::parse(message.payload)?;
            Ok(())
        });
        match asked {
            Err(error) if error.errno() == Some(libc::ENOENT) => Err(Error::NoFamily(name)),
            Err(error) => Err(error),
            Ok(()) if family.id == 0 => Err(Error::Malformed("family without an id")),
            Ok(()) => Ok(family),
        }
    }

    /// Whether the family called `name` still has these numbers. Asks the kernel, as [`Self::resolve`] does.
    pub(crate) fn is_current(&self, socket: &mut Socket, name: &'static str) -> bool {
        Self::resolve(socket, name).is_ok_and(|now| now == *self)
    }

    fn parse(payload: &[u8]) -> Result<Self> {
        let mut family = Self::default();
        for attr in Attrs::after(payload, GENL_HEADER_LEN) {
            let attr = attr?;
            match attr.kind {
                CTRL_ATTR_FAMILY_ID => family.id = attr.u16()?,
                CTRL_ATTR_MCAST_GROUPS => {
                    for group in attr.nested() {
                        let (mut name, mut id) = (String::new(), 0);
                        for attr in group?.nested() {
                            let attr = attr?;
                            match attr.kind {
                                CTRL_ATTR_MCAST_GRP_NAME => name = attr.text(),
                                CTRL_ATTR_MCAST_GRP_ID => id = attr.u32()?,
                                _ => {}
                            }
                        }
                        family.groups.push((name, id));
                    }
                }
                _ => {}
            }
        }
        Ok(family)
    }

    /// The number of the multicast group called `name`.
    pub(crate) fn group(&self, name: &str) -> Result<u32> {
        let found = self.groups.iter().find(|(group, _)| group == name);
        found
            .map(|(_, id)| *id)
            .ok_or(Error::Malformed("family lacks its multicast group"))
    }
}

/// A request of a generic family, without attributes so far.
pub(crate) fn genl_request(
    operation: &'static str,
    family: u16,
    command: u8,
    version: u8,
    schema: &'static Schema,
) -> Request {
    let mut body = Writer::new();
    body.raw(&[command, version, 0, 0]);
    Request {
        operation,
        kind: family,
        flags: 0,
        fixed: GENL_HEADER_LEN,
        body,
        schema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_groups_are_found() {
        let mut w = Writer::new();
        w.raw(&[1, 2, 0, 0])
            .put_str(CTRL_ATTR_FAMILY_NAME, "ovpn")
            .put(CTRL_ATTR_FAMILY_ID, &0x24u16.to_ne_bytes());
        w.nest(CTRL_ATTR_MCAST_GROUPS, |w| {
            w.nest(1, |w| {
                w.put_u32(CTRL_ATTR_MCAST_GRP_ID, 11)
                    .put_str(CTRL_ATTR_MCAST_GRP_NAME, "peers")
            })
        });
        let family = Family::parse(w.as_bytes()).unwrap();
        assert_eq!((family.id, family.group("peers").ok()), (0x24, Some(11)));
        assert!(family.group("others").is_err());
    }

    #[test]
    fn live_other_numbers_than_the_kernels_are_old() {
        let mut socket = Socket::open(libc::NETLINK_GENERIC).unwrap();
        let family = Family::resolve(&mut socket, "nlctrl").unwrap();
        assert!(family.is_current(&mut socket, "nlctrl"));
        assert!(!family.is_current(&mut socket, "no-such-family"));
        let id = family.id + 1;
        let moved = Family {
            id,
            ..family.clone()
        };
        assert!(!moved.is_current(&mut socket, "nlctrl"));
        let mut regrouped = family;
        regrouped.groups.push(("peers".into(), 77));
        assert!(!regrouped.is_current(&mut socket, "nlctrl"));
    }

    #[test]
    fn live_this_kernel_knows_its_controller_and_not_a_family_that_is_none() {
        let mut socket = Socket::open(libc::NETLINK_GENERIC).unwrap();
        assert_eq!(
            Family::resolve(&mut socket, "nlctrl").unwrap().id,
            GENL_ID_CTRL
        );
        assert!(matches!(
            Family::resolve(&mut socket, "no-such-family"),
            Err(Error::NoFamily(_))
        ));
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The descriptions for syzkaller against the specifications: nothing of the family is missing, and this driver's numbers
//! are right.

use super::spec::Spec;
use crate::tap::Outcome;
use crate::{Ctx, check};

const DESCRIPTIONS: &str = include_str!("../../../../kmod-ovpn/uapi/ovpn.txt");
/// Numbers from here on are this driver's.
const OURS: u16 = 0x80;
/// The levels that have attributes of their own, and what the kernel's header calls these.
const LEVELS: [(&str, &str); 4] = [
    ("ovpn", "OVPN_A_"),
    ("peer", "OVPN_A_PEER_"),
    ("keyconf", "OVPN_A_KEYCONF_"),
    ("keydir", "OVPN_A_KEYDIR_"),
];

/// A name of a specification in capitals, as the kernel's header has it.
fn constant(prefix: &str, name: &str) -> String {
    prefix.to_owned() + &name.replace('-', "_").to_uppercase()
}

/// The names in descriptions that belong to no specification, or are missing there.
fn faults(spec: &Spec, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let has = |line: &str| text.lines().any(|l| l.trim_start().starts_with(line));
    for (command, number) in &spec.commands {
        let name = constant("OVPN_CMD_", command);
        let number = match *number >= OURS {
            true => format!("{number:#x}"),
            false => name.clone(),
        };
        let start = format!("sendmsg${name}(fd sock_nl_generic, msg ptr[in, msghdr_ovpn[{number},");
        if !has(&start) {
            faults.push(start);
        }
    }
    for (level, prefix) in LEVELS {
        for attr in spec.level(level) {
            let name = constant(prefix, &attr.name);
            let starts = match attr.number >= OURS {
                true => ["nlattr", "nlnest"].map(|kind| {
                    let name = attr.name.replace('-', "_");
                    format!("{name}\t{kind}[{:#x},", attr.number)
                }),
                false => ["nlattr", "nlnest"].map(|kind| format!("{name}\t{kind}[{name},")),
            };
            if !starts.iter().any(|start| has(start)) {
                faults.push(format!("{name} = {}", attr.number));
            }
        }
    }
    let drops = format!(
        "array[nlattr[int16[1:{}], int32]",
        spec.level("drops").len()
    );
    if !text.contains(&drops) {
        faults.push(drops);
    }
    faults
}

/// Nothing is missing.
pub fn complete(_: &Ctx) -> Outcome {
    let spec = Spec::read()?;
    let missing = faults(&spec, DESCRIPTIONS);
    check!(missing.is_empty(), "ovpn.txt lacks {missing:#?}");
    // And this would notice.
    for part in ["OVPN_CMD_KEY_SWAP_NTF", "OVPN_A_PEER_TX_ID", "0x81", "1:25"] {
        let text = DESCRIPTIONS.replace(part, "");
        check!(!faults(&spec, &text).is_empty(), "{part} is not looked for");
    }
    Ok(())
}

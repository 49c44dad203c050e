// SPDX-License-Identifier: GPL-2.0-or-later
//! The program is ovpnd or ovpnctl by its name.

use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn one_file_for_both() {
    let version = env!("CARGO_PKG_VERSION");
    for (name, program) in [
        ("ovpnd", "ovpnd"),
        ("ovpnctl", "ovpnctl"),
        ("/usr/sbin/ovpnctl", "ovpnctl"),
        ("./ovpnctl.old", "ovpnd"),
        ("", "ovpnd"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_ovpnd"))
            .arg0(name)
            .arg("--version")
            .output()
            .unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(said, format!("{program} {version}\n"), "{name:?}");
    }
}

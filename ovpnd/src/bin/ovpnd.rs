// SPDX-License-Identifier: GPL-2.0-or-later
//! `ovpnd`: see `ovpnd::daemon`. By the name of `ovpnctl` it is that program: a router's flash has one file for both.

use std::path::Path;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some("ovpnctl".as_ref()) {
        return ovpnd::ctl::main(args);
    }
    ovpnd::daemon::main(args)
}

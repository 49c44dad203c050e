// SPDX-License-Identifier: GPL-2.0-or-later
//! `ovpnctl`: see `ovpnd::ctl`.

fn main() -> std::process::ExitCode {
    ovpnd::ctl::main(std::env::args_os().skip(1))
}

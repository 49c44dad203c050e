// SPDX-License-Identifier: GPL-2.0-only
//! `ovpnd`: see `ovpnd::daemon`.

fn main() -> std::process::ExitCode {
    ovpnd::daemon::main(std::env::args_os().skip(1))
}

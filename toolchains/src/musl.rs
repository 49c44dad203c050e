// SPDX-License-Identifier: GPL-2.0-only
//! Userland for routers: statically linked against musl, with a std built from source, since rustup cannot be
//! asked for the targets here.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::ui;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A processor that programs for routers are built for.
#[derive(Debug)]
pub struct Target {
    /// Rust's name of it.
    pub triple: &'static str,
    /// zig's name of it.
    zig: &'static str,
    /// zig's name of the processor. Only zig's own libc looks at it; rustc has the triple.
    cpu: &'static str,
    /// More arguments of rustc.
    cfg: &'static str,
}

/// MIPS. Crate rustix takes musl's time calls for those with 64 bits, which Rust's libc does not name on 32: it sets `fix_y2038`
/// itself for x86, and calls the kernel without libc on ARM. Code that need not run at any address calls a function by one
/// instruction instead of three: an eighth of ovpnd.
const MIPS: &str = " --cfg=fix_y2038 -Crelocation-model=static";

const TARGETS: [Target; 4] = [
    Target {
        triple: "armv7-unknown-linux-musleabihf",
        zig: "arm-linux-musleabihf",
        cpu: "cortex_a7",
        cfg: "",
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        zig: "aarch64-linux-musl",
        cpu: "cortex_a53",
        cfg: "",
    },
    // Neither has an FPU, nor a kernel that emulates one.
    Target {
        triple: "mips-unknown-linux-musl",
        zig: "mips-linux-musleabi",
        cpu: "mips32r2+soft_float",
        cfg: MIPS,
    },
    Target {
        triple: "mipsel-unknown-linux-musl",
        zig: "mipsel-linux-musleabi",
        cpu: "mips32r2+soft_float",
        cfg: MIPS,
    },
];

/// A target by the triple a lane names.
pub fn target(triple: &str) -> Result<&'static Target> {
    TARGETS
        .iter()
        .find(|t| t.triple == triple)
        .with_context(|| format!("no C library is known for {triple}"))
}

/// Profile of this workspace's programs: small, and std is built for one profile only.
const PROFILE: &str = "router";
/// As that profile has it.
const PANIC: &str = "panic_abort";
/// Programs of this workspace that go into the guest. The first is `ovpnctl` too, by a link in its package.
const OWN: [&str; 2] = ["ovpnd", "ovpn-tests"];

/// Below a lane, ovpnd without TLS. No guest runs it.
pub const MINI: &str = "bin-mini";

/// Builds this workspace's programs and the ubus tools for a lane's guests.
pub fn build(ctx: &Ctx, lane: &str) -> Result<()> {
    let to = target(ctx.lock.lane(lane)?.triple()?)?;
    let bin = ctx.lane(lane).join("bin");
    let target = ctx.cache.join("target/musl");
    let build = |programs: &[&str], features: &[&str], place: &Path| -> Result<()> {
        let names = programs.iter();
        cross(ctx, to, PANIC, Cmd::new(ctx, "cargo").arg("build"))?
            .args(["--locked", "--profile", PROFILE])
            .args(names.flat_map(|name| ["--package", name, "--bin", name]))
            .args(features)
            .cwd(&ctx.project)
            .env("CARGO_TARGET_DIR", &target)
            .run()?;
        for program in programs {
            let built = target.join(to.triple).join(PROFILE).join(program);
            let built = cut(ctx, lane, &built)?;
            fetch::place(&built, place)?;
            let kib = fs::metadata(&built)?.len().div_ceil(1024);
            ui::say(
                [&[*program], features, &[&format!("{kib} KiB stripped")]]
                    .concat()
                    .join(" "),
            );
        }
        Ok(())
    };
    build(&OWN, &[], &bin)?;
    // The other variant of the daemon's package has the same name.
    build(
        &OWN[..1],
        &["--no-default-features"],
        &ctx.lane(lane).join(MINI),
    )?;
    fetch::guest_programs(ctx, lane, to.triple, |cmd| {
        let target = ctx.cache.join("target/musl-tools");
        Ok(cross(ctx, to, PANIC, cmd)?.env("CARGO_TARGET_DIR", target))
    })
}

/// A copy of a program without `.pdr`, a section of MIPS for debuggers that no kernel loads and the linker does not strip: 220 KiB
/// of ovpnd. Programs for other processors have none.
fn cut(ctx: &Ctx, lane: &str, built: &Path) -> Result<PathBuf> {
    let folder = built.with_file_name("cut");
    fs::create_dir_all(&folder)?;
    let copy = folder.join(built.file_name().context("a program has a name")?);
    let prefix = &ctx.lock.lane(lane)?.cross_compile;
    Cmd::new(ctx, format!("{prefix}objcopy"))
        .arg("--remove-section=.pdr")
        .arg(built)
        .arg(&copy)
        .run()?;
    Ok(copy)
}

/// Makes a cargo command one for a target, with std's `panic` crate: tests have to unwind, installed programs do not.
pub fn cross(ctx: &Ctx, to: &Target, panic: &str, mut cmd: Cmd) -> Result<Cmd> {
    let linker = compiler(ctx, to)?;
    let name = to.triple.replace('-', "_");
    let cargo = format!("CARGO_TARGET_{}", name.to_uppercase());
    let mut tables = "";
    if panic == PANIC {
        // This replaces std's default features. Without "backtrace" no program carries a reader of DWARF with it, and
        // without unwinding no tables are needed.
        cmd = cmd.arg("-Zbuild-std-features=optimize_for_size");
        tables = " -Cforce-unwind-tables=no";
    }
    let cmd = cmd
        .args(["--target", to.triple])
        .arg(format!("-Zbuild-std=std,{panic}"))
        // Leaves the user's toolchain as it is: cargo looks nowhere else without this.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", fetch::rust_library(ctx)?)
        // The options for std are unstable; the pinned compiler is a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(&format!("{cargo}_LINKER"), &linker)
        // zig brings crt1.o, libc and the unwinder; a std built here has none of its own.
        .env(
            &format!("{cargo}_RUSTFLAGS"),
            format!(
                "-Clink-self-contained=no -Ctarget-feature=+crt-static{tables}{}",
                to.cfg
            ),
        )
        .env(&format!("CC_{name}"), &linker)
        // The machine's own need not know the processor's object files.
        .env(&format!("AR_{name}"), archiver(ctx)?);
    Ok(zig_cache(ctx, cmd))
}

/// Where a command that calls zig lets it keep its C library.
pub fn zig_cache(ctx: &Ctx, cmd: Cmd) -> Cmd {
    cmd.env("ZIG_GLOBAL_CACHE_DIR", ctx.cache.join("target/zig"))
        .env("ZIG_LOCAL_CACHE_DIR", ctx.cache.join("target/zig"))
}

/// C compiler and linker for a target: a script that calls `zig cc`, since rustc, make and build scripts want one program.
pub fn compiler(ctx: &Ctx, to: &Target) -> Result<PathBuf> {
    script(
        ctx,
        &format!("{}-cc", to.zig),
        &compiler_text(&fetch::zig(ctx)?, to),
    )
}

/// Crate cc takes zig for clang, and names target and architecture as clang has them: zig refuses these names, and has
/// its own in front. Unwind tables are read by C++ and debuggers only.
fn compiler_text(zig: &Path, to: &Target) -> String {
    format!(
        "#!/bin/sh\n\
         for arg do\n\
         \tshift\n\
         \tcase $arg in\n\
         \t--target=* | -march=*) ;;\n\
         \t*) set -- \"$@\" \"$arg\" ;;\n\
         \tesac\n\
         done\n\
         exec '{}' cc -target {} -mcpu={} -fno-asynchronous-unwind-tables -fno-unwind-tables \"$@\"\n",
        zig.display(),
        to.zig,
        to.cpu
    )
}

/// `ar` for all targets.
fn archiver(ctx: &Ctx) -> Result<PathBuf> {
    let text = format!(
        "#!/bin/sh\nexec '{}' ar \"$@\"\n",
        fetch::zig(ctx)?.display()
    );
    script(ctx, "zig-ar", &text)
}

/// Writes a program of the tools, unless it is there.
fn script(ctx: &Ctx, name: &str, text: &str) -> Result<PathBuf> {
    let script = ctx.tool(name);
    if fs::read_to_string(&script).is_ok_and(|old| old == text) {
        return Ok(script);
    }
    fs::create_dir_all(ctx.tools().join("bin"))?;
    let new = script.with_extension(format!("new{}", std::process::id()));
    fs::write(&new, text)?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(new, &script)?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn zig_sees_no_target_of_others() {
        for to in &TARGETS {
            // `echo` in the place of zig says how it was called.
            let text = compiler_text(Path::new("/bin/echo"), to);
            let said = Command::new("sh")
                .args(["-c", &text, "cc", "-O2", "--target=mips-unknown-linux-musl"])
                .args(["-march=armv7-a", "-DA=\"b  c\"", "x y.c"])
                .output()
                .unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert!(said.contains(&format!("-target {} ", to.zig)), "{said}");
            assert!(said.ends_with(" -O2 -DA=\"b  c\" x y.c\n"), "{said}");
        }
    }
}

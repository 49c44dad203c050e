// SPDX-License-Identifier: GPL-2.0-only
//! Root file systems for processors that Debian has no packages for: BusyBox and `ip`, built here, and nothing else.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::lock::Lane;
use crate::musl;
use crate::stamp::{self, Key};
use crate::ui;
use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// Files that the guests see below `/`, beside the two programs. `iperf3` is the test program by another name, as in every
/// root (tests/src/iperf).
const LINKS: [(&str, &str); 6] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("usr/bin/sh", "busybox"),
    // The kernel asks for modules by this name.
    ("usr/sbin/modprobe", "../bin/busybox"),
    ("usr/bin/iperf3", "../sbin/ovpn-tests"),
];

/// Builds the root of a lane's guests unless it stands, from the same sources.
pub fn build(ctx: &Ctx, lane: &Lane) -> Result<()> {
    let to = musl::target(lane.triple()?)?;
    let cc = musl::compiler(ctx, to)?;
    let config = ctx.project.join("toolchains/configs/busybox.config");
    let mut key = Key::new("small 1")
        .with(to.triple)
        .with_file(&config)?
        .with_file(&cc)?;
    let mut manifest = String::new();
    let names = ["busybox", "iproute2"];
    fetch::unpack_all(ctx, &names)?;
    for name in names {
        let source = ctx.deb(name)?;
        key = key.with(&source.sha256);
        manifest += &format!("{name} {} {}\n", source.version, to.triple);
    }
    let dir = ctx.root(lane.root()?);
    let stamp = stamp::path(&ctx.cache.join("roots"), lane.root()?);
    stamp::once(&stamp, &dir, key, || {
        let new = dir.with_extension("new");
        for old in [&new, &dir] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        for sub in ["usr/bin", "usr/sbin", "usr/lib", "etc"] {
            fs::create_dir_all(new.join(sub))?;
        }
        for (link, target) in LINKS {
            symlink(target, new.join(link))?;
        }
        let work = ctx.cache.join("target/small").join(to.triple);
        fetch::place(&busybox(ctx, &cc, &config, &work)?, &new.join("usr/bin"))?;
        fetch::place(&ip(ctx, &cc, &work)?, &new.join("usr/sbin"))?;
        fs::write(new.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(new.join("etc/group"), "root:x:0:\n")?;
        fs::write(
            new.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        fs::write(new.join("etc/packages"), &manifest)?;
        fs::rename(&new, &dir)?;
        Ok(())
    })?;
    Ok(())
}

/// A `make` with the target's compiler.
fn make(ctx: &Ctx, cc: &Path, dir: &Path) -> Result<Cmd> {
    let zig = fetch::zig(ctx)?;
    let cmd = Cmd::new(ctx, "make")
        .arg(format!("-j{}", available_parallelism()?))
        .arg("-C")
        .arg(dir)
        .args(["HOSTCC=gcc".to_owned(), format!("CC={}", cc.display())])
        .arg(format!("AR={} ar", zig.display()));
    Ok(musl::zig_cache(ctx, cmd))
}

fn busybox(ctx: &Ctx, cc: &Path, config: &Path, work: &Path) -> Result<PathBuf> {
    let source = fetch::unpack(ctx, "busybox")?;
    let out = work.join("busybox");
    fs::create_dir_all(&out)?;
    let build =
        || -> Result<Cmd> { Ok(make(ctx, cc, &source)?.arg(format!("O={}", out.display()))) };
    ui::say("building BusyBox");
    build()?.arg("allnoconfig").run()?;
    // Its kconfig is an old one, which reads no list of wishes.
    let wanted = fs::read_to_string(config)?;
    let wanted: Vec<_> = wanted
        .lines()
        .filter(|l| l.starts_with("CONFIG_"))
        .collect();
    let mut text = fs::read_to_string(out.join(".config"))?;
    for line in &wanted {
        let option = line.split('=').next().unwrap_or(line);
        let off = format!("# {option} is not set");
        let rest = text
            .lines()
            .filter(|l| *l != off && l.split('=').next() != Some(option));
        text = rest.map(|l| format!("{l}\n")).collect::<String>() + line + "\n";
    }
    fs::write(out.join(".config"), text)?;
    // An end of input answers every new question with its default.
    build()?.arg("oldconfig").run()?;
    let got = fs::read_to_string(out.join(".config"))?;
    for line in wanted {
        ensure!(
            got.lines().any(|l| l == line),
            "BusyBox does not take {line}"
        );
    }
    // Its final link wants a map and a report, which zig's linker does not write.
    let link = work.join("busybox-cc");
    fs::write(
        &link,
        format!(
            "#!/bin/sh\nfor a; do shift; case $a in -Wl,--warn-common|-Wl,-Map,*|-Wl,--verbose) ;; \
             *) set -- \"$@\" \"$a\";; esac; done\nexec {} \"$@\"\n",
            cc.display()
        ),
    )?;
    fs::set_permissions(&link, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    make(ctx, &link, &source)?
        .arg(format!("O={}", out.display()))
        .args(["SKIP_STRIP=y", "busybox"])
        .run()?;
    Ok(out.join("busybox"))
}

fn ip(ctx: &Ctx, cc: &Path, work: &Path) -> Result<PathBuf> {
    let source = fetch::unpack(ctx, "iproute2")?;
    // It builds beside its sources.
    let out = work.join("iproute2");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    Cmd::new(ctx, "cp").arg("-a").arg(&source).arg(&out).run()?;
    // The result of its configure; musl declares basename() in libgen.h alone.
    fs::write(
        out.join("config.mk"),
        "HAVE_SETNS:=y\nHAVE_HANDLE_AT:=y\nCFLAGS += -DHAVE_SETNS -DHAVE_HANDLE_AT -include libgen.h\n",
    )?;
    ui::say("building ip");
    make(ctx, cc, &out)?
        .args([
            "SUBDIRS=lib ip",
            "SHARED_LIBS=n",
            "LDFLAGS=-static -s",
            "CCOPTS=-Os -w",
        ])
        .run()?;
    Ok(out.join("ip/ip"))
}

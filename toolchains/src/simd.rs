// SPDX-License-Identifier: GPL-2.0-only
//! Ciphers of a user-mode kernel in the assembly that the same source has for x86.
//!
//! A user-mode kernel is an ordinary program and may use every instruction of the processor, but its configuration
//! offers only the ciphers in C. There the cipher is most of the work, and differences between drivers disappear. On a
//! router with AES instructions it is a tenth: so it is here.
//!
//! ChaCha20 and Poly1305 are part of the kernel: variables on make's command line put the assembly into `lib/crypto`.
//! `gcm(aes)` becomes the module [`MODULE`]. Nothing of the source is changed or copied. A second module, `host_cpu`,
//! tells a guest how much processor time it takes.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::kbuild::kbuild;
use crate::lock::Lane;
use crate::stamp::Key;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the module with AES in GCM, as modprobe takes it. Its implementation is synchronous and has a higher priority
/// than the C code.
pub const MODULE: &str = "aesni_intel";

/// File that [`MODULE`] is built from, and those with its assembly, below `arch/x86/crypto`.
const GLUE: &str = "aesni-intel_glue";
const ASSEMBLY: [&str; 6] = [
    "aesni-intel_asm",
    "aes-ctr-avx-x86_64",
    "aes-gcm-aesni-x86_64",
    "aes-gcm-vaes-avx2",
    "aes-gcm-vaes-avx512",
    "aes-xts-avx-x86_64",
];
const POLY1305: &str = "x86/poly1305-x86_64-cryptogams";

/// Adds to `key` what the ciphers depend on beside the kernel source.
pub fn inputs(ctx: &Ctx, key: Key) -> Result<Key> {
    key.with("simd 1")
        .with_file(&header(ctx))?
        .with_file(&host_cpu(ctx))
}

/// Arguments of each `make` in the kernel source.
pub fn settings(ctx: &Ctx, source: &Path) -> [String; 4] {
    let flags = |cipher: &str| {
        format!(
            "-I{} -include {} -DCONFIG_CRYPTO_LIB_{cipher}_ARCH",
            source.join("lib/crypto/x86").display(),
            header(ctx).display()
        )
    };
    [
        format!("CFLAGS_chacha.o={}", flags("CHACHA")),
        "libchacha-y=chacha.o x86/chacha-ssse3-x86_64.o x86/chacha-avx2-x86_64.o x86/chacha-avx512vl-x86_64.o"
            .to_owned(),
        format!("CFLAGS_poly1305.o={}", flags("POLY1305")),
        format!("libpoly1305-y=poly1305.o {POLY1305}.o"),
    ]
}

/// Makes the assembly that the source has as a program, before the kernel is built.
pub fn prepare(ctx: &Ctx, lane: &Lane, source: &Path) -> Result<()> {
    let program = source.join("lib/crypto").join(format!("{POLY1305}.pl"));
    let text = Cmd::new(ctx, "perl").arg(program).output()?;
    let dir = ctx.lane(&lane.name).join("kernel/lib/crypto");
    fs::create_dir_all(dir.join("x86"))?;
    Ok(fs::write(dir.join(format!("{POLY1305}.S")), text + "\n")?)
}

/// Builds [`MODULE`] and puts it beside the lane's other modules, when the kernel is built.
pub fn module(ctx: &Ctx, lane: &Lane, source: &Path) -> Result<()> {
    let dir = ctx.lane(&lane.name).join("ciphers");
    fs::create_dir_all(&dir)?;
    let include = |name: &str, kind: &str| {
        let file = source.join("arch/x86/crypto").join(name);
        let line = format!("#include \"{}.{kind}\"\n", file.display());
        fs::write(dir.join(format!("{name}.{kind}")), line)
    };
    include(GLUE, "c")?;
    let mut objects = format!("{GLUE}.o");
    for name in ASSEMBLY {
        include(name, "S")?;
        objects += &format!(" {name}.o");
    }
    let clock = format!("#include \"{}\"\n", host_cpu(ctx).display());
    fs::write(dir.join("host_cpu.c"), clock)?;
    let makefile = format!(
        "obj-m := {MODULE}.o host_cpu.o\n{MODULE}-y := {objects}\nCFLAGS_{GLUE}.o := -include {}\n",
        header(ctx).display()
    );
    fs::write(dir.join("Makefile"), makefile)?;
    let make =
        || Ok::<_, anyhow::Error>(kbuild(ctx, lane, source)?.arg(format!("M={}", dir.display())));
    make()?.arg("modules").run()?;
    let to = ctx.lane(&lane.name).join("modules");
    make()?
        .arg(format!("INSTALL_MOD_PATH={}", to.display()))
        .arg("modules_install")
        .run()
}

fn host_cpu(ctx: &Ctx) -> PathBuf {
    ctx.project.join("toolchains/configs/host-cpu.c")
}

fn header(ctx: &Ctx) -> PathBuf {
    ctx.project.join("toolchains/configs/um-simd.h")
}

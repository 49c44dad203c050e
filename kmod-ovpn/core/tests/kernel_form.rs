// SPDX-License-Identifier: GPL-2.0
//! The core as the driver compiles it: a module of another `no_std` crate, and without any call
//! that could panic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a crate that has the core as its module `proto`; returns the assembly.
fn compile(name: &str, extra_source: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let source: PathBuf = dir.join(format!("{name}.rs"));
    let asm = dir.join(format!("{name}.s"));
    let text = format!("#![no_std]\n#[path = {lib:?}]\npub mod proto;\n{extra_source}");
    std::fs::write(&source, text).unwrap();
    // Overflow checks stay on, so that every addition that could overflow counts as a panic.
    // Dead code is kept, so that every function is looked at, used or not.
    let out = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2021",
            "--crate-type=lib",
            "--cfg=ovpn_kmod",
            "-Dwarnings",
        ])
        .args([
            "-Copt-level=2",
            "-Coverflow-checks=on",
            "-Cdebug-assertions=off",
        ])
        .args(["-Cpanic=abort", "-Ccodegen-units=1", "-Clink-dead-code=yes"])
        .arg("-Csymbol-mangling-version=v0")
        .arg("--emit=asm")
        .arg("-o")
        .arg(&asm)
        .arg(&source)
        .output()
        .expect("rustc runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    std::fs::read_to_string(asm).unwrap()
}

fn is_symbol_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Functions of the core from which a panic can be reached, and how many functions there are.
fn panicking(asm: &str) -> (BTreeSet<&str>, usize) {
    // Symbols each function mentions: calls, jumps and addresses alike.
    let mut mentions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut current = "";
    for line in asm.lines() {
        if let Some(label) = line.strip_suffix(':').filter(|l| l.starts_with("_R")) {
            current = label;
            mentions.entry(current).or_default();
        } else if line.starts_with('\t') && !line.starts_with("\t.") {
            let words = line.split(|c| !is_symbol_char(c));
            let symbols = words.filter(|w| w.starts_with("_R"));
            mentions.entry(current).or_default().extend(symbols);
        }
    }
    let of_core = |name: &str| name.contains("5proto");
    let mut bad = BTreeSet::new();
    for start in mentions.keys().filter(|n| of_core(n)) {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![*start]);
        while let Some(name) = todo.pop() {
            if name.contains("9panicking") || name.contains("_fail") {
                bad.insert(*start);
            }
            if seen.insert(name) {
                todo.extend(mentions.get(name).into_iter().flatten());
            }
        }
    }
    (bad, mentions.keys().filter(|n| of_core(n)).count())
}

#[test]
fn compiles_as_a_module_and_cannot_panic() {
    let asm = compile("kernel_form", "");
    let (bad, functions) = panicking(&asm);
    assert!(functions > 100, "only {functions} functions found");
    assert!(bad.is_empty(), "these may panic: {bad:#?}");
}

/// The check above sees a panic if there is one, also one that a helper function makes.
#[test]
fn the_check_notices_panics() {
    let asm = compile(
        "kernel_form_bad",
        "pub mod bad5proto {
             pub fn index(a: &[u8], i: usize) -> u8 { a[i] }
             pub fn sum(a: u32, b: u32) -> u32 { a + b }
             #[inline(never)] fn helper(a: Option<u8>) -> u8 { a.unwrap() }
             pub fn indirect(a: Option<u8>) -> u8 { helper(a) }
             pub fn harmless(a: u32, b: u32) -> u32 { a.wrapping_add(b) }
         }",
    );
    let (bad, _) = panicking(&asm);
    for (name, panics) in [
        ("index", true),
        ("sum", true),
        ("indirect", true),
        ("harmless", false),
    ] {
        let found = bad
            .iter()
            .any(|b| b.contains("bad5proto") && b.contains(name));
        assert_eq!(found, panics, "{name}");
    }
}

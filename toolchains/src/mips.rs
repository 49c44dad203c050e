// SPDX-License-Identifier: GPL-2.0-only
//! Rules for the machine code of a MIPS module, read from its disassembly.
//!
//! rustc's target for these CPUs calls itself single-threaded and its linker sees no calls out of a module, so that
//! neither atomics nor the reach of calls can be taken for granted.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::tally::Tally;
use crate::ui;
use anyhow::Result;
use std::collections::BTreeMap;

/// Checks the module of a lane.
pub fn check(ctx: &Ctx, name: &str) -> Result<Tally> {
    let lane = ctx.lock.lane(name)?;
    let text = Cmd::new(ctx, format!("{}objdump", lane.cross_compile))
        .args(["--disassemble", "--reloc", "--no-show-raw-insn"])
        .arg(ctx.lane(name).join("module/ovpn.ko"))
        .output()?;
    let code = Code::read(&text);
    ui::say(format!(
        "{} functions, {} calls, {} ll, {} sc, {} sync",
        code.functions,
        code.count("jalr"),
        code.count("ll"),
        code.count("sc"),
        code.count("sync")
    ));
    let mut tally = Tally::default();
    for (what, faults) in code.faults() {
        tally += match faults.is_empty() {
            true => Tally::pass(),
            false => Tally::fail(format!("{name}: {what}: {}", faults.join(", "))),
        };
    }
    Ok(tally)
}

/// A disassembly, summed up.
#[derive(Default)]
struct Code {
    functions: usize,
    mnemonics: BTreeMap<String, usize>,
    /// Functions with an `ll` and without an `sc`, or the other way round.
    half_atomic: Vec<String>,
    /// Rust's functions with an atomic, and how many of them have a barrier.
    rust_atomic: usize,
    rust_barrier: usize,
    /// Symbols that a jump of 28 bits goes to, other than the module's own code.
    short: Vec<String>,
}

impl Code {
    /// Reads what `objdump -dr` prints.
    fn read(text: &str) -> Self {
        let mut code = Self::default();
        let (mut name, mut here) = (String::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(label) = line.strip_suffix(">:") {
                code.end(&name, &here);
                name = label.split_once('<').map_or("", |(_, n)| n).to_owned();
                here.clear();
                continue;
            }
            let mut fields = line.split('\t').map(str::trim);
            let Some(first) = fields.next() else { continue };
            let words: Vec<_> = fields.filter(|f| !f.is_empty()).collect();
            if let [relocation, symbol] = words[..]
                && relocation.ends_with("R_MIPS_26")
            {
                let symbol = symbol.split(['+', '-']).next().unwrap_or(symbol);
                if !symbol.starts_with('.') {
                    code.short.push(symbol.to_owned());
                }
            } else if first.ends_with(':')
                && let Some(mnemonic) = words.first().and_then(|w| w.split_whitespace().next())
            {
                *here.entry(mnemonic.to_owned()).or_default() += 1;
            }
        }
        code.end(&name, &here);
        code
    }

    /// Adds a function.
    fn end(&mut self, name: &str, here: &BTreeMap<String, usize>) {
        if here.is_empty() {
            return;
        }
        self.functions += 1;
        let has = |mnemonic: &str| here.contains_key(mnemonic);
        if has("ll") != has("sc") {
            self.half_atomic.push(name.to_owned());
        }
        // Mangled names, of either scheme.
        if has("ll") && (name.starts_with("_R") || name.starts_with("_ZN")) {
            self.rust_atomic += 1;
            self.rust_barrier += usize::from(has("sync"));
        }
        for (mnemonic, n) in here {
            *self.mnemonics.entry(mnemonic.clone()).or_default() += n;
        }
    }

    fn count(&self, mnemonic: &str) -> usize {
        self.mnemonics.get(mnemonic).copied().unwrap_or(0)
    }

    /// Each rule, with what breaks it.
    fn faults(&self) -> [(&'static str, Vec<String>); 4] {
        let of_kind = |wrong: fn(&str) -> bool| {
            let found = self.mnemonics.keys().filter(|m| wrong(m));
            found.cloned().collect::<Vec<_>>()
        };
        let mut atomics = self.half_atomic.clone();
        if self.count("ll") == 0 || self.rust_atomic == 0 || self.rust_barrier == 0 {
            atomics.push(format!(
                "{} ll, {} Rust functions with one, {} of them with a barrier",
                self.count("ll"),
                self.rust_atomic,
                self.rust_barrier
            ));
        }
        let mut calls = of_kind(|m| matches!(m, "jal" | "bal" | "bltzal" | "bgezal" | "jialc"));
        if self.count("jalr") == 0 {
            calls.push("no call at all".to_owned());
        }
        [
            ("FPU instructions", of_kind(is_float)),
            ("atomics are not ll, sc and sync", atomics),
            ("calls that do not reach the kernel", calls),
            ("jumps that do not reach the kernel", self.short.clone()),
        ]
    }
}

/// Instructions of coprocessor 1 (MIPS32 Architecture, volume II): moves and loads by name, arithmetic by format.
fn is_float(mnemonic: &str) -> bool {
    let parts: Vec<_> = mnemonic.split('.').collect();
    matches!(
        parts[0],
        "mtc1"
            | "mfc1"
            | "mthc1"
            | "mfhc1"
            | "ctc1"
            | "cfc1"
            | "lwc1"
            | "swc1"
            | "ldc1"
            | "sdc1"
            | "lwxc1"
            | "swxc1"
            | "ldxc1"
            | "sdxc1"
            | "l"
            | "s"
            | "bc1t"
            | "bc1f"
            | "bc1tl"
            | "bc1fl"
            | "movt"
            | "movf"
    ) || parts[1..]
        .iter()
        .any(|format| matches!(*format, "s" | "d" | "w" | "l" | "ps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
ovpn.ko:     file format elf32-tradbigmips

00000000 <_RNvCs_4ovpn3get>:
   0:\tsync
   4:\tll\tv0,0(a0)
   8:\tsc\tv1,0(a0)
   c:\tlui\tt9,0x0
\t\t\tc: R_MIPS_HI16\tkfree
  10:\tjalr\tt9
  14:\tj\t0 <_RNvCs_4ovpn3get>
\t\t\t14: R_MIPS_26\t.text
";

    fn wrong(text: &str) -> Vec<&'static str> {
        let code = Code::read(text);
        let faults = code.faults().into_iter();
        faults
            .filter(|(_, found)| !found.is_empty())
            .map(|(what, _)| what)
            .collect()
    }

    #[test]
    fn each_rule_is_kept_and_can_be_broken() {
        assert!(wrong(GOOD).is_empty(), "{:?}", wrong(GOOD));
        for (from, to, rule) in [
            ("lui\tt9,0x0", "add.d\t$f0,$f2,$f4", "FPU"),
            ("lui\tt9,0x0", "lwc1\t$f0,0(a0)", "FPU"),
            ("sc\tv1,0(a0)", "sw\tv1,0(a0)", "atomics"),
            ("sync", "nop", "atomics"),
            ("jalr\tt9", "jal\t0 <x>", "calls"),
            ("R_MIPS_26\t.text", "R_MIPS_26\tkfree", "jumps"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let found = wrong(&text);
            assert!(found.iter().any(|f| f.contains(rule)), "{to}: {found:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The feed's recipes, read by make with the stand-ins of tests/openwrt in place of OpenWrt's build system.

use crate::ctx::Ctx;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All of them, in the order in which they need each other.
pub const ALL: [&str; 3] = ["kmod-ovpn", "ovpnd", "luci-app-ovpn"];

/// A package as its recipe describes it.
#[derive(Debug, Default, PartialEq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Single lines, by OpenWrt's name of the field.
    pub fields: BTreeMap<String, String>,
    /// Several lines: description, conffiles, scripts, and the commands `prepare` and `compile`.
    pub texts: BTreeMap<String, String>,
}

impl Package {
    /// A field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A text, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// What it depends on: the kernel it is for, then packages. `enabled` are the options of OpenWrt's configuration
    /// that conditions may name.
    pub fn depends(&self, enabled: &[&str]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        if !self.field("Extra-Depends").is_empty() {
            all.push(self.field("Extra-Depends").to_owned());
        }
        for word in self.field("Depends").split_whitespace() {
            // What must be so for the package to be offered at all.
            if word.starts_with('@') {
                continue;
            }
            let word = word.strip_prefix('+').unwrap_or(word);
            let (condition, name) = match word.split_once(':') {
                Some((condition, name)) => (Some(condition), name),
                None => (None, word),
            };
            let wanted = match condition.map(|c| (c, c.strip_prefix('!'))) {
                None => true,
                Some((_, Some(without))) => !enabled.contains(&without),
                Some((with, None)) => enabled.contains(&with),
            };
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            ensure!(plain && !name.is_empty(), "{}: {word}?", self.name);
            if wanted && !all.iter().any(|d| d == name) {
                all.push(name.to_owned());
            }
        }
        Ok(all)
    }
}

/// A variable of make and its value.
pub type Setting = (&'static str, OsString);

/// Reads a recipe. Goal `pack` also puts the files of each package to `$(OUT)/NAME`.
///
/// A variable that neither the recipe nor a stand-in sets is an error: it would be a misspelt one.
pub fn read(ctx: &Ctx, recipe: &str, goal: &str, settings: &[Setting]) -> Result<Vec<Package>> {
    let text = run(ctx, recipe, goal, settings)?;
    let packages = parse(&text).with_context(|| format!("the recipe {recipe}"))?;
    ensure!(!packages.is_empty(), "the recipe {recipe} has no package");
    Ok(packages)
}

/// Runs a goal of a recipe and gives what make and its commands print.
pub fn run(ctx: &Ctx, recipe: &str, goal: &str, settings: &[Setting]) -> Result<String> {
    let mut make = Command::new("make");
    make.args(["--silent", "--directory"])
        .arg(home(ctx, recipe));
    // Makefiles of others that a recipe's commands call are not asked.
    if ["dump", "pack"].contains(&goal) {
        make.arg("--warn-undefined-variables");
    }
    make.arg(assignment(
        "TOPDIR",
        ctx.project.join("tests/openwrt").as_os_str(),
    ));
    for (name, value) in settings {
        make.arg(assignment(name, value));
    }
    // Those of a make this may run under are not meant for this one.
    for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        make.env_remove(inherited);
    }
    let done = make
        .arg(goal)
        .stdin(Stdio::null())
        .output()
        .context("cannot run make")?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success() && complaint.trim().is_empty(),
        "the recipe {recipe}: {}",
        complaint.trim()
    );
    String::from_utf8(done.stdout).context("make wrote no text")
}

/// The directory of a recipe.
pub fn home(ctx: &Ctx, recipe: &str) -> PathBuf {
    ctx.project.join("openwrt-feed").join(recipe)
}

fn assignment(name: &str, value: &std::ffi::OsStr) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

/// What the stand-ins print: `%package NAME`, lines `Field: value`, and texts between `%NAME` and `%`.
fn parse(dump: &str) -> Result<Vec<Package>> {
    let mut all: Vec<Package> = Vec::new();
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("%package ") {
            all.push(Package {
                name: name.to_owned(),
                ..Package::default()
            });
            continue;
        }
        let package = all
            .last_mut()
            .with_context(|| format!("what is {line:?}?"))?;
        if let Some(name) = line.strip_prefix('%') {
            let mut text = String::new();
            loop {
                match lines.next() {
                    Some("%") => break,
                    Some(more) => text += &format!("{more}\n"),
                    None => bail!("{name} of {} has no end", package.name),
                }
            }
            package.texts.insert(name.to_owned(), text);
        } else if let Some((field, value)) = line.split_once(": ") {
            package.fields.insert(field.to_owned(), value.to_owned());
        } else {
            bail!("what is {line:?}?");
        }
    }
    Ok(all)
}

/// What is wrong with a recipe beyond what make notices; empty if nothing is.
pub fn faults(recipe: &str, packages: &[Package], version: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut want = |right: bool, what: String| {
        if !right {
            faults.push(format!("{recipe}: {what}"));
        }
    };
    for package in packages {
        let name = &package.name;
        let release = format!("{version}-r");
        want(
            package.field("Version").contains(&release),
            format!("{name} is not of version {version}"),
        );
        want(
            !package.text("description").trim().is_empty(),
            format!("{name} has no description"),
        );
        want(
            package.field("Title").len() <= 60,
            format!("the title of {name} does not fit into a menu"),
        );
        if let Err(err) = package.depends(&[]) {
            want(false, format!("{err:#}"));
        }
        for script in [
            "prepare", "compile", "preinst", "postinst", "prerm", "postrm",
        ] {
            if let Err(err) = shell_syntax(package.text(script)) {
                want(false, format!("{name}, {script}: {err:#}"));
            }
        }
        let compile = package.text("compile");
        if compile.contains("cargo ") {
            want(
                compile.contains(" --locked") && compile.contains(" --offline"),
                format!("{name} compiles other crates than those of Cargo.lock, or fetches them"),
            );
        }
        for tool in ["curl ", "wget ", "git "] {
            want(
                !compile.contains(tool),
                format!("{name} runs {tool}to compile"),
            );
        }
    }
    faults
}

/// Files beside a recipe that it does not install.
pub fn left_out(ctx: &Ctx, recipe: &str) -> Result<Vec<String>> {
    let home = home(ctx, recipe);
    let text = fs::read_to_string(home.join("Makefile"))?;
    let mut faults = Vec::new();
    if let Ok(files) = fs::read_dir(home.join("files")) {
        for file in files {
            let name = file?.file_name().to_string_lossy().into_owned();
            if name != "README.md" && !text.contains(&format!("./files/{name} ")) {
                faults.push(format!("{recipe}: files/{name} is not installed"));
            }
        }
    }
    Ok(faults)
}

/// Members of the workspace that a recipe which compiles with its Cargo.lock does not take along.
pub fn lost_members(ctx: &Ctx, package: &Package) -> Result<Vec<String>> {
    if !package.text("compile").contains("cargo ") {
        return Ok(Vec::new());
    }
    let manifest: toml::Table = fs::read_to_string(ctx.project.join("Cargo.toml"))?.parse()?;
    let members = manifest
        .get("workspace")
        .and_then(|w| w.get("members")?.as_array())
        .context("Cargo.toml has no members")?;
    let copied = |path: &Path| {
        let source = format!("../../{} ", path.display());
        package.text("prepare").contains(&source)
    };
    let lost = members.iter().filter_map(|m| m.as_str()).filter(|m| {
        let mut places = Path::new(m).ancestors();
        !places.any(|p| !p.as_os_str().is_empty() && copied(p))
    });
    Ok(lost
        .map(|m| format!("{}: {m} is not copied", package.name))
        .collect())
}

/// Asks a shell whether it can read commands of make, one a line.
fn shell_syntax(commands: &str) -> Result<()> {
    let mut shell = Command::new("sh")
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = shell.stdin.take().context("the shell has no input")?;
    for line in commands.lines() {
        // Marks of make's: always, quietly, whatever comes of it.
        writeln!(input, "{}", line.trim_start_matches(['\t', '+', '@', '-']))?;
    }
    drop(input);
    let done = shell.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}", complaint.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(depends: &str) -> Package {
        Package {
            name: "p".to_owned(),
            fields: [("Depends".to_owned(), depends.to_owned())].into(),
            texts: BTreeMap::new(),
        }
    }

    #[test]
    fn dumps() {
        let dump = "%package a\nVersion: 1-r1\nTitle: x: y\n%conffiles\n/etc/a\n%\n%package b\n%prepare\n%\n";
        let all = parse(dump).unwrap();
        let [a, b] = &all[..] else { panic!("{all:?}") };
        assert_eq!((a.name.as_str(), a.field("Title")), ("a", "x: y"));
        assert_eq!(a.text("conffiles"), "/etc/a\n");
        assert_eq!((b.field("Version"), b.text("prepare")), ("", ""));
        for bad in [
            "Version: 1\n",
            "%package a\nnonsense\n",
            "%package a\n%prepare\nx\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dependencies() {
        let all = "@LINUX_6_12 @(arm||mips) +a +IPV6:b +!IPV6:c d +a";
        for (enabled, want) in [(vec!["IPV6"], "a b d"), (vec![], "a c d")] {
            let depends = package(all).depends(&enabled).unwrap();
            assert_eq!(depends.join(" "), want);
        }
        for bad in ["+a,b", "+", "+$(X)", "+IPV6:"] {
            assert!(package(bad).depends(&["IPV6"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn shells() {
        assert!(shell_syntax("\t+@echo \"$(date)\"\n\t-if true; then :; fi\n").is_ok());
        assert!(shell_syntax("if true; then\n").is_err());
    }

    #[test]
    fn faulty_recipes() {
        let mut good = package("+a");
        for (field, value) in [("Version", "6.12.1.0.1.0-r1"), ("Title", "t")] {
            good.fields.insert(field.to_owned(), value.to_owned());
        }
        for (text, value) in [
            ("description", "d\n"),
            ("compile", "cargo x --locked --offline\n"),
        ] {
            good.texts.insert(text.to_owned(), value.to_owned());
        }
        assert_eq!(faults("r", &[good], "0.1.0"), Vec::<String>::new());
        let mut bad = package("+a");
        bad.texts
            .insert("compile".to_owned(), "cargo x; wget y; (\n".to_owned());
        assert_eq!(faults("r", &[bad], "0.1.0").len(), 5);
    }
}

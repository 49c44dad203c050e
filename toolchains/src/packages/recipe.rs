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

    /// Its dependencies: the kernel it is for, then packages. `enabled` are the options of OpenWrt's configuration
    /// that conditions may name.
    pub fn depends(&self, enabled: &[&str]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        if !self.field("Extra-Depends").is_empty() {
            all.push(self.field("Extra-Depends").to_owned());
        }
        for word in self.field("Depends").split_whitespace() {
            // Conditions for the package to be offered at all.
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
    make(ctx, recipe, settings, |make| {
        // Makefiles of others that a recipe's commands call are not asked.
        if ["dump", "pack"].contains(&goal) {
            make.arg("--warn-undefined-variables");
        }
        make.arg(goal);
    })
}

/// Runs make in a recipe's directory; any complaint of its is an error.
fn make(
    ctx: &Ctx,
    recipe: &str,
    settings: &[Setting],
    arguments: impl FnOnce(&mut Command),
) -> Result<String> {
    let mut make = Command::new("make");
    make.args(["--silent", "--directory"])
        .arg(home(ctx, recipe));
    make.arg(assignment(
        "TOPDIR",
        ctx.project.join("tests/openwrt").as_os_str(),
    ));
    for (name, value) in settings {
        make.arg(assignment(name, value));
    }
    // Those of a make this may run under are not meant for this one.
    for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DUMP"] {
        make.env_remove(inherited);
    }
    arguments(&mut make);
    let done = make
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

/// Reads a recipe as `scripts/feeds update` does: make with DUMP=1 and no goal, while there is neither target nor kernel.
/// Gives the fields of each package, also of those that are packed nowhere here (translations).
pub fn metadata(ctx: &Ctx, recipe: &str) -> Result<Vec<Package>> {
    let text = make(ctx, recipe, &[("DUMP", "1".into())], |make| {
        make.arg("--no-builtin-rules");
    })?;
    let packages = parse_metadata(&text).with_context(|| format!("the recipe {recipe}"))?;
    ensure!(!packages.is_empty(), "the recipe {recipe} has no package");
    Ok(packages)
}

/// The directory of a recipe: beside the files that luci.mk looks for there, or with the others.
pub fn home(ctx: &Ctx, recipe: &str) -> PathBuf {
    match recipe.starts_with("luci-") {
        true => ctx.project.join(recipe),
        false => ctx.project.join("openwrt-feed").join(recipe),
    }
}

fn assignment(name: &str, value: &std::ffi::OsStr) -> OsString {
    let mut text = OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

/// Output of the stand-ins: `%package NAME`, lines `Field: value`, and texts between `%NAME` and `%`.
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

/// Output of package-dumpinfo.mk: lines `Field: value`, a description that goes on, and `@@` after each package.
fn parse_metadata(dump: &str) -> Result<Vec<Package>> {
    let mut all = Vec::new();
    for paragraph in dump.split("\n@@\n").filter(|p| !p.trim().is_empty()) {
        let mut package = Package::default();
        let (fields, description) = paragraph
            .split_once("\nDescription: ")
            .context("a package without a description")?;
        package
            .texts
            .insert("description".to_owned(), description.to_owned());
        for line in fields.lines() {
            let (field, value) = line
                .split_once(':')
                .with_context(|| format!("what is {line:?}?"))?;
            package
                .fields
                .insert(field.to_owned(), value.trim().to_owned());
        }
        package.name = package.field("Package").to_owned();
        ensure!(!package.name.is_empty(), "a package without a name");
        all.push(package);
    }
    Ok(all)
}

/// What OpenWrt's scripts and its reviewers object to in the metadata of a recipe; empty if they do not.
pub fn metadata_faults(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let name = &package.name;
        for field in ["Version", "Title", "Section", "Category", "Maintainer"] {
            if package.field(field).is_empty() {
                faults.push(format!("{name} has no {field}"));
            }
        }
        let maintainer = package.field("Maintainer");
        let mail = maintainer.split_once(" <").map(|(_, mail)| mail);
        if !mail.is_some_and(|m| m.contains('@') && m.ends_with('>')) {
            faults.push(format!("{name}: {maintainer:?} is no name with an e-mail"));
        }
        let conflicts: Vec<_> = package.field("Conflicts").split_whitespace().collect();
        for provided in package.field("Provides").split_whitespace() {
            let plain = provided.trim_start_matches('@');
            // package-metadata.pl writes "depends on" the absence of what the same option stands for.
            if conflicts.contains(&plain) {
                faults.push(format!("{name}: Kconfig finds a recursion by {plain}"));
            }
            // Among versioned ones apk prefers the highest version, of any repository.
            if plain == provided {
                faults.push(format!("{name}: {provided} is provided with a version"));
            }
        }
    }
    faults
}

/// Faults of a recipe that make does not notice.
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

/// Faults of the files beside a recipe, which OpenWrt's scripts would stumble over: files that it does not install, translations whose
/// history a link hides, checks that hide what they see, a recipe that the search for packages passes over.
pub fn beside(ctx: &Ctx, recipe: &str) -> Result<Vec<String>> {
    let home = home(ctx, recipe);
    let text = fs::read_to_string(home.join("Makefile"))?;
    let mut faults = Vec::new();
    // By these words scan.mk tells the recipe of a package from other Makefiles.
    if !["BuildPackage", "KernelPackage"]
        .iter()
        .any(|word| text.contains(&format!("call {word}")))
    {
        faults.push(format!("{recipe}: scripts/feeds finds no package in it"));
    }
    if text.contains("FILE_MODES:") {
        faults.push(format!("{recipe}: apk does not set FILE_MODES"));
    }
    let test = fs::read_to_string(home.join("test.sh"))
        .with_context(|| format!("{recipe} has no test.sh"))?;
    if let Err(err) = shell_syntax(&test) {
        faults.push(format!("{recipe}: test.sh: {err:#}"));
    }
    if ["grep -q", "--quiet"].iter().any(|q| test.contains(q)) {
        faults.push(format!("{recipe}: test.sh hides what it sees"));
    }
    for directory in ["po", "htdocs", "root"] {
        if home.join(directory).is_symlink() {
            faults.push(format!("{recipe}: {directory} is a link"));
        }
    }
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
    fn metadata_as_openwrt_prints_it() {
        let dump = "Package: a\nProvides: @a-any @b\nConflicts: \nDescription: One.\n  Two.\n@@\n\
                    Package: c\nMaintainer: x\nDescription: \n@@\n";
        let all = parse_metadata(dump).unwrap();
        let [a, c] = &all[..] else { panic!("{all:?}") };
        assert_eq!((a.name.as_str(), a.field("Conflicts")), ("a", ""));
        assert_eq!(a.text("description"), "One.\n  Two.");
        assert_eq!(c.field("Maintainer"), "x");
        for bad in ["Package: a\n@@\n", "nonsense\nDescription: x\n@@\n"] {
            assert!(parse_metadata(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn metadata_that_openwrt_refuses() {
        let mut package = package("");
        for (field, value) in [
            ("Version", "1-r1"),
            ("Title", "t"),
            ("Section", "net"),
            ("Category", "Network"),
            ("Maintainer", "A B <a@b.example>"),
            ("Provides", "@p-any @theirs"),
        ] {
            package.fields.insert(field.to_owned(), value.to_owned());
        }
        let with = |field: &str, value: &str| {
            let mut fields = package.fields.clone();
            fields.insert(field.to_owned(), value.to_owned());
            let other = Package {
                fields,
                ..Package::default()
            };
            metadata_faults(&[other]).join("; ")
        };
        assert_eq!(with("Title", "t"), "");
        for (field, value, fault) in [
            ("Conflicts", "theirs", "recursion by theirs"),
            ("Provides", "theirs", "provided with a version"),
            ("Maintainer", "authors", "no name with an e-mail"),
            ("Section", "", "has no Section"),
        ] {
            assert!(with(field, value).contains(fault), "{}", with(field, value));
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

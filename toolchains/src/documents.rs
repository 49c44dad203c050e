// SPDX-License-Identifier: GPL-2.0-only
//! Links, paths and commands that documents name: each has to be there.

use std::fs;
use std::path::Path;

/// Targets of OpenWrt's build system and of the kernel's, which documents name, too.
const FOREIGN: [&str; 6] = [
    "compile",
    "defconfig",
    "menuconfig",
    "modules_prepare",
    "oldconfig",
    "prepare",
];
/// Makefiles whose targets documents name.
const MAKEFILES: [&str; 2] = ["Makefile", "kmod-ovpn/Makefile"];

/// One sentence for each fault of a document; `usage` lists the verbs of the harness.
pub fn faults(project: &Path, file: &str, text: &str, usage: &str) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let there =
        |path: &str| project.join(path).exists() || project.join(folder).join(path).exists();
    let mut faults = Vec::new();
    for link in links(text).filter(|link| !project.join(folder).join(link).exists()) {
        faults.push(format!("{file} links to {link}, which is not there"));
    }
    for code in spans(text) {
        if is_path(project, code) && !there(code) {
            faults.push(format!("{file} names {code}, which is not there"));
        }
        if let Some(target) = code.strip_prefix("make ").and_then(first)
            && !FOREIGN.contains(&target)
            && !MAKEFILES.iter().any(|m| has_target(project, m, target))
        {
            faults.push(format!("{file} names make {target}, which no Makefile has"));
        }
        let harness = code
            .strip_prefix("lane ")
            .or_else(|| Some(code.split_once("-p lane -- ")?.1));
        if let Some(verb) = harness.and_then(first) {
            let has = |line: &str| first(line.trim_start()) == Some(verb);
            if !usage.lines().any(has) {
                faults.push(format!(
                    "{file} names the verb {verb}, which the harness has not"
                ));
            }
        }
    }
    faults
}

/// Targets of the links to files of the tree, without anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
}

/// Inline code of one line, and the lines of code blocks.
fn spans(text: &str) -> Vec<&str> {
    let mut block = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            spans.push(line.trim_start_matches(['$', ' ']));
        } else {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// Whether this is a path of the tree: plain, with a folder of the tree in front.
fn is_path(project: &Path, code: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let top = code.split('/').next().unwrap_or_default();
    code.contains('/')
        && code.chars().all(plain)
        && !top.is_empty()
        && !top.starts_with('.')
        && project.join(top).is_dir()
}

/// The first word, if it is a plain name.
fn first(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    word.chars()
        .all(|c| c.is_ascii_lowercase() || c == '-' || c == '_')
        .then_some(word)
}

fn has_target(project: &Path, makefile: &str, target: &str) -> bool {
    let text = fs::read_to_string(project.join(makefile)).unwrap_or_default();
    let phony = text.lines().filter_map(|line| line.strip_prefix(".PHONY:"));
    phony
        .flat_map(str::split_whitespace)
        .any(|name| name == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_name_only_things_that_are_there() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let usage = "  test    everything\n  check NAME  one";
        let good = "[a](../README.md#x) `toolchains/src/main.rs` `make test` `lane check unit` `a/b` `tests/*`\n```\nmake check\n```\n";
        assert_eq!(
            faults(&project, "docs/x.md", good, usage),
            Vec::<String>::new()
        );
        for bad in [
            "[a](none.md)",
            "`toolchains/src/none.rs`",
            "`make none`",
            "`lane none`",
            "```\ncargo run -p lane -- none\n```",
        ] {
            assert_eq!(faults(&project, "docs/x.md", bad, usage).len(), 1, "{bad}");
        }
    }
}

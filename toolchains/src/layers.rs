// SPDX-License-Identifier: GPL-2.0-only
//! Modules that know more than they may: layers of the driver, circles in each crate.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Sources whose modules must not form circles.
const ROOTS: [&str; 3] = ["kmod-ovpn/src", "kmod-ovpn/core/src", "ovpnd/netlink/src"];
/// Folders whose files are modules of their own here; of any other folder all files together are one.
const OPEN: [&str; 1] = ["sys"];
/// The bottom of the driver, and the modules outside it that it may use: the rules of the core, and kernel versions.
const BOTTOM: (&str, &str) = ("kmod-ovpn/src", "sys/");
const BELOW: [&str; 2] = ["proto", "compat"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// One sentence for each fault of the tree.
pub fn faults(project: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for root in ROOTS {
        let mut files = Vec::new();
        read(&project.join(root), &mut Vec::new(), &mut files)?;
        let graph = graph(&files);
        if root == BOTTOM.0 {
            faults.extend(
                climbing(&graph)
                    .map(|(from, to)| format!("{root}/{from}.rs uses {to}, which is above it")),
            );
        }
        faults.extend(
            circles(&graph)
                .iter()
                .map(|c| format!("{root}: {} form a circle", c.join(", "))),
        );
    }
    Ok(faults)
}

/// Module paths below a folder with their texts, without comments and tests.
fn read(dir: &Path, at: &mut Vec<String>, files: &mut Vec<(Vec<String>, String)>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            at.push(name);
            read(&path, at, files)?;
            at.pop();
        } else if path.extension().is_some_and(|e| e == "rs") {
            let mut module = at.clone();
            if name != "mod" {
                module.push(name);
            }
            files.push((module, code(&fs::read_to_string(&path)?)));
        }
    }
    Ok(())
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Which module uses which.
fn graph(files: &[(Vec<String>, String)]) -> Graph {
    let known: BTreeSet<_> = files.iter().map(|(module, _)| key(module)).collect();
    let mut graph = Graph::new();
    for (module, text) in files {
        let from = key(module);
        // The driver compiles the core as a module `proto`, which has no file of that name.
        let counts =
            |to: &String| *to != from && (known.contains(to) || BELOW.contains(&to.as_str()));
        let used = paths(module, text).into_iter().map(|path| key(&path));
        let used: Vec<_> = used.filter(counts).collect();
        graph.entry(from).or_default().extend(used);
    }
    graph
}

fn key(path: &[String]) -> String {
    match path {
        [folder, file, ..] if OPEN.contains(&folder.as_str()) => format!("{folder}/{file}"),
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

/// The paths that a file names by `crate::` and `super::`, from the root of its crate.
fn paths(module: &[String], text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in text.match_indices(word) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut rest = &text[at + word.len()..];
            let mut base = match word {
                "crate::" => Vec::new(),
                _ => module[..module.len().saturating_sub(1)].to_vec(),
            };
            while let Some(outer) = rest.strip_prefix("super::") {
                base.pop();
                rest = outer;
            }
            tree(&base, rest, &mut found);
        }
    }
    found
}

/// The paths of a use tree that begins with `text`; returns the bytes that it takes.
fn tree(base: &[String], text: &str, found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(inner) = rest.strip_prefix('{') {
            let mut used = 0;
            while !inner[used..].is_empty() && !inner[used..].starts_with('}') {
                match inner[used..].chars().next() {
                    Some(c) if c.is_alphanumeric() || c == '_' || c == '{' => {
                        used += tree(&path, &inner[used..], found).max(1)
                    }
                    Some(c) => used += c.len_utf8(),
                    None => break,
                }
            }
            return at + used + 2;
        }
        let word = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        let word: String = word.collect();
        at += word.len();
        path.push(word);
        match text[at..].starts_with("::") {
            true => at += 2,
            false => break,
        }
    }
    found.push(path);
    at
}

/// Modules of the bottom and what they use above it.
fn climbing(graph: &Graph) -> impl Iterator<Item = (&String, &String)> {
    let low = graph.iter().filter(|(from, _)| from.starts_with(BOTTOM.1));
    let uses = low.flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
    uses.filter(|(_, to)| !to.starts_with(BOTTOM.1) && !BELOW.contains(&to.as_str()))
}

/// Groups of modules that reach each other.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reach: BTreeMap<_, _> = graph
        .keys()
        .map(|from| (from, reachable(graph, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, to) in &reach {
        let mutual = |other: &&String| reach.get(*other).is_some_and(|back| back.contains(*from));
        let circle: Vec<_> = to.iter().filter(mutual).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable(graph: &Graph, from: &String) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for to in graph.get(module).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_none() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(faults(&project).unwrap(), Vec::<String>::new());
    }

    fn of(files: &[(&str, &str)]) -> Graph {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.split('/').map(str::to_owned).collect(), code(text)))
            .collect();
        graph(&files)
    }

    #[test]
    fn a_circle_is_found_through_all_forms_of_a_path() {
        let graph = of(&[
            ("a", "use crate::{b::{self, B}, c};\n"),
            ("b", "fn f() { crate::d::x() }\n"),
            ("c", "// crate::a is a comment\n"),
            ("d/one", "use super::super::a;\n"),
            ("d/two", "#[cfg(test)]\nuse crate::c;\n"),
        ]);
        assert_eq!(circles(&graph), [["a", "b", "d"]]);
        assert!(graph["a"].contains("c") && graph["d"].len() == 1);
    }

    #[test]
    fn the_bottom_knows_nothing_above_it() {
        let graph = of(&[
            (
                "sys/skb",
                "use super::netdev::NetDev;\nuse crate::proto::wire;\nuse crate::compat::Arc;\n",
            ),
            ("sys/netdev", "use crate::peer::Peer;\n"),
            ("peer", "use crate::sys::{skb, netdev};\n"),
            ("compat", ""),
        ]);
        let found: Vec<_> = climbing(&graph).collect();
        assert_eq!(found, [(&"sys/netdev".to_owned(), &"peer".to_owned())]);
        assert_eq!(circles(&graph), [["peer", "sys/netdev", "sys/skb"]]);
    }
}

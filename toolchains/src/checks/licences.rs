// SPDX-License-Identifier: GPL-2.0-only
//! Licences and sources of the crates that this repository's programs are made of, by the lists of deny.toml. cargo-deny 0.20 would
//! have CI compile some two hundred crates for that (its Cargo.lock has 211), and does not know that a program under GPL-2.0-only
//! must not link a crate under Apache-2.0.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Not distributed, and so free to link the broker's crate, which is under Apache-2.0.
const NOT_DISTRIBUTED: &str = "ovpn-tests";
const REGISTRY: &str = "registry+";

/// The lists of deny.toml that are read here.
#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    allow: Vec<String>,
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

/// The answer of `cargo metadata`, format 1.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    /// None for a crate of this repository.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Debug, Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    /// None for a crate that is linked; else `dev` or `build`.
    kind: Option<String>,
}

/// One sentence for each fault. `metadata` is the text of `cargo metadata --locked --offline --format-version 1`.
pub fn faults(project: &Path, metadata: &str) -> Result<Vec<String>> {
    let path = project.join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    judge(&text, metadata)
}

fn judge(deny: &str, metadata: &str) -> Result<Vec<String>> {
    let deny: Deny = toml::from_str(deny).context("deny.toml")?;
    let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata")?;
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let mut faults = Vec::new();
    for package in packages.values() {
        let Package { name, source, .. } = package;
        let licence = package.license.as_deref().unwrap_or_default();
        let exceptions = deny.licenses.exceptions.iter();
        let own = exceptions.filter(|one| one.name == *name && source.is_none());
        let own = own.flat_map(|one| &one.allow);
        let allowed: Vec<&str> = deny
            .licenses
            .allow
            .iter()
            .chain(own)
            .map(String::as_str)
            .collect();
        if !fits(licence, &allowed) {
            faults.push(format!(
                "{name} is under \"{licence}\", which deny.toml does not allow"
            ));
        }
        if deny.bans.deny.iter().any(|banned| banned.name == *name) {
            faults.push(format!("{name} is banned by deny.toml"));
        }
        if source
            .as_ref()
            .is_some_and(|source| !source.starts_with(REGISTRY))
        {
            faults.push(format!("{name} comes from no registry"));
        }
    }
    let linked: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let linked = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|k| k.kind.is_none()));
            (
                node.id.as_str(),
                linked.map(|dep| dep.pkg.as_str()).collect(),
            )
        })
        .collect();
    let without_apache: Vec<&str> = deny
        .licenses
        .allow
        .iter()
        .map(String::as_str)
        .filter(|licence| *licence != "Apache-2.0")
        .chain(["GPL-2.0-only"])
        .collect();
    for member in metadata
        .workspace_members
        .iter()
        .filter_map(|id| packages.get(id.as_str()))
    {
        if member.license.as_deref() != Some("GPL-2.0-only") || member.name == NOT_DISTRIBUTED {
            continue;
        }
        for id in reachable(&member.id, &linked) {
            let Some(package) = packages.get(id) else {
                continue;
            };
            let licence = package.license.as_deref().unwrap_or_default();
            if !fits(licence, &without_apache) {
                faults.push(format!(
                    "{} is under GPL-2.0-only and must not link {}, which is under \"{licence}\"",
                    member.name, package.name
                ));
            }
        }
    }
    faults.sort();
    Ok(faults)
}

/// A crate and all that are linked with it.
fn reachable<'a>(from: &'a str, linked: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            next.extend(linked.get(id).into_iter().flatten());
        }
    }
    seen
}

/// Whether one of the allowed licences is enough for an SPDX expression: `OR`, `AND`, `WITH`, parentheses, and the slash of old
/// crates. An expression that is none fits nothing.
fn fits(expression: &str, allowed: &[&str]) -> bool {
    let text = expression.replace('/', " OR ");
    let text = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut words = words.as_slice();
    let verdict = either(&mut words, allowed);
    verdict.unwrap_or(false) && words.is_empty()
}

fn either(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut verdict = both(words, allowed)?;
    while let ["OR", rest @ ..] = words {
        *words = rest;
        verdict |= both(words, allowed)?;
    }
    Some(verdict)
}

fn both(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut verdict = one(words, allowed)?;
    while let ["AND", rest @ ..] = words {
        *words = rest;
        verdict &= one(words, allowed)?;
    }
    Some(verdict)
}

fn one(words: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    match *first {
        "(" => {
            let verdict = either(words, allowed)?;
            let [")", rest @ ..] = words else { return None };
            *words = rest;
            Some(verdict)
        }
        "OR" | "AND" | "WITH" | ")" => None,
        licence => {
            // An exception gives more than the licence alone.
            if let ["WITH", _, rest @ ..] = words {
                *words = rest;
            }
            Some(allowed.contains(&licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = include_str!("../../../deny.toml");

    #[test]
    fn expressions_are_read_as_spdx_has_them() {
        let allowed = ["MIT", "ISC"];
        for (expression, fit) in [
            ("MIT", true),
            ("Apache-2.0 OR MIT", true),
            ("Unlicense/MIT", true),
            ("Apache-2.0 AND ISC", false),
            ("MIT AND ISC", true),
            ("(Apache-2.0 OR MIT) AND ISC", true),
            ("Apache-2.0 AND ISC OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("MIT WITH x", true),
            ("", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT ISC", false),
            ("MIT)", false),
        ] {
            assert_eq!(fits(expression, &allowed), fit, "{expression}");
        }
    }

    /// A repository of two crates of ours and one of others that both link.
    fn tree(licence: &str, source: &str, ours: &str, kind: &str) -> Vec<String> {
        let metadata = format!(
            r#"{{"packages": [{{"id": "1", "name": "lane", "license": "{ours}", "source": null}},
              {{"id": "2", "name": "other", "license": "{licence}", "source": "{source}"}}],
              "workspace_members": ["1"],
              "resolve": {{"nodes": [{{"id": "1", "deps": [{{"pkg": "2", "dep_kinds": [{{"kind": {kind}}}]}}]}},
              {{"id": "2", "deps": []}}]}}}}"#
        );
        judge(DENY, &metadata).unwrap()
    }

    #[test]
    fn faults_are_named() {
        let ours = "GPL-2.0-only";
        let registry = "registry+x";
        assert_eq!(tree("MIT", registry, ours, "null"), [""; 0]);
        assert_eq!(tree("Apache-2.0", registry, ours, "\"dev\""), [""; 0]);
        for (faults, word) in [
            (
                tree("Apache-2.0 AND ISC", registry, ours, "null"),
                "must not link other",
            ),
            (
                tree("AGPL-3.0", registry, ours, "\"build\""),
                "does not allow",
            ),
            (tree("MIT", "git+x", ours, "null"), "no registry"),
            (
                tree("MIT", registry, "GPL-3.0-only", "null"),
                "lane is under",
            ),
        ] {
            assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
        }
    }

    #[test]
    fn a_banned_crate_is_named() {
        let metadata = r#"{"packages": [{"id": "1", "name": "openssl-sys", "license": "MIT", "source": "registry+x"}],
            "workspace_members": [], "resolve": {"nodes": []}}"#;
        assert_eq!(
            judge(DENY, metadata).unwrap(),
            ["openssl-sys is banned by deny.toml"]
        );
    }
}

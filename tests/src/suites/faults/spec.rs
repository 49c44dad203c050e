// SPDX-License-Identifier: GPL-2.0-only
//! Content of the YAML specifications of the family: attributes by level, operations with what they take
//! (Documentation/netlink/specs/ovpn.yaml of the kernel and, beside it, what this driver adds).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use yaml_rust2::{Yaml, YamlLoader};

use crate::tap::{During, Failure, Outcome};

/// An attribute's type, with its limits where it has any.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A number of so many bytes.
    Number {
        bytes: usize,
        big: bool,
        max: Option<u64>,
    },
    /// Bytes: exactly, or at most so many.
    Bytes { exactly: Option<usize>, most: usize },
    /// A level of its own.
    Nest(String),
}

/// An attribute.
#[derive(Debug, Clone)]
pub struct Attr {
    pub name: String,
    pub number: u16,
    pub kind: Kind,
}

/// An operation and the level of its attributes.
#[derive(Debug, Clone)]
pub struct Op {
    pub number: u8,
    pub level: String,
    pub takes: Vec<String>,
    pub dumps: bool,
}

/// Everything that is known.
pub struct Spec {
    pub levels: BTreeMap<String, Vec<Attr>>,
    pub ops: Vec<Op>,
    /// Numbers of the commands, those that only the kernel sends too.
    pub commands: BTreeMap<String, u16>,
}

/// Where the harness puts the files.
fn files() -> Outcome<Vec<PathBuf>> {
    let program = std::env::current_exe()?;
    // Both may be the same directory: a file that is read twice has each attribute twice.
    let mut places: Vec<PathBuf> = program.parent().map(PathBuf::from).into_iter().collect();
    places.push("/lane/bin".into());
    let found: Vec<PathBuf> = ["ovpn.yaml", "ovpn-ext.yaml"]
        .iter()
        .filter_map(|name| {
            let mut paths = places.iter().map(|dir| dir.join(name));
            paths.find(|path| path.is_file())
        })
        .collect();
    if found.is_empty() {
        return Err(Failure::Skipped(
            "no specification beside this program".into(),
        ));
    }
    Ok(found)
}

fn text(yaml: &Yaml, key: &str) -> String {
    yaml[key].as_str().unwrap_or_default().to_owned()
}

fn list(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().map_or(&[], Vec::as_slice)
}

impl Spec {
    pub fn read() -> Outcome<Self> {
        let mut spec = Self {
            levels: BTreeMap::new(),
            ops: Vec::new(),
            commands: BTreeMap::new(),
        };
        for file in files()? {
            let source = fs::read_to_string(&file).during(file.display())?;
            let documents = YamlLoader::load_from_str(&source)
                .map_err(Failure::new)
                .during(file.display())?;
            for document in &documents {
                spec.add(document);
            }
        }
        crate::check!(
            spec.ops.len() > 5 && spec.levels.len() > 3,
            "the specification says too little"
        );
        Ok(spec)
    }

    fn add(&mut self, yaml: &Yaml) {
        let constants: BTreeMap<String, i64> = list(&yaml["definitions"])
            .iter()
            .filter_map(|d| Some((text(d, "name"), d["value"].as_i64()?)))
            .collect();
        let enums: BTreeMap<String, u64> = list(&yaml["definitions"])
            .iter()
            .filter_map(|d| Some((text(d, "name"), d["entries"].as_vec()?.len() as u64)))
            .collect();
        for set in list(&yaml["attribute-sets"]) {
            self.add_level(set, &constants, &enums);
        }
        let mut number = 0;
        for op in list(&yaml["operations"]["list"]) {
            number = op["value"].as_i64().unwrap_or(number + 1);
            self.commands.insert(text(op, "name"), number as u16);
            let takes = |how: &str| -> Vec<String> {
                let attributes = list(&op[how]["request"]["attributes"]);
                attributes
                    .iter()
                    .filter_map(|a| Some(a.as_str()?.to_owned()))
                    .collect()
            };
            for (how, dumps) in [("do", false), ("dump", true)] {
                if !op[how].is_badvalue() {
                    self.ops.push(Op {
                        number: number as u8,
                        level: text(op, "attribute-set"),
                        takes: takes(how),
                        dumps,
                    });
                }
            }
        }
    }

    fn add_level(
        &mut self,
        set: &Yaml,
        constants: &BTreeMap<String, i64>,
        enums: &BTreeMap<String, u64>,
    ) {
        let parent = self
            .levels
            .get(&text(set, "subset-of"))
            .cloned()
            .unwrap_or_default();
        let mut number = 0;
        let mut attrs = Vec::new();
        for attr in list(&set["attributes"]) {
            let name = text(attr, "name");
            let nested = attr["nested-attributes"].as_str().map(str::to_owned);
            if let Some(known) = parent.iter().find(|a| a.name == name) {
                let mut known = known.clone();
                if let Some(level) = nested {
                    known.kind = Kind::Nest(level);
                }
                attrs.push(known);
                continue;
            }
            number = attr["value"].as_i64().unwrap_or(number + 1);
            let checks = &attr["checks"];
            let limit = |key: &str| -> Option<u64> {
                let value = &checks[key];
                let named = value.as_str().and_then(|name| constants.get(name).copied());
                value.as_i64().or(named).and_then(|n| n.try_into().ok())
            };
            let entries = attr["enum"]
                .as_str()
                .and_then(|e| enums.get(e))
                .map(|n| n - 1);
            let number_of = |bytes| Kind::Number {
                bytes,
                big: attr["byte-order"].as_str() == Some("big-endian"),
                max: limit("max").or(entries),
            };
            let kind = match attr["type"].as_str().unwrap_or_default() {
                "u8" => number_of(1),
                "u16" => number_of(2),
                "u64" | "uint" => number_of(8),
                "nest" => Kind::Nest(nested.unwrap_or_default()),
                "u32" | "s32" => number_of(4),
                "flag" => Kind::Bytes {
                    exactly: Some(0),
                    most: 0,
                },
                _ => Kind::Bytes {
                    exactly: limit("exact-len").map(|n| n as usize),
                    most: limit("max-len").unwrap_or(64) as usize,
                },
            };
            attrs.push(Attr {
                name,
                number: number as u16,
                kind,
            });
        }
        // This driver's additions join the level they are added to.
        self.levels
            .entry(text(set, "name"))
            .or_default()
            .extend(attrs);
    }

    /// Attributes of a level.
    pub fn level(&self, name: &str) -> &[Attr] {
        self.levels.get(name).map_or(&[], Vec::as_slice)
    }
}

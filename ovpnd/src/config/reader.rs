// SPDX-License-Identifier: GPL-2.0-or-later
//! Takes the options of one section, typed, and collects what is wrong with them.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Problem;
use crate::uci::{File, Opt, Section, Value};

pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) section: &'a Section,
    /// The section as `uci` names it.
    pub(super) label: String,
    pub(super) problems: Vec<Problem>,
    warnings: Vec<Problem>,
    known: BTreeSet<&'static str>,
}

/// A section's name, or its place among those of its type in `uci`'s notation.
pub(super) fn label(file: &File, index: usize, section: &Section) -> String {
    let place = || {
        let before = file.sections.iter().take(index);
        before.filter(|other| other.kind == section.kind).count()
    };
    section
        .name
        .clone()
        .unwrap_or_else(|| format!("@{}[{}]", section.kind, place()))
}

impl<'a> Reader<'a> {
    /// A reader of section number `index` of `uci`, which is the file called `path`.
    pub(super) fn new(path: &'a str, uci: &File, index: usize, section: &'a Section) -> Self {
        Self {
            // An option that came by ubus stands on no line.
            file: if section.line == 0 { "ubus" } else { path },
            section,
            label: label(uci, index, section),
            problems: Vec::new(),
            warnings: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    fn problem(&self, option: Option<&str>, message: String) -> Problem {
        let line = option
            .and_then(|name| self.section.option(name))
            .map_or(self.section.line, |option| option.line);
        Problem {
            file: self.file.to_owned(),
            line,
            section: Some(self.label.clone()),
            option: option.map(str::to_owned),
            message,
        }
    }

    /// Notes a fault of an option or of the section.
    pub(super) fn fault(&mut self, option: Option<&str>, message: impl Into<String>) {
        let problem = self.problem(option, message.into());
        self.problems.push(problem);
    }

    /// Warns of an option, if it is there.
    pub(super) fn warn_of(&mut self, name: &'static str, why: String) {
        if self.option(name).is_some() {
            let warning = self.problem(Some(name), why);
            self.warnings.push(warning);
        }
    }

    /// Line of an option, or of the section without it.
    pub(super) fn line(&self, option: &str) -> usize {
        self.section
            .option(option)
            .map_or(self.section.line, |option| option.line)
    }

    fn option(&mut self, name: &'static str) -> Option<&'a Opt> {
        self.known.insert(name);
        self.section.option(name)
    }

    /// A single value. An empty one counts as absent, as it does for `uci`.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        match &self.option(name)?.value {
            Value::One(text) if text.is_empty() => None,
            Value::One(text) => Some(text),
            Value::List(_) => {
                self.fault(Some(name), "must be an option with one value, not a list");
                None
            }
        }
    }

    /// All values of a list; an option with several words is one, too.
    pub(super) fn list<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Vec<T> {
        let texts: Vec<&str> = match self.option(name).map(|option| &option.value) {
            Some(Value::List(list)) => list.iter().map(String::as_str).collect(),
            Some(Value::One(text)) => text.split_whitespace().collect(),
            None => Vec::new(),
        };
        let mut values = Vec::new();
        for text in texts {
            match text.parse::<T>() {
                Ok(value) => values.push(value),
                Err(error) => self.fault(Some(name), error.to_string()),
            }
        }
        values
    }

    /// The values of a list, or the one value of an option, each as a whole line.
    #[cfg(feature = "tls")]
    pub(super) fn lines(&mut self, name: &'static str) -> Vec<&'a str> {
        match self.option(name).map(|option| &option.value) {
            Some(Value::List(list)) => list.iter().map(String::as_str).collect(),
            Some(Value::One(text)) if !text.is_empty() => vec![text],
            _ => Vec::new(),
        }
    }

    /// A value of any type that can be read from text.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        match self.text(name)?.parse::<T>() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(Some(name), error.to_string());
                None
            }
        }
    }

    /// Like [`Self::parsed`], and absence is a fault.
    pub(super) fn required<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        let faults = self.problems.len();
        let value = self.parsed(name);
        if value.is_none() && self.problems.len() == faults {
            self.fault(Some(name), "is missing");
        }
        value
    }

    /// A decimal number.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let text = self.text(name)?;
        // Digits alone: the standard parser would take a sign too.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text
            .parse()
            .ok()
            .filter(|value| digits && range.contains(value));
        if value.is_none() {
            let (low, high) = range.into_inner();
            self.fault(
                Some(name),
                format!(
                    "must be a number from {low} to {high}, not \"{}\"",
                    text.escape_debug()
                ),
            );
        }
        value
    }

    /// A switch, in the words OpenWrt takes.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.text(name)? {
            "1" | "on" | "true" | "yes" | "enabled" => Some(true),
            "0" | "off" | "false" | "no" | "disabled" => Some(false),
            text => {
                self.fault(
                    Some(name),
                    format!("must be 0 or 1, not \"{}\"", text.escape_debug()),
                );
                None
            }
        }
    }

    /// Ends reading: faults, and warnings, also of options that are there twice or unknown, save those in
    /// `ignored`.
    pub(super) fn finish(self, ignored: &[&str]) -> (Vec<Problem>, Vec<Problem>) {
        let unknown = self
            .section
            .options
            .iter()
            .map(|option| option.name.as_str());
        let unknown = unknown.filter(|name| !self.known.contains(name) && !ignored.contains(name));
        let unknown = unknown.map(|name| self.problem(Some(name), "is unknown and ignored".into()));
        let repeated = self.section.repeated.iter();
        let repeated = repeated.map(|name| {
            self.problem(
                Some(name),
                "is there more than once: the last one counts".into(),
            )
        });
        let warnings: Vec<Problem> = unknown.chain(repeated).collect();
        (self.problems, [self.warnings, warnings].concat())
    }
}

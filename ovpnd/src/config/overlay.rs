// SPDX-License-Identifier: GPL-2.0-or-later
//! Changes of peers that came by ubus: they lie over the files until the daemon ends.
//!
//! They are changes of UCI sections, so that everything a file may say is read, checked and worded once.

use super::PROTO;
use crate::uci::{File, Section, Value};

/// Longest value of an option in bytes: libuci reads lines into a buffer of 4 KiB pieces, and no option of
/// ours has use for more.
const MAX_VALUE: usize = 1024;

/// Changes in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    edits: Vec<Edit>,
}

/// A change of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its interface.
    pub interface: String,
    /// Its section.
    pub peer: String,
    /// The change of the section.
    pub what: What,
}

/// A change of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It gets these options, and is made if it is not there; `None` takes an option away.
    Set(Vec<(String, Option<Value>)>),
    /// It goes.
    Delete,
}

impl Overlay {
    /// With one more change. Those of the same peer that it makes void are dropped.
    pub fn with(&self, edit: Edit) -> Self {
        let mut edits = self.edits.clone();
        let same = |other: &Edit| other.interface == edit.interface && other.peer == edit.peer;
        match &edit.what {
            What::Delete => edits.retain(|other| !same(other)),
            What::Set(options) => {
                let last = edits.iter_mut().rfind(|other| same(other));
                if let Some(Edit {
                    what: What::Set(known),
                    ..
                }) = last
                {
                    known.retain(|(name, _)| !options.iter().any(|(new, _)| new == name));
                    known.extend(options.iter().cloned());
                    return Self { edits };
                }
            }
        }
        edits.push(edit);
        Self { edits }
    }

    /// How many changes concern an interface.
    pub fn count(&self, interface: &str) -> usize {
        let edits = self.edits.iter();
        edits.filter(|edit| edit.interface == interface).count()
    }

    /// Whether a peer's section is made or changed here.
    pub fn touches(&self, interface: &str, peer: &str) -> bool {
        self.edits
            .iter()
            .any(|edit| edit.interface == interface && edit.peer == peer)
    }

    /// Changes `file`.
    pub fn apply(&self, file: &mut File) {
        for edit in &self.edits {
            edit.apply(file);
        }
    }
}

impl Edit {
    fn apply(&self, file: &mut File) {
        let kind = format!("{PROTO}_{}", self.interface);
        let ours = |section: &Section| {
            section.kind == kind && section.name.as_deref() == Some(self.peer.as_str())
        };
        let What::Set(options) = &self.what else {
            // Emptied and not removed: errors of the file name sections by their place.
            if let Some(section) = file.sections.iter_mut().find(|section| ours(section)) {
                section.kind.clear();
                section.name = None;
                section.options.clear();
                section.repeated.clear();
            }
            return;
        };
        if !file.sections.iter().any(ours) {
            file.sections.push(Section {
                kind: kind.clone(),
                name: Some(self.peer.clone()),
                line: 0,
                options: Vec::new(),
                repeated: Vec::new(),
            });
        }
        let Some(section) = file.sections.iter_mut().find(|section| ours(section)) else {
            return;
        };
        for (name, value) in options {
            section.put(name, value.clone());
        }
    }
}

/// An option's value from an answer of JSON: texts, numbers, booleans and lists of them; null takes it away.
///
/// # Errors
/// A sentence about the value.
pub fn value(json: &serde_json::Value) -> Result<Option<Value>, String> {
    let scalar = |json: &serde_json::Value| -> Result<String, String> {
        let text = match json {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Bool(yes) => u8::from(*yes).to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => return Err("must be a text, a number, a boolean or a list of them".into()),
        };
        if text.len() > MAX_VALUE {
            return Err(format!("is longer than {MAX_VALUE} bytes"));
        }
        Ok(text)
    };
    match json {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::Array(list) => Ok(Some(Value::List(
            list.iter().map(scalar).collect::<Result<_, _>>()?,
        ))),
        json => Ok(Some(Value::One(scalar(json)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(peer: &str, options: &[(&str, Option<&str>)]) -> Edit {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).into(), value.map(|value| Value::One(value.into()))))
            .collect();
        Edit {
            interface: "v".into(),
            peer: peer.into(),
            what: What::Set(options),
        }
    }

    fn delete(peer: &str) -> Edit {
        Edit {
            interface: "v".into(),
            peer: peer.into(),
            what: What::Delete,
        }
    }

    fn applied(overlay: &Overlay) -> Vec<String> {
        let mut file = File::parse(b"config openvpn_dco_v a\noption x 1\noption y 1\n");
        overlay.apply(&mut file);
        let told = |section: &Section| {
            let options = section
                .options
                .iter()
                .map(|option| format!(" {}={:?}", option.name, option.value));
            format!(
                "{}{}",
                section.name.as_deref().unwrap_or("-"),
                options.collect::<String>()
            )
        };
        file.sections.iter().map(told).collect()
    }

    #[test]
    fn sections_are_made_changed_and_taken_away() {
        let overlay = Overlay::default()
            .with(set("a", &[("x", Some("2")), ("y", None)]))
            .with(set("b", &[("z", Some("3"))]));
        assert_eq!(applied(&overlay), ["a x=One(\"2\")", "b z=One(\"3\")"]);
        assert_eq!((overlay.count("v"), overlay.count("w")), (2, 0));
        let overlay = overlay.with(delete("b")).with(delete("a"));
        assert_eq!(applied(&overlay), ["-"]);
        // Made anew after its deletion: nothing of before is left.
        let overlay = overlay.with(set("a", &[("q", Some("4"))]));
        assert_eq!(applied(&overlay), ["-", "a q=One(\"4\")"]);
    }

    #[test]
    fn changes_of_one_option_do_not_pile_up() {
        let mut overlay = Overlay::default();
        for n in 0..1000 {
            overlay = overlay.with(set("a", &[("x", Some(&n.to_string()))]));
        }
        assert_eq!(overlay.edits.len(), 1);
        assert_eq!(applied(&overlay), ["a y=One(\"1\") x=One(\"999\")"]);
    }

    #[test]
    fn json_becomes_uci() {
        for (json, text) in [
            (serde_json::json!(7), "7"),
            (serde_json::json!(true), "1"),
            (serde_json::json!("a b"), "a b"),
        ] {
            assert_eq!(value(&json), Ok(Some(Value::One(text.into()))));
        }
        assert_eq!(value(&serde_json::Value::Null), Ok(None));
        assert!(value(&serde_json::json!({})).is_err() && value(&serde_json::json!([[]])).is_err());
        assert!(value(&serde_json::json!("x".repeat(MAX_VALUE + 1))).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! Arguments of calls: typed, with one sentence for each that is wrong.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Refusal;

/// The arguments of a call. Unknown ones are ignored.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a>(pub &'a Map<String, Value>);

impl<'a> Args<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        self.get(name)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| Refusal::argument(name, "must be a text"))
            })
            .transpose()
    }

    /// A text that must be there, and say something.
    ///
    /// # Errors
    /// It is missing, empty or something else.
    pub fn needed(self, name: &'static str) -> Result<&'a str, Refusal> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| Refusal::argument(name, "is missing"))
    }

    /// A text or a number, as a text that must be there.
    ///
    /// # Errors
    /// It is missing, empty or something else.
    pub fn needed_name(self, name: &'static str) -> Result<String, Refusal> {
        self.name(name)?
            .ok_or_else(|| Refusal::argument(name, "is missing"))
    }

    /// A text or a number, as a text.
    ///
    /// # Errors
    /// It is something else.
    pub fn name(self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(Refusal::argument(name, "must be a name or a number")),
        }
    }

    /// A number, also in digits.
    ///
    /// # Errors
    /// It is something else or out of `range`.
    pub fn integer(
        self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64().and_then(|n| usize::try_from(n).ok()),
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (low, high) = range.into_inner();
                Err(Refusal::argument(
                    name,
                    format!("must be a number from {low} to {high}"),
                ))
            }
        }
    }

    /// A switch, off when it is not there.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(self, name: &'static str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(false),
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(true),
            Some(Value::String(text)) if matches!(text.as_str(), "0" | "false") => Ok(false),
            Some(Value::String(text)) if matches!(text.as_str(), "1" | "true") => Ok(true),
            Some(_) => Err(Refusal::argument(name, "must be true or false")),
        }
    }

    /// Texts, at least one.
    ///
    /// # Errors
    /// They are missing, none or something else.
    pub fn texts(self, name: &'static str) -> Result<Vec<String>, Refusal> {
        let list = self.get(name).and_then(Value::as_array);
        let texts: Option<Vec<String>> = list.and_then(|list| {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect()
        });
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| Refusal::argument(name, "must be an array of texts"))
    }

    /// A table that must be there.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn table(self, name: &'static str) -> Result<&'a Map<String, Value>, Refusal> {
        match self.get(name) {
            None => Err(Refusal::argument(name, "is missing")),
            Some(value) => value
                .as_object()
                .ok_or_else(|| Refusal::argument(name, "must be a table")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_checked_and_what_shells_send_is_taken() {
        let map = json!({"t": "x", "n": 7, "s": "8", "b": true, "i": 1, "z": "0", "o": {}, "l": ["a", "b"], "m": ["a", 1], "e": [], "null": null, "big": 1u64 << 40});
        let args = Args(map.as_object().unwrap());
        assert_eq!(args.text("t").unwrap(), Some("x"));
        assert_eq!(
            (args.text("absent").unwrap(), args.text("null").unwrap()),
            (None, None)
        );
        assert_eq!(args.integer("n", 0..=10).unwrap(), Some(7));
        assert_eq!(args.integer("s", 0..=10).unwrap(), Some(8));
        assert_eq!(args.name("n").unwrap().as_deref(), Some("7"));
        assert!(args.switch("b").unwrap() && args.switch("i").unwrap());
        assert!(!args.switch("z").unwrap() && !args.switch("absent").unwrap());
        assert!(args.table("o").unwrap().is_empty());
        assert_eq!(args.texts("l").unwrap(), ["a", "b"]);
        for refused in [
            args.text("n").err(),
            args.needed("absent").err(),
            args.integer("s", 0..=7).err(),
            args.integer("t", 0..=7).err(),
            args.integer("big", 0..=7).err(),
            args.switch("n").err(),
            args.table("t").err(),
            args.name("o").err(),
            args.texts("m").err(),
            args.texts("e").err(),
            args.texts("t").err(),
            args.texts("absent").err(),
        ] {
            let problems = refused.unwrap().problems;
            assert!(problems[0].option.is_some(), "{problems:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! An answer as the bus carries it (blobmsg), written field by field.
//!
//! A page of peers is thousands of fields: as a tree of JSON first, its nodes took three quarters of the time.

use std::fmt::{Display, Write};

use ubus::{BlobBuilder, BlobMsgTable};

/// A table under construction. Absent values are `null`, as in JSON.
pub struct Answer {
    blob: BlobBuilder,
    /// The text of a value; its memory is kept from field to field.
    text: String,
}

impl Answer {
    /// The table that `fill` writes.
    pub fn build(fill: impl FnOnce(&mut Self)) -> BlobMsgTable {
        let mut answer = Self {
            blob: BlobBuilder::new(),
            text: String::new(),
        };
        answer.blob.open_table(None);
        fill(&mut answer);
        answer.blob.close_table();
        answer.blob.finish_table()
    }

    /// A text; what follows a NUL is lost, as C would lose it.
    pub fn text(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => put_text(&mut self.blob, Some(name), value),
            None => self.blob.put_null(Some(name)),
        }
    }

    /// Anything that can be shown, as a text.
    pub fn shown(&mut self, name: &str, value: Option<&dyn Display>) {
        match value {
            Some(value) => {
                let text = show(&mut self.text, value);
                put_text(&mut self.blob, Some(name), text);
            }
            None => self.blob.put_null(Some(name)),
        }
    }

    /// A number; the bus has no larger ones than 2^63 - 1.
    pub fn number(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                self.blob.put_i64(Some(name), value);
            }
            None => self.blob.put_null(Some(name)),
        }
    }

    /// A switch.
    pub fn flag(&mut self, name: &str, value: Option<bool>) {
        match value {
            Some(value) => self.blob.put_bool(Some(name), value),
            None => self.blob.put_null(Some(name)),
        }
    }

    /// A list of texts.
    pub fn texts<T: Display>(&mut self, name: &str, values: &[T]) {
        self.blob.open_array(Some(name));
        for value in values {
            put_text(&mut self.blob, None, show(&mut self.text, value));
        }
        self.blob.close_array();
    }

    /// A table in the table, if there is something to say in it.
    pub fn table<T>(&mut self, name: &str, of: Option<T>, fill: impl FnOnce(&mut Self, T)) {
        match of {
            Some(of) => {
                self.blob.open_table(Some(name));
                fill(self, of);
                self.blob.close_table();
            }
            None => self.blob.put_null(Some(name)),
        }
    }

    /// A list of tables, one for each of `of`.
    pub fn tables<T>(
        &mut self,
        name: &str,
        of: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        self.blob.open_array(Some(name));
        for one in of {
            self.blob.open_table(None);
            fill(self, one);
            self.blob.close_table();
        }
        self.blob.close_array();
    }
}

fn show<'a>(text: &'a mut String, value: &dyn Display) -> &'a str {
    text.clear();
    // A String takes everything.
    let _ = write!(text, "{value}");
    text
}

fn put_text(blob: &mut BlobBuilder, name: Option<&str>, value: &str) {
    let value = value.split('\0').next().unwrap_or_default();
    blob.put_str(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use ubus::json::{blobmsg_to_json, json_to_blobmsg};

    #[test]
    fn an_answer_reads_like_the_same_json() {
        let answer = Answer::build(|a| {
            a.text("text", Some("a b"));
            a.text("cut", Some("a\0b"));
            a.text("no_text", None);
            a.shown(
                "address",
                Some(&"10.8.0.1:7".parse::<std::net::SocketAddr>().unwrap()),
            );
            a.shown("nowhere", None);
            a.number("number", Some(1 << 40));
            a.number("most", Some(u64::MAX));
            a.number("no_number", None);
            a.flag("yes", Some(true));
            a.flag("unknown", None);
            a.texts("list", &[7, 8]);
            a.texts::<u8>("empty", &[]);
            a.table("inner", Some(3), |a, n| a.number("n", Some(n)));
            a.table("none", None::<()>, |_, ()| {});
            a.tables("rows", [1, 2], |a, n| a.number("n", Some(n)));
        });
        let json = json!({
            "text": "a b", "cut": "a", "no_text": null, "address": "10.8.0.1:7", "nowhere": null,
            "number": 1u64 << 40, "most": i64::MAX, "no_number": null, "yes": true, "unknown": null,
            "list": ["7", "8"], "empty": [], "inner": {"n": 3}, "none": null, "rows": [{"n": 1}, {"n": 2}],
        });
        // Booleans are read back as booleans by both, so the comparison is one of bytes as well, but for their order.
        assert_eq!(blobmsg_to_json(answer.contents()).unwrap(), json);
        let tree = json_to_blobmsg(&json).unwrap();
        assert_eq!(answer.contents().len(), tree.contents().len());
    }
}

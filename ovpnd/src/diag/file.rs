// SPDX-License-Identifier: GPL-2.0-only
//! Reads OpenVPN's configuration files as far as a diagnosis needs it: directives with their words and lines,
//! and which blocks stand in the file itself.
//!
//! Form as in OpenVPN's manual: a directive a line, words apart by white space, quotes 'single' (as it is) and
//! "double" (backslash escapes), `#` and `;` start comments at a word's begin, `<name>` to `</name>` is a file
//! that stands in the text.

/// Longest line that is looked at, OPTION_LINE_SIZE of OpenVPN's options.h.
const MAX_LINE: usize = 256;
/// Most directives that are kept: a file has some dozens.
const MAX_DIRECTIVES: usize = 10_000;

/// A directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Line it stands on, from 1; 0 for one that is not from a text.
    pub line: usize,
    /// Its name, without the two dashes of the command line.
    pub name: String,
    /// Its words.
    pub args: Vec<String>,
}

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its directives in order.
    pub directives: Vec<Directive>,
    /// Names of the blocks in it.
    pub inline: Vec<String>,
    /// Lines that could not be read, with the reason.
    pub errors: Vec<(usize, &'static str)>,
}

impl ConfigFile {
    /// Reads a text.
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        let mut block: Option<(usize, String)> = None;
        let mut connection: Option<usize> = None;
        // A byte order mark is what some editors leave.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if let Some((_, name)) = &block {
                if line.strip_prefix("</").and_then(|l| l.strip_suffix('>')) == Some(name) {
                    block = None;
                }
                continue;
            }
            // One way to the server: what stands in it are directives like those outside.
            match line {
                "<connection>" if connection.is_none() => {
                    connection = Some(number);
                    continue;
                }
                "</connection>" if connection.take().is_some() => continue,
                _ => {}
            }
            let opened = line.strip_prefix('<').and_then(|l| l.strip_suffix('>'));
            if let Some(name) = opened.filter(|name| !name.starts_with('/')) {
                file.inline.push(name.to_owned());
                file.push(number, vec![name.to_owned(), "[inline]".to_owned()]);
                block = Some((number, name.to_owned()));
                continue;
            }
            if line.len() > MAX_LINE {
                file.errors.push((number, "is longer than 256 bytes"));
                continue;
            }
            match words(line) {
                Ok(words) => file.push(number, words),
                Err(why) => file.errors.push((number, why)),
            }
        }
        if let Some(number) = block.map(|(number, _)| number).or(connection) {
            file.errors.push((number, "starts a block that never ends"));
        }
        file
    }

    fn push(&mut self, line: usize, words: Vec<String>) {
        let mut words = words.into_iter();
        let Some(name) = words.next() else { return };
        if self.directives.len() >= MAX_DIRECTIVES {
            return;
        }
        let name = name.strip_prefix("--").unwrap_or(&name).to_owned();
        self.directives.push(Directive {
            line,
            name,
            args: words.collect(),
        });
    }

    /// The last directive of this name: OpenVPN lets later ones win.
    pub fn last(&self, name: &str) -> Option<&Directive> {
        self.directives.iter().rev().find(|d| d.name == name)
    }

    /// All directives of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.directives.iter().filter(move |d| d.name == name)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// The first word of the last directive of this name.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.last(name)?.args.first().map(String::as_str)
    }
}

fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek() else {
            return Ok(words);
        };
        if matches!(first, '#' | ';') {
            return Ok(words);
        }
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            match c {
                '\'' => loop {
                    match chars.next() {
                        None => return Err("has a quote that is never closed"),
                        Some('\'') => break,
                        Some(c) => word.push(c),
                    }
                },
                '"' => loop {
                    match chars.next() {
                        None => return Err("has a quote that is never closed"),
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(c) => word.push(c),
                    }
                },
                '\\' => match chars.next() {
                    None => return Err("ends with a backslash"),
                    Some(c) => word.push(c),
                },
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn directives_words_and_blocks_are_found() {
        let file = ConfigFile::parse(
            "client\n# no\nremote vpn.example 1194 udp ; why\n--dev  tun\nsetenv A 'b c' \"d\\\"e\" f\\ g\n<ca>\ncomp-lzo\n</ca>\nverb 3",
        );
        assert_eq!(
            (&file.errors[..], &file.inline[..]),
            (&[][..], &["ca".to_owned()][..])
        );
        assert_eq!(
            file.last("remote").unwrap().args,
            ["vpn.example", "1194", "udp"]
        );
        assert_eq!(
            file.last("setenv").unwrap().args,
            ["A", "b c", "d\"e", "f g"]
        );
        assert_eq!(
            (file.word("dev"), file.last("verb").unwrap().line),
            (Some("tun"), 9)
        );
        // What stands in a block is no directive.
        assert!(!file.has("comp-lzo") && file.has("ca"));
    }

    #[test]
    fn a_connection_s_directives_are_found() {
        let file = ConfigFile::parse(
            "client\n<connection>\nremote a 1\n</connection>\n<connection>\nremote b 2\nfragment 1300\n</connection>\n",
        );
        let remotes: Vec<_> = file
            .all("remote")
            .map(|d| (d.line, &d.args[0][..]))
            .collect();
        assert_eq!(remotes, [(3, "a"), (6, "b")]);
        assert!(file.has("fragment") && file.inline.is_empty() && file.errors.is_empty());
        assert_eq!(ConfigFile::parse("<connection>\nremote a").errors.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_line() {
        let long = format!("a {}", "x".repeat(300));
        let file = ConfigFile::parse(&format!("a 'b\nb \"c\nc \\\n{long}\n<ca>\nx"));
        let lines: Vec<usize> = file.errors.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(<ca>|</ca>|['\"\\\\#; \n\t<>/]|[a-z-])*") {
            let lines = text.lines().count();
            let file = ConfigFile::parse(&text);
            prop_assert!(file.directives.iter().all(|d| d.line <= lines));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads UCI files, OpenWrt's configuration format.
//!
//! Grammar as libuci reads it, its oddities included (`fuzz/` compares the two): a statement is a line of words, or
//! ends at a `;` that stands alone or after a quote (after a bare word it drops the rest of the line); a word is made of bare,
//! 'single-quoted' and "double-quoted" parts without space between them; quoted parts may span lines; a
//! backslash takes the next character as it is, except in single quotes, and joins lines; `#` outside of
//! quotes starts a comment. Statements are `package`, `config TYPE [NAME]`, `option NAME VALUE` and
//! `list NAME VALUE`, also by their first letters.
//!
//! Unlike libuci this reader goes on after an error, so that one run names all of them and a broken section
//! does not take the others with it.

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    /// Its sections, in order. Statements that reopen a named section are merged into it.
    pub sections: Vec<Section>,
    /// Lines that could not be read.
    pub errors: Vec<SyntaxError>,
}

/// A `config` statement and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its type.
    pub kind: String,
    /// Its name; anonymous sections have none.
    pub name: Option<String>,
    /// Line it starts on, from 1.
    pub line: usize,
    /// Its options, each name once.
    pub options: Vec<Opt>,
    /// Names that more than one `option` statement has: libuci takes the last one without a word.
    pub repeated: Vec<String>,
}

/// An option of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// Its name.
    pub name: String,
    /// Line it stands on, from 1; of a list, that of the first value.
    pub line: usize,
    /// Its value.
    pub value: Value,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// From `option`.
    One(String),
    /// From `list`.
    List(Vec<String>),
}

/// A statement that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line the statement starts on, from 1.
    pub line: usize,
    /// Index of the section it would belong to.
    pub section: Option<usize>,
    /// The fault.
    pub message: String,
}

/// The section as a file has it.
impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Within single quotes nothing but their end is special.
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        write!(f, "config {}", self.kind)?;
        if let Some(name) = &self.name {
            write!(f, " {}", quoted(name))?;
        }
        f.write_str("\n")?;
        for Opt { name, value, .. } in &self.options {
            match value {
                Value::One(value) => writeln!(f, "\toption {name} {}", quoted(value))?,
                Value::List(list) => {
                    for value in list {
                        writeln!(f, "\tlist {name} {}", quoted(value))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Section {
    /// The option called `name`.
    pub fn option(&self, name: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Gives an option a value in place of the one it has, or takes it away.
    pub fn put(&mut self, name: &str, value: Option<Value>) {
        self.options.retain(|option| option.name != name);
        self.repeated.retain(|repeated| repeated != name);
        if let Some(value) = value {
            self.options.push(Opt {
                name: name.to_owned(),
                line: 0,
                value,
            });
        }
    }

    fn set(&mut self, name: String, line: usize, value: String, append: bool) {
        // As libuci does: an option without a value says nothing, and what changes comes to the end.
        if value.is_empty() && !append {
            return;
        }
        let Some(at) = self.options.iter().position(|option| option.name == name) else {
            let value = if append {
                Value::List(vec![value])
            } else {
                Value::One(value)
            };
            self.options.push(Opt { name, line, value });
            return;
        };
        if !append && !self.repeated.contains(&name) {
            self.repeated.push(name.clone());
        }
        let mut old = self.options.remove(at);
        match (&mut old.value, append) {
            (Value::List(list), true) => {
                list.push(value);
                self.options.insert(at, old);
            }
            (Value::One(first), true) => {
                old.value = Value::List(vec![std::mem::take(first), value]);
                self.options.push(old);
            }
            (Value::One(same), false) if *same == value => self.options.insert(at, old),
            (_, false) => {
                let value = Value::One(value);
                self.options.push(Opt { name, line, value });
            }
        }
    }
}

impl File {
    /// Reads a file's bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        let mut scanner = Scanner {
            bytes,
            at: 0,
            line: 1,
            fresh: true,
        };
        // Index of the section that options go to; none after a `config` that could not be read.
        let mut current = None;
        while let Some((line, words)) = scanner.statement() {
            let done = words.and_then(|words| file.statement(line, words, &mut current));
            if let Err(message) = done {
                file.errors.push(SyntaxError {
                    line,
                    section: current,
                    message,
                });
            }
        }
        file
    }

    fn statement(
        &mut self,
        line: usize,
        words: Vec<String>,
        current: &mut Option<usize>,
    ) -> Result<(), String> {
        let mut words = words.into_iter();
        let keyword = words.next().unwrap_or_default();
        let args: Vec<String> = words.collect();
        match keyword.as_str() {
            "package" | "p" => {
                let mut args = args.into_iter();
                let name = args.next().unwrap_or_default();
                // As a file's name, it may have dashes.
                if !is_name(&name.replace('-', "_")) {
                    return Err(format!("\"{}\" is no package name", name.escape_debug()));
                }
                if args.next().is_some() {
                    return Err("\"package\" with more than a name".into());
                }
                Ok(())
            }
            "config" | "c" => {
                *current = None;
                *current = Some(self.open(line, args)?);
                Ok(())
            }
            "option" | "o" | "list" | "l" => {
                let mut args = args.into_iter();
                let name = args.next().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| format!("\"{keyword}\" without a name"))?;
                if !is_name(&name) {
                    return Err(format!("\"{}\" is no option name", name.escape_debug()));
                }
                let value = args.next().unwrap_or_default();
                if args.next().is_some() {
                    return Err(format!("option '{name}' has more than one value; quote it"));
                }
                let index =
                    current.ok_or_else(|| format!("option '{name}' belongs to no section"))?;
                if let Some(section) = self.sections.get_mut(index) {
                    section.set(name, line, value, keyword.starts_with('l'));
                }
                Ok(())
            }
            _ => Err(format!(
                "\"{}\" is no UCI statement",
                keyword.escape_debug()
            )),
        }
    }

    /// Starts a section, or finds the one of this name again.
    fn open(&mut self, line: usize, args: Vec<String>) -> Result<usize, String> {
        let mut args = args.into_iter();
        let kind = args
            .next()
            .filter(|kind| !kind.is_empty())
            .ok_or("\"config\" without a type")?;
        let name = args.next().filter(|name| !name.is_empty());
        if args.next().is_some() {
            return Err("\"config\" with more than a type and a name".into());
        }
        if !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("\"{}\" is no section type", kind.escape_debug()));
        }
        if let Some(name) = &name {
            if !is_name(name) {
                return Err(format!(
                    "\"{}\" is no section name (letters, digits, _)",
                    name.escape_debug()
                ));
            }
            let known = self
                .sections
                .iter()
                .position(|section| section.name.as_ref() == Some(name));
            if let Some((index, section)) =
                known.and_then(|index| Some((index, self.sections.get(index)?)))
            {
                if section.kind == kind {
                    return Ok(index);
                }
                return Err(format!(
                    "section '{name}' is of type {kind} here and of type {} before",
                    section.kind
                ));
            }
        }
        self.sections.push(Section {
            kind,
            name,
            line,
            options: Vec::new(),
            repeated: Vec::new(),
        });
        Ok(self.sections.len() - 1)
    }
}

/// Whether libuci takes `text` as the name of a section or an option.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// isspace of the C locale.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn text(word: Vec<u8>) -> Result<String, String> {
    if word.contains(&0) {
        return Err("a NUL byte".into());
    }
    String::from_utf8(word).map_err(|_| "text that is not UTF-8".into())
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    /// Whether a line begins here; else the one before goes on.
    fresh: bool,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    /// Skips to the end of the line, which stays unread.
    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// The next statement, its keyword first, and the line it starts on.
    fn statement(&mut self) -> Option<(usize, Result<Vec<String>, String>)> {
        loop {
            if self.fresh {
                // At the begin of a line any white space goes, after a `;` blanks and tabs do.
                while self.peek().is_some_and(is_space) {
                    self.bump();
                }
            } else {
                while matches!(self.peek(), Some(b' ' | b'\t')) {
                    self.bump();
                }
            }
            match self.peek()? {
                b'#' => {
                    self.skip_line();
                    self.fresh = true;
                }
                _ => break,
            }
        }
        let (at, line) = (self.at, self.line);
        self.fresh = false;
        let words = self.words();
        if words.is_err() {
            // Take up again at the next line: an open quote would swallow the rest of the file.
            (self.at, self.line) = (at, line);
            self.skip_line();
            self.fresh = true;
        }
        Some((line, words))
    }

    /// A keyword, which knows no quotes, and two more words; a third one is there only if it is too much.
    fn words(&mut self) -> Result<Vec<String>, String> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|b| !matches!(b, b' ' | b'\t' | b'\n'))
        {
            self.at += 1;
        }
        let keyword = self.bytes.get(start..self.at).unwrap_or_default();
        let mut words = vec![text(keyword.to_vec())?];
        if matches!(self.peek(), None | Some(b'\n')) {
            self.end_line();
            return Ok(words);
        }
        self.bump();
        // "package" takes one word, the others two.
        let most = if keyword.starts_with(b"p") { 1 } else { 2 };
        for _ in 0..most {
            words.push(self.word()?);
        }
        let more = self.word()?;
        if !more.is_empty() && !more.starts_with('#') {
            words.push(more);
        }
        Ok(words)
    }

    /// Goes on in the next line.
    fn end_line(&mut self) {
        self.skip_line();
        self.bump();
        self.fresh = true;
    }

    /// The next word of the statement; empty at its end.
    fn word(&mut self) -> Result<String, String> {
        let mut word = Vec::new();
        while !self.fresh && self.peek().is_some_and(is_space) {
            self.fresh = self.bump() == Some(b'\n');
        }
        if self.fresh {
            return Ok(String::new());
        }
        if self.peek() == Some(b';') {
            self.bump();
            return Ok(String::new());
        }
        // libuci joins the parts of a word in place, and its end overwrites what follows a bare one.
        let mut bare = true;
        loop {
            match self.peek() {
                None => {
                    self.fresh = true;
                    break;
                }
                Some(quote @ (b'\'' | b'"')) => {
                    bare = false;
                    self.bump();
                    self.quoted(quote, &mut word)?;
                }
                Some(b'#') => {
                    self.end_line();
                    break;
                }
                Some(b';') => {
                    // So the rest of the line is lost, as it is there.
                    if bare {
                        self.end_line();
                    }
                    break;
                }
                Some(b'\\') => {
                    bare = false;
                    self.escaped(&mut word);
                }
                Some(_) => self.run(&mut word, |b| {
                    matches!(b, b'\'' | b'"' | b'#' | b';' | b'\\') || is_space(b)
                }),
            }
            if self.peek().is_some_and(is_space) {
                self.fresh = self.bump() == Some(b'\n');
                break;
            }
        }
        text(word)
    }

    fn quoted(&mut self, quote: u8, word: &mut Vec<u8>) -> Result<(), String> {
        loop {
            match self.peek() {
                None => return Err(format!("the quote {} is never closed", char::from(quote))),
                Some(byte) if byte == quote => {
                    self.bump();
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => self.escaped(word),
                Some(b'\n') => word.extend(self.bump()),
                Some(_) => self.run(word, |b| matches!(b, b'\n' | b'\\') || b == quote),
            }
        }
    }

    /// Takes the next character, and all up to one that `ends` the run, none of which are the end of a line: files of a
    /// thousand peers are long.
    fn run(&mut self, word: &mut Vec<u8>, ends: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().skip(1).position(|byte| ends(*byte));
        let run = rest.get(..len.map_or(rest.len(), |len| len + 1));
        let run = run.unwrap_or_default();
        word.extend_from_slice(run);
        self.at += run.len();
    }

    /// A backslash: joins lines, or takes the next character as it is.
    fn escaped(&mut self, word: &mut Vec<u8>) {
        self.bump();
        match self.bump() {
            None | Some(b'\n') => {}
            Some(b'\r') if self.peek() == Some(b'\n') => drop(self.bump()),
            Some(byte) => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> File {
        File::parse(text.as_bytes())
    }

    fn one(file: &File, section: usize, option: &str) -> String {
        match &file.sections[section].option(option).unwrap().value {
            Value::One(value) => value.clone(),
            Value::List(list) => panic!("{option} is the list {list:?}"),
        }
    }

    #[test]
    fn sections_options_and_lists_are_read_with_their_lines() {
        let file = parse(
            "# comment\npackage network\n\nconfig interface 'vpn0'\n\toption proto 'openvpn_dco' # why\n\
             \tlist addresses '10.8.0.1/24'\n\tlist addresses fd00::1/64\n\nconfig peer\n\toption x \"a b\"\n",
        );
        assert_eq!(file.errors, []);
        let [vpn0, peer] = &file.sections[..] else {
            panic!("{file:?}")
        };
        assert_eq!(
            (vpn0.kind.as_str(), vpn0.name.as_deref(), vpn0.line),
            ("interface", Some("vpn0"), 4)
        );
        assert_eq!(
            (peer.kind.as_str(), peer.name.as_deref(), peer.line),
            ("peer", None, 9)
        );
        let addresses = vpn0.option("addresses").unwrap();
        assert_eq!(
            addresses.value,
            Value::List(vec!["10.8.0.1/24".into(), "fd00::1/64".into()])
        );
        assert_eq!(addresses.line, 6);
        assert_eq!(one(&file, 1, "x"), "a b");
    }

    #[test]
    fn words_are_quoted_in_every_way_libuci_knows() {
        for (text, value) in [
            ("option x a", "a"),
            (r"option x 'a\b'", r"a\b"),
            (r#"option x "a\"b""#, "a\"b"),
            (r"option x a\ b", "a b"),
            ("option x 'a'b\"c\"", "abc"),
            ("option x 'a\nb'", "a\nb"),
            ("option x \"a\\\nb\"", "ab"),
            ("option x a\\\nb", "ab"),
            ("option x a\\\r\nb", "ab"),
            ("option x a#b", "a"),
            ("option x 'a#b'", "a#b"),
            ("o x a ;o y b", "a"),
            ("option x 'ä€'", "ä€"),
            ("option\tx\t a \r", "a"),
        ] {
            let file = parse(&format!("config t\n{text}\n"));
            assert_eq!(file.errors, [], "{text}");
            assert_eq!(one(&file, 0, "x"), value, "{text}");
        }
    }

    #[test]
    fn later_statements_change_earlier_ones_as_in_libuci() {
        let file = parse(
            "config t n\noption a 1\nlist b 1\nconfig t m\nconfig t n\noption a 2\nlist b 2\noption c 1\nlist c 2",
        );
        assert_eq!((file.sections.len(), &file.errors[..]), (2, &[][..]));
        assert_eq!(one(&file, 0, "a"), "2");
        for option in ["b", "c"] {
            assert_eq!(
                file.sections[0].option(option).unwrap().value,
                Value::List(vec!["1".into(), "2".into()])
            );
        }
    }

    #[test]
    fn every_error_is_found_with_its_line_and_section() {
        let file = parse(
            "option lost 1\nconfig\nconfig t a\noption bad-name 1\noption x 1 2\nfrob\noption good 1\n\
             config u a\noption y 'open\nconfig t b\noption z 1\noption q \"\n",
        );
        let errors: Vec<_> = file
            .errors
            .iter()
            .map(|error| (error.line, error.section))
            .collect();
        let expected = [
            (1, None),
            (2, None),
            (4, Some(0)),
            (5, Some(0)),
            (6, Some(0)),
            (8, None),
            (9, None),
            (12, Some(1)),
        ];
        assert_eq!(errors, expected, "{:#?}", file.errors);
        assert_eq!(one(&file, 0, "good"), "1");
        assert_eq!(one(&file, 1, "z"), "1");
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_of_their_line_alone() {
        let file = File::parse(b"config t\noption a '\xff'\noption b '\0'\noption c 1");
        assert_eq!(
            file.errors
                .iter()
                .map(|error| error.line)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(one(&file, 0, "c"), "1");
    }

    /// Quotes as `uci export` does.
    fn quote(value: &str) -> String {
        format!("'{}'", value.replace('\'', r"'\''"))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            File::parse(&bytes);
        }

        #[test]
        fn any_mix_of_syntax_is_read_without_panic(text in r#"(config|option|list|[a-z]|['"\\#; \n\t])*"#) {
            let lines = text.lines().count();
            let file = parse(&text);
            prop_assert!(file.errors.iter().all(|error| error.line <= lines));
        }

        #[test]
        fn exported_values_come_back(values in prop::collection::vec("[^\0]{0,20}", 1..6)) {
            let mut text = String::from("config t s\n");
            for value in &values {
                text += &format!("\tlist v {}\n", quote(value));
            }
            let file = parse(&text);
            prop_assert_eq!(&file.errors[..], &[][..]);
            prop_assert_eq!(&file.sections[0].options[0].value, &Value::List(values));
        }
    }
}

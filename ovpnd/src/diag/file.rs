// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads OpenVPN's configuration files the way OpenVPN 2.7 does (`src/openvpn/options_parse.c`): the line is split
//! into words first, and only then a line that is one word `<name>` opens a block.
//!
//! White space separates words; 'single' quotes keep everything, "double" ones know the backslash, and both count only
//! where a word begins; `#` and `;` start a comment where a word begins. A block ends at a line that begins with
//! `</name>`, whatever follows. No line of a block is kept, but for fingerprints, which are no secret, and for
//! `<connection>`, whose lines are directives.

/// Bytes of a line, its end included, that are too many: OPTION_LINE_SIZE of OpenVPN's options_parse.c.
const TOO_LONG: usize = 256;
/// Words of a line that OpenVPN looks at, MAX_PARMS of its options.h; it does not read on behind them.
const MAX_WORDS: usize = 16;
/// Most directives that are kept: a file has some dozens.
const MAX_DIRECTIVES: usize = 10_000;
/// The word that stands for the text of a block.
pub const INLINE: &str = "[inline]";

/// A directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directive {
    /// Line it stands on, from 1; 0 for one that is not from a text.
    pub line: usize,
    /// Its name, without the two dashes of the command line.
    pub name: String,
    /// Its words; [`INLINE`] alone for a block.
    pub args: Vec<String>,
    /// Whether it is a block.
    pub inline: bool,
    /// Lines of a block that holds fingerprints, without comments.
    pub body: Vec<String>,
    /// Number of the `<connection>` it stands in, from 0.
    pub connection: Option<usize>,
    /// Whether it stands behind `setenv opt`: one that OpenVPN does not know is left out then.
    pub lenient: bool,
}

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its directives in order.
    pub directives: Vec<Directive>,
    /// Names of the blocks in it that hold files.
    pub inline: Vec<String>,
    /// Lines that could not be read, with the reason.
    pub errors: Vec<(usize, &'static str)>,
    /// Number of `<connection>` blocks.
    pub connections: usize,
}

/// Numbered lines with their ends.
type Lines<'a> = std::iter::Enumerate<std::str::SplitInclusive<'a, char>>;

impl ConfigFile {
    /// Reads a text.
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        file.read(text, 0, None);
        file
    }

    /// Reads a text whose first line has the number `before` + 1.
    fn read(&mut self, text: &str, before: usize, connection: Option<usize>) {
        let mut lines = text.split_inclusive('\n').enumerate();
        while let Some((index, line)) = lines.next() {
            let number = before + index + 1;
            if connection.is_none() && line.len() >= TOO_LONG {
                let why = "is too long: 255 bytes with the end of the line are the most";
                self.errors.push((number, why));
                continue;
            }
            let line = match number {
                // A byte order mark is left by some editors.
                1 => line.strip_prefix('\u{feff}').unwrap_or(line),
                _ => line,
            };
            let mut words = match words(line) {
                Ok(words) => words,
                Err(why) => {
                    self.errors.push((number, why));
                    continue;
                }
            };
            let Some(name) = words.first_mut() else {
                continue;
            };
            if let Some(bare) = name.strip_prefix("--").filter(|bare| !bare.is_empty()) {
                *name = bare.to_owned();
            }
            let opened = name
                .strip_prefix('<')
                .and_then(|name| name.strip_suffix('>'));
            match opened.map(str::to_owned).filter(|_| words.len() == 1) {
                Some(name) => self.block(name, number, &mut lines, connection),
                None => self.push(number, words, connection),
            }
        }
    }

    /// Reads a block that was opened on line `number`.
    fn block(
        &mut self,
        name: String,
        number: usize,
        lines: &mut Lines<'_>,
        connection: Option<usize>,
    ) {
        let end = format!("</{name}>");
        let mut body = String::new();
        let closed = lines.any(|(_, line)| {
            let closes = line.trim_start_matches(is_space).starts_with(&end);
            if !closes {
                body.push_str(line);
            }
            closes
        });
        if !closed {
            self.errors.push((number, "starts a block that never ends"));
            return;
        }
        let nested = name == "connection" && connection.is_none();
        let mut directive = Directive {
            line: number,
            args: vec![INLINE.to_owned()],
            inline: true,
            connection,
            ..Directive::default()
        };
        if matches!(name.as_str(), "peer-fingerprint" | "verify-hash") {
            let lines = body.lines().map(|line| line.trim_start_matches(is_space));
            let kept = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
            directive.body = kept.map(str::to_owned).collect();
        } else if !nested {
            self.inline.push(name.clone());
        }
        directive.name = name;
        self.keep(directive);
        if nested {
            let connection = self.connections;
            self.connections += 1;
            self.read(&body, number, Some(connection));
        }
    }

    fn push(&mut self, line: usize, words: Vec<String>, connection: Option<usize>) {
        // `setenv opt NAME` is the directive NAME, for programs that know it.
        let lenient = words.len() > 2 && words[..2] == ["setenv", "opt"];
        let mut words = words.into_iter().skip(if lenient { 2 } else { 0 });
        let Some(name) = words.next() else { return };
        self.keep(Directive {
            line,
            name,
            args: words.collect(),
            connection,
            lenient,
            ..Directive::default()
        });
    }

    fn keep(&mut self, directive: Directive) {
        if self.directives.len() < MAX_DIRECTIVES {
            self.directives.push(directive);
        }
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

/// White space of C's isspace.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// How a word is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    None,
    Bare,
    Quoted(char),
}

/// Splits a line into words.
///
/// # Errors
/// A quote is not closed, or a backslash stands before a character that needs none.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut state = Word::None;
    let mut escaped = false;
    // The end of a text closes a bare word as white space does.
    let line = line.split('\0').next().unwrap_or_default();
    for c in line.chars().chain(['\0']) {
        let space = c == '\0' || is_space(c);
        if c == '\\' && !escaped && state != Word::Quoted('\'') {
            escaped = true;
            continue;
        }
        let mut out = true;
        match state {
            Word::None if space => out = false,
            // A backslash does not save it from being a comment.
            Word::None if matches!(c, ';' | '#') => return Ok(words),
            Word::None if !escaped && matches!(c, '"' | '\'') => {
                state = Word::Quoted(c);
                out = false;
            }
            Word::None => state = Word::Bare,
            Word::Bare if space && !escaped => {
                state = Word::None;
                words.push(std::mem::take(&mut word));
                out = false;
            }
            Word::Quoted(quote) if c == quote && !escaped => {
                state = Word::None;
                words.push(std::mem::take(&mut word));
                out = false;
            }
            Word::Bare | Word::Quoted(_) => {}
        }
        if out && c != '\0' {
            if escaped && !space && !matches!(c, '\\' | '"') {
                return Err(
                    "has a backslash before a character that needs none; \\\\ is a backslash",
                );
            }
            word.push(c);
        }
        escaped = false;
        if words.len() >= MAX_WORDS {
            return Ok(words);
        }
    }
    match state {
        Word::None => Ok(words),
        Word::Bare => Err("ends with a backslash"),
        Word::Quoted(_) => Err("has a quote that is never closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> Option<Vec<String>> {
        words(line).ok()
    }

    #[test]
    fn a_line_is_split_as_openvpn_does() {
        for (line, expected) in [
            ("a b\tc\r\n", &["a", "b", "c"][..]),
            (
                "remote vpn.example 1194 ; why",
                &["remote", "vpn.example", "1194"],
            ),
            ("a #b c", &["a"]),
            ("a b#c d;e", &["a", "b#c", "d;e"]),
            ("\\# a", &[]),
            ("\"a b\"c 'd \\ e'", &["a b", "c", "d \\ e"]),
            ("a b'c'd", &["a", "b'c'd"]),
            ("a\\ b \\\"c", &["a b", "\"c"]),
            ("\"a\\\"b\" \"\"", &["a\"b", ""]),
            ("a\\\n", &["a\n"]),
            ("a \\\n", &["a"]),
            ("a \\", &["a"]),
            ("a b\0 c", &["a", "b"]),
            ("\u{b}a\u{c}b", &["a", "b"]),
        ] {
            let words = split(line).unwrap_or_else(|| panic!("{line:?}"));
            assert_eq!(words, expected, "{line:?}");
        }
        for line in ["a 'b\n", "a \"b", "a\\", "a\\b", "\"a\\n\""] {
            assert_eq!(split(line), None, "{line:?}");
        }
        // Text behind the sixteenth word is not read, not even an open quote.
        let many = "a b c d e f g h i j k l m n o p \"q";
        assert_eq!(split(many).map(|words| words.len()), Some(16));
    }

    #[test]
    fn a_tag_is_a_lone_word_and_its_end_begins_a_line() {
        for (open, close) in [
            ("<ca>", "</ca>"),
            ("<ca> # mine", "</ca>"),
            ("\t<ca>\t;", "  </ca> # end"),
            ("\"<ca>\"", "</ca>x"),
            ("--<ca>", "</ca>\r"),
        ] {
            let text = format!("client\n{open}\nSECRET\n{close}\nverb 3\n");
            let file = ConfigFile::parse(&text);
            assert_eq!(
                (&file.errors[..], &file.inline[..]),
                (&[][..], &["ca".to_owned()][..]),
                "{text}"
            );
            assert_eq!(file.last("verb").map(|d| d.line), Some(5), "{text}");
            assert!(!format!("{file:?}").contains("SECRET"), "{text}");
        }
        // With a second word it is a directive, and with none a block that never ends.
        assert_eq!(ConfigFile::parse("<ca> x\n").directives[0].name, "<ca>");
        for text in [
            "<ca>\nx",
            "</ca>\n",
            "<ca>\n</Ca>\n",
            "<connection>\nremote a",
        ] {
            assert_eq!(ConfigFile::parse(text).errors.len(), 1, "{text}");
        }
    }

    #[test]
    fn a_connection_s_directives_are_found() {
        let file = ConfigFile::parse(
            "client\n<connection> # first\nremote a 1\n</connection>\n<connection>\nremote b 2\n<tls-auth>\nSECRET\n</tls-auth>\n</connection>\n",
        );
        let remotes: Vec<_> = file
            .all("remote")
            .map(|d| (d.line, &d.args[0][..], d.connection))
            .collect();
        assert_eq!(remotes, [(3, "a", Some(0)), (6, "b", Some(1))]);
        assert_eq!(
            (file.connections, &file.inline[..]),
            (2, &["tls-auth".to_owned()][..])
        );
        assert!(file.errors.is_empty() && !format!("{file:?}").contains("SECRET"));
        // The first end tag ends the outer one: the inner has none, and one is left over.
        let nested =
            ConfigFile::parse("<connection>\n<connection>\n</connection>\n</connection>\n");
        assert_eq!(nested.errors.len(), 2);
    }

    #[test]
    fn setenv_opt_leaves_a_directive() {
        let file =
            ConfigFile::parse("setenv opt tun-mtu 1400\nsetenv opt\nsetenv AB c\n--verb 3\n");
        let found: Vec<_> = file
            .directives
            .iter()
            .map(|d| (&d.name[..], d.args.len(), d.lenient))
            .collect();
        assert_eq!(
            found,
            [
                ("tun-mtu", 1, true),
                ("setenv", 1, false),
                ("setenv", 2, false),
                ("verb", 1, false)
            ]
        );
    }

    #[test]
    fn lines_that_openvpn_refuses_are_named() {
        let file = ConfigFile::parse("a 'b\nb \"c\nc\\d\n<ca>\nx");
        let lines: Vec<usize> = file.errors.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
        // 256 bytes with the end of the line, whatever stands in it.
        for (bytes, end, refused) in [
            (255, "", false),
            (256, "", true),
            (254, "\n", false),
            (255, "\n", true),
            (253, "\r\n", false),
            (254, "\r\n", true),
        ] {
            let file = ConfigFile::parse(&format!("#{}{end}", "x".repeat(bytes - 1)));
            assert_eq!(file.errors.len(), usize::from(refused), "{bytes} {end:?}");
        }
        let spaces = format!("{}\n", " ".repeat(255));
        assert_eq!(ConfigFile::parse(&spaces).errors.len(), 1);
        let block = format!("<ca>\n{}\n</ca>\n", "x".repeat(300));
        assert!(ConfigFile::parse(&block).errors.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(<ca>|</ca>|<connection>|</connection>|['\"\\\\#; \n\t<>/]|[a-z-])*") {
            let lines = text.lines().count();
            let file = ConfigFile::parse(&text);
            prop_assert!(file.directives.iter().all(|d| d.line <= lines));
        }
    }
}

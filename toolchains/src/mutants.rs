// SPDX-License-Identifier: GPL-2.0-only
//! Small faults in source text, for [`mutate`](crate::mutate): each is one condition or guard that is no longer what it
//! was. It is text that is changed, not a syntax tree, so some mutants do not build; they are left out of the score.

/// One change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Where it begins, in bytes, and how many bytes it replaces.
    at: usize,
    len: usize,
    with: String,
    /// Line, counted from 1.
    pub line: usize,
    /// The change in a few words.
    pub kind: &'static str,
}

impl Mutant {
    /// The file with this change.
    pub fn apply(&self, text: &str) -> String {
        let (before, rest) = text.split_at(self.at);
        let after = rest.get(self.len..).unwrap_or_default();
        [before, &self.with, after].concat()
    }
}

/// Comparisons and connectives, and the closest that they can be mistaken for.
const OPERATORS: [(&str, &str); 8] = [
    ("<", "<="),
    ("<=", "<"),
    (">", ">="),
    (">=", ">"),
    ("==", "!="),
    ("!=", "=="),
    ("&&", "||"),
    ("||", "&&"),
];
/// Statements by which a function refuses something and goes no further.
const GUARDS: [&str; 4] = ["return", "goto ", "continue;", "break;"];

/// All mutants of a file, in the order of its lines.
pub fn of(text: &str, is_rust: bool) -> Vec<Mutant> {
    let code = mask(text);
    let mut found = Vec::new();
    conditions(text, &code, is_rust, &mut found);
    operators(&code, is_rust, &mut found);
    guards(&code, is_rust, &mut found);
    for mutant in &mut found {
        mutant.line = 1 + code.get(..mutant.at).map_or(0, |t| t.matches('\n').count());
    }
    found.sort_by_key(|mutant| mutant.at);
    found
}

/// The text with blanks, byte by byte, for comments, strings, characters, attributes, preprocessor lines and what is
/// asserted as it is compiled.
fn mask(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let starts_line = out.is_empty()
            || out.iter().rposition(|b| *b == b'\n').is_none_or(|at| {
                out.get(at + 1..)
                    .is_none_or(|line: &[u8]| line.iter().all(u8::is_ascii_whitespace))
            });
        let len = hidden(rest, starts_line);
        let taken = if len == 0 { first.len_utf8() } else { len };
        let (now, next) = rest.split_at(taken.min(rest.len()));
        match len {
            0 if first.is_ascii() => out.extend(now.bytes()),
            _ => out.extend(now.bytes().map(|b| if b == b'\n' { b } else { b' ' })),
        }
        rest = next;
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Length of what begins here and is no code; 0 if it is code.
fn hidden(rest: &str, starts_line: bool) -> usize {
    let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
    if rest.starts_with("//") || (starts_line && rest.starts_with('#')) {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/");
    }
    let asserted = rest.starts_with("const ") && !rest.starts_with("const fn ");
    if starts_line && (asserted || rest.starts_with("static_assert")) {
        return until(";");
    }
    match rest.bytes().next() {
        Some(b'"') => quoted(rest, b'"'),
        // A character, and not a lifetime.
        Some(b'\'') if rest.get(1..2) == Some("\\") || rest.get(2..3) == Some("'") => {
            quoted(rest, b'\'')
        }
        _ => 0,
    }
}

fn quoted(rest: &str, mark: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `if` with the opposite of its condition.
fn conditions(text: &str, code: &str, is_rust: bool, found: &mut Vec<Mutant>) {
    for (at, _) in code.match_indices("if ") {
        if code
            .get(..at)
            .is_some_and(|c| c.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            continue;
        }
        let start = at + "if ".len();
        let Some(len) = condition(code.get(start..).unwrap_or_default(), is_rust) else {
            continue;
        };
        let bare = code.get(start..start + len).unwrap_or_default();
        let is_joined = bare.contains("&&") || bare.contains("||");
        // A comparison alone is turned round as an operator.
        let compares = bare.contains(" == ") || bare.contains(" != ");
        if bare.contains("let ") || (!is_joined && compares) {
            continue;
        }
        let whole = text.get(start..start + len).unwrap_or_default();
        found.push(Mutant {
            at: start,
            len,
            with: if is_rust {
                format!("!({whole})")
            } else {
                format!("(!{whole})")
            },
            line: 0,
            kind: "condition inverted",
        });
    }
}

/// Length of the condition at the start of this code: up to its block in Rust, its parentheses in C.
fn condition(code: &str, is_rust: bool) -> Option<usize> {
    let mut depth = 0i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if is_rust && depth == 0 => return Some(code.get(..at)?.trim_end().len()),
            '=' if is_rust && depth == 0 && code.get(at..)?.starts_with("=>") => {
                return Some(code.get(..at)?.trim_end().len());
            }
            ';' | '{' => return None,
            _ => {}
        }
        if !is_rust && depth == 0 {
            return (c == ')').then_some(at + 1);
        }
    }
    None
}

/// Operators that have blanks around them.
fn operators(code: &str, is_rust: bool, found: &mut Vec<Mutant>) {
    for (operator, with) in OPERATORS {
        for (at, _) in code.match_indices(operator) {
            let before = code.get(..at).unwrap_or_default();
            let after = code.get(at + operator.len()..).unwrap_or_default();
            let alone =
                before.ends_with(char::is_whitespace) && after.starts_with(char::is_whitespace);
            // A closure without arguments.
            let closure = is_rust
                && operator == "||"
                && (before.trim_end().ends_with(['(', ',', '='])
                    || before.trim_end().ends_with("move"));
            if alone && !closure {
                found.push(Mutant {
                    at,
                    len: operator.len(),
                    with: with.into(),
                    line: 0,
                    kind: match operator {
                        "&&" | "||" => "and, or",
                        "==" | "!=" => "comparison inverted",
                        _ => "bound moved by one",
                    },
                });
            }
        }
    }
}

/// The statement that an `if` guards, alone on its line, left out.
fn guards(code: &str, is_rust: bool, found: &mut Vec<Mutant>) {
    let lines: Vec<&str> = code.split_inclusive('\n').collect();
    let mut at = 0;
    for (n, line) in lines.iter().enumerate() {
        let trimmed = line.trim();
        let before = n
            .checked_sub(1)
            .and_then(|n| lines.get(n))
            .map_or("", |l| l.trim());
        let guarded = match is_rust {
            // Rust's have a block of their own.
            true => before.ends_with('{') && lines.get(n + 1).is_some_and(|l| l.trim() == "}"),
            false => before.ends_with(')') && !before.contains(';'),
        };
        if guarded && trimmed.ends_with(';') && GUARDS.iter().any(|g| trimmed.starts_with(g)) {
            found.push(Mutant {
                at: at + line.find(trimmed).unwrap_or_default(),
                len: trimmed.len(),
                with: if is_rust { String::new() } else { ";".into() },
                line: 0,
                kind: "guard left out",
            });
        }
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, is_rust: bool) -> Vec<(usize, String)> {
        let changed = of(text, is_rust).into_iter();
        changed
            .map(|m| {
                let new = m.apply(text);
                let line = new.lines().nth(m.line - 1).unwrap_or_default();
                (m.line, line.trim().to_owned())
            })
            .collect()
    }

    #[test]
    fn c() {
        let text = "/* if (a < b) */\n#if A < B\nif (!skb || a(b) <\n    c)\n\treturn NULL;\nx = \"a < b\";\n";
        assert_eq!(
            lines(text, false),
            [
                (3, "if (!(!skb || a(b) <".into()),
                (3, "if (!skb && a(b) <".into()),
                (3, "if (!skb || a(b) <=".into()),
                (5, ";".into()),
            ]
        );
        assert_eq!(
            lines("if (a == b)\n\tb++;\n", false),
            [(1, "if (a != b)".into())]
        );
    }

    #[test]
    fn rust() {
        let text = "// a < b\nconst _: () = assert!(A <= B);\nconst fn f() {}\nif !x.is_some_and(|y| y > 'a' as u8) {\n    return;\n}\n\
                    let f = run(1, move || x);\nif let Some(x) = y {\n    z();\n}\nmatch a {\n    Some(b) if b.c() => d,\n}\n";
        assert_eq!(
            lines(text, true),
            [
                (4, "if !(!x.is_some_and(|y| y > 'a' as u8)) {".into()),
                (4, "if !x.is_some_and(|y| y >= 'a' as u8) {".into()),
                (5, "".into()),
                (12, "Some(b) if !(b.c()) => d,".into()),
            ]
        );
    }
}

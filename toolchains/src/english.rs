// SPDX-License-Identifier: GPL-2.0-only
//! Sentences of comments and documents that must be read twice: a clause without a subject that is named.

use std::path::Path;

/// Words that begin such a clause. In front of a question mark or in a heading they ask, and that is fine.
const CLAUSES: [&str; 4] = ["What", "Who", "Whoever", "Nobody"];
/// Words that no sentence needs: it can name its subject.
const VAGUE: [&str; 2] = ["nobody", "whoever"];
/// Words before "who" that make it a clause without an antecedent.
const BEFORE_WHO: [&str; 15] = [
    "for", "as", "by", "to", "of", "from", "with", "than", "and", "but", "or", "if", "that",
    "when", "tells",
];
/// Kinds of files that are read, and the beginnings of a comment there; a document is all text.
const KINDS: [(&str, &[&str]); 14] = [
    ("md", &[""]),
    ("rs", &["//"]),
    ("c", &["/*", "*", "//"]),
    ("h", &["/*", "*", "//"]),
    ("js", &["//", "/*", "*"]),
    ("mjs", &["//", "/*", "*"]),
    ("css", &["/*", "*"]),
    ("sh", &["#"]),
    ("toml", &["#"]),
    ("config", &["#"]),
    ("lock", &["#"]),
    ("mk", &["#"]),
    ("yaml", &["#"]),
    ("yml", &["#"]),
];

/// Lines of a file with such a clause, by their numbers.
pub fn faults(file: &str, text: &str) -> Vec<usize> {
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    let marks = match KINDS.iter().find(|(kind, _)| extension == Some(kind)) {
        Some((_, marks)) => *marks,
        None if is_script(file) => &["#"],
        None => return Vec::new(),
    };
    let lines = text.lines().enumerate();
    let bad = lines.filter(|(_, line)| comment(line, marks).is_some_and(is_clause));
    bad.map(|(at, _)| at + 1).collect()
}

/// Recipes and init scripts have no extension.
fn is_script(file: &str) -> bool {
    file.ends_with("/Makefile") || file.ends_with("/Kbuild") || file.contains("/files/")
}

/// The comment of a line, which begins with one of the marks.
fn comment<'a>(line: &'a str, marks: &[&str]) -> Option<&'a str> {
    let line = line.trim_start();
    marks.iter().find_map(|mark| match mark.is_empty() {
        true => Some(line),
        // Behind code, too: but not inside a URL or a string.
        false => line
            .strip_prefix(mark)
            .or_else(|| Some(line.split_once(&format!(" {mark} "))?.1)),
    })
}

/// Whether a text has such a clause.
fn is_clause(text: &str) -> bool {
    let heading = text.trim_start().starts_with(['#', '|']);
    let mut before = "";
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let next = words
            .peek()
            .is_some_and(|next| next.starts_with(|c: char| c.is_lowercase()));
        let begins = CLAUSES.contains(&word) && next && !heading && !text.contains('?');
        let who = bare == "who" && BEFORE_WHO.contains(&before);
        if begins || who || VAGUE.contains(&bare.to_lowercase().as_str()) {
            return true;
        }
        before = bare;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_without_a_subject_are_found() {
        // In halves, or the check would find its own test.
        let text = [
            "/// What is not sent is dropped.\n/// Packets are dropped.\nlet what = 1; /",
            "/ Who waits is told.\n/// It is told to who waits.\n",
        ];
        assert_eq!(faults("a.rs", &text.concat()), [1, 3, 4]);
        assert_eq!(
            faults(
                "a.md",
                "## What you need\nWhat does it need?\nWhat it needs:\n"
            ),
            [3]
        );
        assert!(faults("a.rs", "let text = \"What is it\";\n").is_empty());
        assert!(faults("a.po", "What is it\n").is_empty());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words of an option, under OpenVPN's rules: quotes, and a backslash that takes the next character as it is.

/// OpenVPN's limit, the name included (MAX_PARMS).
const MAX_WORDS: usize = 16;

/// The words of `option`. A `#` or `;` at the start of a word begins a comment.
pub(super) fn words(option: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = option.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if matches!(chars.peek(), None | Some('#' | ';')) {
            return Ok(words);
        }
        if words.len() >= MAX_WORDS {
            return Err("it has more than 16 words");
        }
        let (mut word, mut quote) = (String::new(), None);
        loop {
            match (chars.next(), quote) {
                (None, None) => break,
                (None, Some(_)) => return Err("a quote is not closed"),
                // Inside single quotes a backslash is one.
                (Some('\\'), Some('"') | None) => match chars.next() {
                    Some(c) => word.push(c),
                    None => return Err("it ends with a backslash"),
                },
                (Some(c), Some(open)) if c == open => quote = None,
                (Some(c @ ('"' | '\'')), None) => quote = Some(c),
                (Some(c), None) if c.is_ascii_whitespace() => break,
                (Some(c), _) => word.push(c),
            }
        }
        words.push(word);
    }
}

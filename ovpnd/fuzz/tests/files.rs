// SPDX-License-Identifier: GPL-2.0-or-later
//! ovpnd's UCI reader against libuci, file by file and by generated files.

use std::fs;
use std::path::Path;

use ovpnd_fuzz::compare;
use proptest::prelude::*;

/// Files below `files/`, whole, cut after every byte, and with every byte replaced by each special one.
#[test]
fn files_are_read_alike() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
    let (mut files, mut texts, mut taken) = (0, 0, 0);
    for entry in fs::read_dir(dir).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        files += 1;
        let mut one = |text: &str| {
            let compared = compare(text);
            texts += usize::from(compared.is_some());
            taken += usize::from(compared == Some(true));
        };
        one(&text);
        for (at, char) in text.char_indices() {
            one(&text[..at]);
            for special in ['\'', '"', '\\', '#', ';', '\n', ' ', '-'] {
                one(&format!(
                    "{}{special}{}",
                    &text[..at],
                    &text[at + char.len_utf8()..]
                ));
            }
        }
    }
    println!(
        "{files} files, {texts} texts compared with libuci, {taken} of them taken by both, 0 differences"
    );
    assert!(
        files >= 8 && taken * 2 > texts,
        "{files} files, {taken} of {texts} texts taken"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn any_mix_of_syntax_is_read_alike(text in r#"((config|option|list|package|c|o|l) |[a-b_-]|['"\\#; \n\t\r]|ä)*"#) {
        compare(&text);
    }

    #[test]
    fn whole_statements_are_read_alike(lines in prop::collection::vec(
        r#"(config [ab]( '?[ab]'?)?|(option|list) [xy] ('[^'\\]{0,4}'|"[^"\\]{0,4}"|[a-c]{1,3})|#.{0,3})"#, 0..12)) {
        compare(&lines.join("\n"));
    }
}

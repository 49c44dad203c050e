// SPDX-License-Identifier: GPL-2.0

use ovpn_core::engine::{Attempt, Fault, Preference, Rank, LIBRARY};
use proptest::prelude::*;

fn parse(text: &str) -> Preference<'_> {
    Preference::parse(text.as_bytes()).unwrap()
}

fn names(text: &str) -> Vec<String> {
    let text = parse(text).names().map(|name| name.to_vec());
    text.map(|name| String::from_utf8(name).unwrap()).collect()
}

#[test]
fn commas_separate_only_outside_of_parentheses() {
    let nested = "gcm_base(ctr(aes-generic),ghash-generic)";
    assert_eq!(names(&format!("{nested},x")), [nested, "x"]);
    assert_eq!(names("a,!b,async,c"), ["a", "c"]);
    assert!(names("").is_empty());
}

#[test]
fn faults() {
    let name = "n".repeat(127);
    assert!(Preference::parse(format!("{name},!{name}").as_bytes()).is_err()); // 256 bytes
    assert!(Preference::parse(format!("{name},{name}").as_bytes()).is_ok()); // 255 bytes
    for (text, fault) in [
        ("x".repeat(256), Fault::TooLong),
        ("n".repeat(128), Fault::NameTooLong),
        (",".into(), Fault::Empty),
        ("a,".into(), Fault::Empty),
        ("a,,b".into(), Fault::Empty),
        ("!".into(), Fault::Empty),
        ("a b".into(), Fault::Byte),
        ("a\n".into(), Fault::Byte),
        ("ä".into(), Fault::Byte),
        ("cryptd(gcm(aes)".into(), Fault::Parentheses),
        ("a),b".into(), Fault::Parentheses),
        (")(".into(), Fault::Parentheses),
        ("!async".into(), Fault::NotAsync),
    ] {
        assert_eq!(Preference::parse(text.as_bytes()), Err(fault), "{text:?}");
        assert!(!fault.message().is_empty());
    }
}

fn attempts(text: &str, has_library: bool) -> Vec<Attempt<'_>> {
    parse(text).attempts(has_library).collect()
}

#[test]
fn nothing_asked_for_is_synchronous() {
    use Attempt::{Default, Library, Ranked};
    let ranked = [Ranked(Rank::Sync), Ranked(Rank::Software), Default];
    assert_eq!(attempts("", false), ranked);
    assert_eq!(attempts("", true)[0], Library);
    assert_eq!(attempts("", true)[1..], ranked);
    assert_eq!(attempts("!library", true), ranked);
    assert_eq!(attempts("!other", true).len(), 4);
}

#[test]
fn names_come_first_then_rank() {
    let tried = attempts("slow,async,!fast,quick", true);
    assert_eq!(
        tried[..4],
        [
            Attempt::Named(b"slow"),
            Attempt::Named(b"quick"),
            Attempt::Ranked(Rank::Any),
            Attempt::Library
        ]
    );
    // Without such functions it is a driver that will not be found.
    assert_eq!(attempts("library", false)[0], Attempt::Named(LIBRARY));
    assert_eq!(attempts("library", true)[0], Attempt::Library);
}

#[test]
fn what_was_asked_for() {
    let met = |text: &str, attempt| parse(text).is_met_by(attempt);
    assert!(met("x", Attempt::Named(b"x")));
    assert!(!met("x", Attempt::Library) && !met("x", Attempt::Ranked(Rank::Sync)));
    assert!(met("x,library", Attempt::Library));
    assert!(met("", Attempt::Library) && met("async", Attempt::Ranked(Rank::Sync)));
    assert!(!met("!a", Attempt::Default));
}

#[test]
fn exclusion_is_exact() {
    let preference = parse("!cryptd(x),!b");
    assert!(preference.excludes(b"b") && preference.excludes(b"cryptd(x)"));
    assert!(!preference.excludes(b"cryptd") && !preference.excludes(b"!b"));
    assert!(parse("async").allows_async() && !parse("!asynch,asynch").allows_async());
}

proptest! {
    /// Whatever is written is refused, or read word by word without loss.
    #[test]
    fn any_text(text in proptest::collection::vec(
        prop_oneof![Just(b','), Just(b'('), Just(b')'), Just(b'!'), Just(b'a'), any::<u8>()], 0..300)) {
        if let Ok(preference) = Preference::parse(&text) {
            prop_assert!(text.len() <= 255);
            let last = preference.attempts(true).last();
            prop_assert_eq!(last, Some(Attempt::Default));
            for name in preference.names() {
                prop_assert!(!name.is_empty() && !name.starts_with(b"!"));
                prop_assert!(text.windows(name.len()).any(|part| part == name));
            }
        }
    }
}

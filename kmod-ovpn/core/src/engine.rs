// SPDX-License-Identifier: GPL-2.0
//! Which implementation carries a key: what the module parameters of the ciphers may say, and in
//! which order implementations are tried.
//!
//! A preference is a list of words with commas between them, outside of parentheses.
//!
//! | word | meaning |
//! |---|---|
//! | `NAME` | this one if it is there, asynchronous or not: a driver as KEY_GET shows it, or a template around a driver (`pcrypt(DRIVER)`) |
//! | `library` | as a name: the kernel's library functions, which ChaCha20-Poly1305 has |
//! | `!NAME` | not this one, unless there is no other |
//! | `async` | where no name fits: the one that the crypto API ranks highest, asynchronous or not |
//!
//! Nothing at all means: the library where there is one, else what the crypto API ranks highest
//! among the synchronous ones. An engine that is slower than the CPU is thus never picked by
//! accident.

/// Longest preference, bytes.
pub const MAX_LEN: usize = 255;

/// Longest name of an implementation, bytes (`CRYPTO_MAX_ALG_NAME` of the kernel without its NUL).
pub const MAX_NAME: usize = 127;

/// Name of the library functions in preferences and answers.
pub const LIBRARY: &[u8] = b"library";

const ASYNC: &[u8] = b"async";

/// Faults of a preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Above [`MAX_LEN`].
    TooLong,
    /// A name above [`MAX_NAME`].
    NameTooLong,
    /// Nothing between two commas, or behind a `!`.
    Empty,
    /// A byte that no name has: a space, a control character, one above ASCII.
    Byte,
    /// A parenthesis that is not closed, or not opened.
    Parentheses,
    /// `!async`: nothing is asynchronous unless it is asked for.
    NotAsync,
}

impl Fault {
    /// One sentence for the user.
    pub const fn message(self) -> &'static core::ffi::CStr {
        match self {
            Fault::TooLong => c"longer than 255 bytes",
            Fault::NameTooLong => c"a name is longer than 127 bytes",
            Fault::Empty => c"a name is empty",
            Fault::Byte => c"only printable ASCII without spaces makes a name",
            Fault::Parentheses => c"the parentheses do not match",
            Fault::NotAsync => c"asynchronous ones are left out anyway, unless \"async\" is given",
        }
    }
}

/// One word of a preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    Name(&'a [u8]),
    Not(&'a [u8]),
    Async,
}

/// Properties that an implementation must have to be picked by rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Anything.
    Any,
    /// Not asynchronous.
    Sync,
    /// Not asynchronous, and neither in need of another one nor behind a hardware driver.
    Software,
}

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<'a> {
    /// The implementation of this name.
    Named(&'a [u8]),
    /// The library functions.
    Library,
    /// The highest of a rank, if it is not excluded.
    Ranked(Rank),
    /// The default, excluded or not: a working tunnel is worth more than a preference.
    Default,
}

/// A preference that is well-formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference<'a>(&'a [u8]);

impl<'a> Preference<'a> {
    /// Checks a preference.
    ///
    /// # Errors
    /// The first fault found.
    pub fn parse(text: &'a [u8]) -> Result<Self, Fault> {
        if text.len() > MAX_LEN {
            return Err(Fault::TooLong);
        }
        let preference = Preference(text);
        preference.raw_words().try_for_each(check_word)?;
        Ok(preference)
    }

    /// The implementations that are wished for by name, dearest first.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> {
        self.words().filter_map(|word| match word {
            Word::Name(name) => Some(name),
            _ => None,
        })
    }

    /// Whether an implementation is not wanted.
    pub fn excludes(self, driver: &[u8]) -> bool {
        self.words().any(|word| word == Word::Not(driver))
    }

    /// Whether rank may pick an asynchronous one.
    pub fn allows_async(self) -> bool {
        self.words().any(|word| word == Word::Async)
    }

    /// The implementations to try, in this order. `has_library` tells whether the cipher has library functions.
    pub fn attempts(self, has_library: bool) -> impl Iterator<Item = Attempt<'a>> {
        let library = has_library && !self.excludes(LIBRARY);
        let fast = self.allows_async();
        let named = self.names().map(move |name| match name {
            LIBRARY if has_library => Attempt::Library,
            _ => Attempt::Named(name),
        });
        let rest = [
            (fast, Attempt::Ranked(Rank::Any)),
            (library, Attempt::Library),
            (true, Attempt::Ranked(Rank::Sync)),
            (true, Attempt::Ranked(Rank::Software)),
            (true, Attempt::Default),
        ];
        let rest = rest.into_iter().filter(|(wanted, _)| *wanted);
        named.chain(rest.map(|(_, attempt)| attempt))
    }

    /// Whether an attempt, if it succeeds, is what was asked for: a name that is not there must
    /// not be passed over in silence.
    pub fn is_met_by(self, attempt: Attempt<'_>) -> bool {
        match attempt {
            Attempt::Named(_) => true,
            Attempt::Library if self.names().any(|name| name == LIBRARY) => true,
            Attempt::Default => false,
            Attempt::Library | Attempt::Ranked(_) => self.names().next().is_none(),
        }
    }

    fn words(self) -> impl Iterator<Item = Word<'a>> {
        self.raw_words().map(|word| match word {
            ASYNC => Word::Async,
            [b'!', name @ ..] => Word::Not(name),
            name => Word::Name(name),
        })
    }

    /// The text between the commas; nothing at all if it is empty.
    fn raw_words(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = Some(self.0).filter(|text| !text.is_empty());
        core::iter::from_fn(move || {
            let text = rest?;
            let mut depth = 0usize;
            let end = text.iter().position(|byte| {
                match byte {
                    b'(' => depth = depth.saturating_add(1),
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                *byte == b',' && depth == 0
            });
            let Some((word, behind)) = end.and_then(|at| text.split_at_checked(at)) else {
                rest = None;
                return Some(text);
            };
            rest = behind.get(1..);
            Some(word)
        })
    }
}

fn check_word(word: &[u8]) -> Result<(), Fault> {
    let name = word.strip_prefix(b"!").unwrap_or(word);
    if name.is_empty() {
        return Err(Fault::Empty);
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Fault::Byte);
    }
    if name.len() > MAX_NAME {
        return Err(Fault::NameTooLong);
    }
    if word == b"!async" {
        return Err(Fault::NotAsync);
    }
    let mut depth = 0usize;
    for byte in name {
        depth = match byte {
            b'(' => depth.saturating_add(1),
            b')' => depth.checked_sub(1).ok_or(Fault::Parentheses)?,
            _ => depth,
        };
    }
    if depth == 0 {
        Ok(())
    } else {
        Err(Fault::Parentheses)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Passwords of a server's clients: lines `name:hash` with hashes of crypt(3), as /etc/shadow has them and
//! `openssl passwd -6` makes them: `$5$` (SHA-256) and `$6$` (SHA-512).

use std::collections::BTreeMap;
use std::fmt;

use sha_crypt::{Sha256Params, Sha512Params, sha256_crypt_b64, sha512_crypt_b64};
use subtle::ConstantTimeEq;

/// Rounds of a hash without `rounds=` (crypt(5)).
const ROUNDS: usize = 5000;
/// Fewest rounds that crypt(3) does, and the most that a router is asked for: some ten seconds of its time.
const ROUNDS_RANGE: std::ops::RangeInclusive<usize> = 1000..=100_000;
/// Longest salt of crypt(3), in bytes.
const MAX_SALT: usize = 16;
/// Longest password, in bytes: stock OpenVPN's USER_PASS_LEN (misc.h) with its end. Time grows with it.
const MAX_PASSWORD: usize = 127;
/// Longest name of a user, in bytes: the same limit.
const MAX_NAME: usize = 127;
/// The letters of a salt (crypt(5)).
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Clone, Copy)]
enum Scheme {
    /// `$5$`, with so many rounds.
    Sha256(usize),
    /// `$6$`, the same.
    Sha512(usize),
}

struct Entry {
    scheme: Scheme,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix('$')?.split('$');
        let scheme = fields.next()?;
        let mut salt = fields.next()?;
        let mut rounds = ROUNDS;
        if let Some(number) = salt.strip_prefix("rounds=") {
            rounds = number.parse().ok()?;
            salt = fields.next()?;
        }
        let hash = fields.next()?.as_bytes();
        if fields.next().is_some() || salt.len() > MAX_SALT || !ROUNDS_RANGE.contains(&rounds) {
            return None;
        }
        let (scheme, len) = match scheme {
            "5" => (Scheme::Sha256(rounds), 43),
            "6" => (Scheme::Sha512(rounds), 86),
            _ => return None,
        };
        (hash.len() == len).then(|| Self {
            scheme,
            salt: salt.as_bytes().to_vec(),
            hash: hash.to_vec(),
        })
    }

    fn fits(&self, password: &[u8]) -> bool {
        let made = match self.scheme {
            Scheme::Sha256(rounds) => Sha256Params::new(rounds)
                .and_then(|params| sha256_crypt_b64(password, &self.salt, &params)),
            Scheme::Sha512(rounds) => Sha512Params::new(rounds)
                .and_then(|params| sha512_crypt_b64(password, &self.salt, &params)),
        };
        made.is_ok_and(|made| made.as_bytes().ct_eq(&self.hash).into())
    }
}

/// Users and their hashes. Never printed.
pub struct Users(BTreeMap<String, Entry>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

impl Users {
    /// Reads a file. Lines may be empty or begin with `#`; further fields of /etc/shadow are left out, and so are names
    /// whose hash begins with `!` or `*`, which cannot log in.
    ///
    /// # Errors
    /// A sentence that names the line.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
        let mut users = BTreeMap::new();
        let lines = text.lines().map(str::trim_end).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (number, line) in lines {
            let fault = |why: &str| Err(format!("line {}: {why}", number + 1));
            let mut fields = line.split(':');
            let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
                return fault("must be a name, a colon and a hash");
            };
            if name.is_empty() || name.chars().any(char::is_control) {
                return fault("the name is missing, or cannot be printed");
            }
            if hash.starts_with(['!', '*']) {
                continue;
            }
            let Some(entry) = Entry::parse(hash) else {
                return fault(
                    "the hash is not of crypt's $5$ or $6$ with 1000 to 100000 rounds (openssl passwd -6 makes one)",
                );
            };
            if users.insert(name.to_owned(), entry).is_some() {
                return fault("the name is there already");
            }
        }
        match users.is_empty() {
            true => Err("names no user".into()),
            false => Ok(Self(users)),
        }
    }

    /// The names, in the order of their bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is a user of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether this is the user's password. An unknown user takes the time of another one, all of whom have the same when their
    /// hashes have as many rounds. It is a matter of milliseconds on a PC, and of up to a second on a router.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        if password.len() > MAX_PASSWORD {
            return false;
        }
        let known = self.0.get(name);
        let entry = known.or_else(|| self.0.values().next());
        let fits = entry.is_some_and(|entry| entry.fits(password));
        fits && known.is_some()
    }
}

/// The line of a user, with a hash of `$6$`, whose salt is made of random bytes.
///
/// # Errors
/// A sentence: name or password cannot be used.
pub fn line(name: &str, password: &str, random: &[u8; MAX_SALT]) -> Result<String, Fault> {
    let bad = |c: char| c == ':' || c.is_control();
    if name.is_empty()
        || name.len() > MAX_NAME
        || name.contains(bad)
        || name.starts_with('#')
        || name.trim() != name
    {
        return Err(Fault::Name);
    }
    if password.is_empty() || password.len() > MAX_PASSWORD || password.contains(char::is_control) {
        return Err(Fault::Password);
    }
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 64)).copied();
    let salt: Vec<u8> = random.iter().filter_map(letter).collect();
    let hash = Sha512Params::new(ROUNDS)
        .and_then(|params| sha512_crypt_b64(password.as_bytes(), &salt, &params))
        .map_err(|_| Fault::Password)?;
    let salt = String::from_utf8_lossy(&salt);
    Ok(format!("{name}:$6${salt}${hash}"))
}

/// A name or a password that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The name of the user.
    Name,
    /// The password.
    Password,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(
                f,
                "must be a name of up to {MAX_NAME} bytes, without colon, and not begin with #"
            ),
            Self::Password => write!(f, "must be one line of up to {MAX_PASSWORD} bytes"),
        }
    }
}

/// A file's text with this line in the place of a user's, or at its end; without the user when there is no line. All other
/// lines stay as they are.
pub fn with(text: &str, name: &str, line: Option<&str>) -> String {
    let is_theirs = |old: &&str| old.split_once(':').is_some_and(|(first, _)| first == name);
    let mut line = line;
    let mut out = String::with_capacity(text.len() + line.map_or(0, str::len) + 1);
    let mut put = |line: &str| {
        out.push_str(line.trim_end_matches(['\r', '\n']));
        out.push('\n');
    };
    for old in text.lines() {
        match is_theirs(&old) {
            false => put(old),
            true => line.take().into_iter().for_each(&mut put),
        }
    }
    line.into_iter().for_each(put);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl passwd -6 -salt saltstring 'Hello world!'` and `-5`, which are the examples of the specification of
    /// SHA-crypt; the third one has its rounds.
    const FILE: &str = "# users\n\
        anna:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n\
        \n\
        bob:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5:19000:0:99999:7:::\n\
        carl:$5$rounds=10000$saltstringsaltst$3xv.VbSCBX41eDL9L3voZredhjAdRl/kqBJj8w4MIbA\n\
        off:!$6$x\n";

    #[test]
    fn passwords_of_both_schemes_are_told_from_others() {
        let users = Users::parse(FILE.as_bytes()).unwrap();
        assert!(users.verify("anna", b"Hello world!"));
        assert!(users.verify("bob", b"Hello world!"));
        for (name, password) in [
            ("anna", &b"Hello world"[..]),
            ("anna", b""),
            ("bob", b"Hello world!!"),
            ("off", b"Hello world!"),
            // The hash that stands in for one that is not there is no way in.
            ("nobody", b"Hello world!"),
            ("", b"Hello world!"),
        ] {
            assert!(!users.verify(name, password), "{name}");
        }
        assert!(!users.verify("anna", &[b'x'; MAX_PASSWORD + 1]));
        assert!(users.has("carl") && !users.has("off"));
        assert_eq!(format!("{users:?}"), "Users(3)");
    }

    #[test]
    fn a_line_that_is_made_lets_its_user_in() {
        let made = line("dora", "Grüße: 1", &[7; MAX_SALT]).unwrap();
        assert!(made.starts_with("dora:$6$5555555555555555$"), "{made}");
        let text = with(FILE, "dora", Some(&made));
        let users = Users::parse(text.as_bytes()).unwrap();
        assert!(
            users.verify("dora", "Grüße: 1".as_bytes()) && users.verify("anna", b"Hello world!")
        );
        assert_eq!(
            users.names().collect::<Vec<_>>(),
            ["anna", "bob", "carl", "dora"]
        );
        // Another password, in the same place; and none any more.
        let other = line("anna", "x", &[8; MAX_SALT]).unwrap();
        let text = with(&text, "anna", Some(&other));
        let users = Users::parse(text.as_bytes()).unwrap();
        assert!(users.verify("anna", b"x") && !users.verify("anna", b"Hello world!"));
        assert!(
            text.starts_with("# users\nanna:$6$6666666666666666$"),
            "{text}"
        );
        let text = with(&text, "anna", None);
        assert!(!Users::parse(text.as_bytes()).unwrap().has("anna"));
        assert!(text.starts_with("# users\n\nbob:"), "{text}");
        // Of one that is shut out, and of a name that another begins with.
        assert!(!with(FILE, "off", None).contains("off:"));
        assert_eq!(with(FILE, "of", None), FILE);
        assert_eq!(with("", "a", Some("a:b")), "a:b\n");
    }

    #[test]
    fn names_and_passwords_that_would_break_the_file_are_refused() {
        let salt = [0; MAX_SALT];
        for name in [
            "",
            "a:b",
            "a\nb",
            "#a",
            " a",
            "a ",
            &"x".repeat(MAX_NAME + 1),
        ] {
            assert_eq!(line(name, "x", &salt), Err(Fault::Name), "{name:?}");
        }
        for password in ["", "a\nb", "a\0", &"x".repeat(MAX_PASSWORD + 1)] {
            assert_eq!(
                line("a", password, &salt),
                Err(Fault::Password),
                "{password:?}"
            );
        }
    }

    #[test]
    fn faults_name_the_line() {
        let long = format!("a:$5$12345678901234567${}", "x".repeat(43));
        let many = format!("a:$5$rounds=100001$s${}", "x".repeat(43));
        for (text, part) in [
            ("", "names no user"),
            ("# x\n\nanna\n", "line 3: must be a name"),
            (":$6$a$b\n", "line 1: the name is missing"),
            ("a:geheim\n", "line 1: the hash is not"),
            ("a:\n", "line 1: the hash is not"),
            ("a:$1$abc$def\n", "line 1: the hash is not"),
            ("a:$6$abc$tooshort\n", "line 1: the hash is not"),
            (&long, "line 1: the hash is not"),
            (&many, "line 1: the hash is not"),
        ] {
            let why = Users::parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
        let twice = FILE.replace("bob", "anna");
        assert!(
            Users::parse(twice.as_bytes())
                .unwrap_err()
                .contains("there already")
        );
        assert!(Users::parse(b"a:\xff").is_err());
    }
}

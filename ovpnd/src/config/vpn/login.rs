// SPDX-License-Identifier: GPL-2.0-or-later
//! A client's login: user and password of a file or of the section, or asked for.

use openvpn_control::exchange::Credentials;
use zeroize::Zeroizing;

use super::{Marks, file, first_line};
use crate::config::reader::Reader;

/// Whose password a client asks its user for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The password of this user.
    Password(String),
    /// The name of a user, and the password.
    Login,
}

/// A question whose answer goes with the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its text.
    pub text: String,
    /// Whether the answer may be shown.
    pub echo: bool,
}

/// `auth_user_pass 'ask'`, with `username` for the password alone.
pub(super) fn asks(reader: &mut Reader<'_>) -> Option<Asked> {
    reader
        .text("auth_user_pass")
        .filter(|word| *word == "ask")?;
    if reader.text("password").is_some() {
        let why = "contradicts auth_user_pass 'ask': use one of them";
        reader.fault(Some("password"), why);
    }
    let user = reader.text("username");
    Some(user.map_or(Asked::Login, |user| Asked::Password(user.to_owned())))
}

/// `auth_user_pass` names a file of two lines; `username` and `password` say them here.
pub(super) fn credentials(reader: &mut Reader<'_>, marks: &mut Marks) -> Option<Credentials> {
    let (username, password) = (reader.text("username"), reader.text("password"));
    if let Some(content) = file(reader, marks, "auth_user_pass", true) {
        if username.is_some() || password.is_some() {
            reader.fault(
                Some("username"),
                "contradicts auth_user_pass: use one of them",
            );
        }
        let mut lines = content.split(|byte| *byte == b'\n');
        let username = first_line(lines.next().unwrap_or_default());
        let password = first_line(lines.next().unwrap_or_default());
        let username = std::str::from_utf8(username).unwrap_or_default();
        if username.is_empty() || password.is_empty() {
            let why = "must hold a user name and a password, each on a line of its own";
            reader.fault(Some("auth_user_pass"), why);
            return None;
        }
        return Some(Credentials {
            username: username.to_owned(),
            password: Zeroizing::new(password.to_vec()),
        });
    }
    match (username, password) {
        (None, None) => None,
        (Some(username), Some(password)) => Some(Credentials {
            username: username.to_owned(),
            password: Zeroizing::new(password.as_bytes().to_vec()),
        }),
        (Some(_), None) => {
            let why = "is missing: username is there; auth_user_pass 'ask' has it asked for";
            reader.fault(Some("password"), why);
            None
        }
        (None, Some(_)) => {
            reader.fault(Some("username"), "is missing: password is there");
            None
        }
    }
}

/// `static_challenge 'TEXT 0|1'`: the digit says whether the answer may be shown.
pub(super) fn question(reader: &mut Reader<'_>, login: bool) -> Option<Question> {
    let line = reader.lines("static_challenge").into_iter().next()?.trim();
    let Some((text, echo @ ("0" | "1"))) = line.rsplit_once(' ') else {
        let why = "must be a question and, behind it, 1 when the answer may be shown or 0";
        reader.fault(Some("static_challenge"), why);
        return None;
    };
    if !login {
        let why = "needs a user and a password: set auth_user_pass";
        reader.fault(Some("static_challenge"), why);
    }
    Some(Question {
        text: text.trim().trim_matches(['"', '\'']).to_owned(),
        echo: echo == "1",
    })
}

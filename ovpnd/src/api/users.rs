// SPDX-License-Identifier: GPL-2.0-or-later
//! `user_list`, `user_set` and `user_del`: the users of a server's `user_file`. A hash is a second's work for a router, so it
//! is made in a thread of its own.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use openvpn_control::passwords::{self, Fault, Users};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Args, Refusal, keys};
use crate::config::Problem;
use crate::config::vpn::load;
use crate::ubus::{Method, Status};

/// One change of a file at a time: another one would be lost.
static CHANGE: Mutex<()> = Mutex::new(());

/// A call whose arguments have the right types.
#[derive(Debug)]
pub struct Wish {
    file: String,
    what: What,
}

#[derive(Debug)]
enum What {
    List,
    Set(String, Zeroizing<String>),
    Delete(String),
}

impl Wish {
    /// Reads a call; none when the method is another's.
    ///
    /// # Errors
    /// Arguments are wrong.
    pub(super) fn read(method: Method, args: Args<'_>) -> Result<Option<Self>, Refusal> {
        let user = || args.needed("user").map(str::to_owned);
        let what = match method {
            Method::UserList => What::List,
            Method::UserSet => {
                let password = args.needed("password")?.to_owned();
                What::Set(user()?, Zeroizing::new(password))
            }
            Method::UserDel => What::Delete(user()?),
            _ => return Ok(None),
        };
        let file = args.needed("file")?.to_owned();
        Ok(Some(Self { file, what }))
    }

    /// Does it, with the file in `keys`. The answer, and whether the file changed.
    ///
    /// # Errors
    /// It cannot be done; nothing changed then.
    pub(super) fn run(self, keys: &Path) -> Result<(Value, bool), Refusal> {
        let path = keys::path(keys, "file", &self.file)?;
        let fault = |why: String| {
            let why = format!("{}: {why}", path.display());
            Refusal::argument("file", why)
        };
        let _alone = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => Some(load(&path, true).map_err(fault)?),
        };
        let users = |text: &[u8]| Users::parse(text).map_err(fault);
        let there = text.as_ref().map(|text| users(text)).transpose()?;
        let text = text
            .as_ref()
            .map_or(Ok(""), |text| std::str::from_utf8(text));
        let text = text.map_err(|_| fault("is not UTF-8".into()))?;
        let (name, line) = match &self.what {
            What::List => {
                let names: Vec<&str> = there.iter().flat_map(Users::names).collect();
                return Ok((json!({ "ok": true, "users": names }), false));
            }
            What::Set(name, password) => {
                let mut salt = [0; 16];
                getrandom::getrandom(&mut salt)
                    .map_err(|error| fault(format!("no random bytes: {error}")))?;
                let line = passwords::line(name, password, &salt).map_err(|fault| {
                    let argument = match fault {
                        Fault::Name => "user",
                        Fault::Password => "password",
                    };
                    Refusal::argument(argument, fault.to_string())
                })?;
                (name, Some(line))
            }
            What::Delete(name) => {
                if !there.as_ref().is_some_and(|users| users.has(name)) {
                    let problem = Problem::of_call(Some("user"), format!("there is no '{name}'"));
                    return Err(Refusal::new(Status::NotFound, problem));
                }
                (name, None)
            }
        };
        let new = passwords::with(text, name, line.as_deref());
        if Users::parse(new.as_bytes()).is_err() {
            let why = "is the last one: a server with a file of users needs one";
            return Err(Refusal::argument("user", why));
        }
        keys::keep("file", &path, new.as_bytes(), true)?;
        Ok((
            json!({ "ok": true, "file": path.display().to_string() }),
            true,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn call(dir: &Path, method: Method, args: &Value) -> Result<(Value, bool), String> {
        let wish = Wish::read(method, Args(args.as_object().unwrap()));
        let done = wish.and_then(|wish| wish.unwrap().run(dir));
        done.map_err(|refusal| refusal.problems[0].to_string())
    }

    #[test]
    fn users_come_and_go_and_no_password_is_told() {
        let dir = std::env::temp_dir().join(format!("ovpnd-users-{}", std::process::id()));
        let of = |user: &str| json!({"file": "home.users", "user": user, "password": "secret"});
        let list = || {
            call(&dir, Method::UserList, &json!({"file": "home.users"}))
                .unwrap()
                .0
        };
        assert_eq!(list(), json!({"ok": true, "users": []}));
        for user in ["bob", "anna", "bob"] {
            let (said, changed) = call(&dir, Method::UserSet, &of(user)).unwrap();
            assert!(changed && said["file"].as_str().unwrap().ends_with("/home.users"));
        }
        assert_eq!(list()["users"], json!(["anna", "bob"]));
        let path = dir.join("home.users");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("secret") && text.lines().count() == 2,
            "{text}"
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(
            Users::parse(text.as_bytes())
                .unwrap()
                .verify("anna", b"secret")
        );
        call(&dir, Method::UserDel, &of("anna")).unwrap();
        assert_eq!(list()["users"], json!(["bob"]));
        let before = fs::read(&path).unwrap();
        for (method, args, named) in [
            (Method::UserDel, of("bob"), "last one"),
            (Method::UserDel, of("anna"), "there is no 'anna'"),
            (Method::UserSet, of("a:b"), "'user'"),
            (
                Method::UserSet,
                json!({"file": "home.users", "user": "a"}),
                "'password'",
            ),
            (
                Method::UserSet,
                json!({"user": "a", "password": "b"}),
                "'file'",
            ),
            (
                Method::UserSet,
                json!({"file": "../x", "user": "a", "password": "b"}),
                "'file'",
            ),
            (
                Method::UserSet,
                json!({"file": "home.users", "user": "a", "password": "b\nc"}),
                "'password'",
            ),
        ] {
            let why = call(&dir, method, &args).unwrap_err();
            assert!(why.contains(named) && !why.contains("secret"), "{why}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        // A file of something else is not written over.
        fs::write(&path, "a key\n").unwrap();
        let why = call(&dir, Method::UserSet, &of("anna")).unwrap_err();
        assert!(why.contains("line 1"), "{why}");
        fs::remove_dir_all(dir).unwrap();
    }
}

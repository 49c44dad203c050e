// SPDX-License-Identifier: GPL-2.0-or-later
//! User names and passwords of a server's clients. A hash is a second's work for a router, so they are checked in the
//! worker's thread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use openvpn_control::env::Env;
use openvpn_control::exchange::Credentials;
use openvpn_control::passwords::Users;
use openvpn_control::server::Authenticate;
use openvpn_control::token::{Expired, Tokens};
use zeroize::Zeroizing;

use super::source;
use crate::config::vpn::server::LoginSpec;

/// Failures of one source that are taken within [`PERIOD`].
const MAX_FAILURES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);
/// The answer to a wrong password and to an unknown user.
const WRONG: &str = "user name or password is wrong";
/// Sources whose failures are remembered.
const MAX_SOURCES: usize = 256;

/// The outcome of a look at user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// The server asks for none, or the client brings none and need not.
    None,
    /// The user, and a token for the next logins.
    User(String, Option<Zeroizing<String>>),
    /// The client is refused, for this reason, which it is told.
    Refused(&'static str),
}

/// Failures by source, each since its first one.
#[derive(Debug, Default)]
struct Failures(BTreeMap<[u8; 8], (Instant, u32)>);

impl Failures {
    fn is_blocked(&mut self, source: [u8; 8], now: Instant) -> bool {
        self.0
            .retain(|_, (since, _)| now.saturating_duration_since(*since) < PERIOD);
        let known = self.0.get(&source);
        known.is_some_and(|(_, count)| *count >= MAX_FAILURES)
    }

    fn note(&mut self, source: [u8; 8], now: Instant) {
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            self.0.pop_first();
        }
        let (_, count) = self.0.entry(source).or_insert((now, 0));
        *count = count.saturating_add(1);
    }
}

/// Checks logins.
#[derive(Debug)]
pub(super) struct Logins {
    spec: LoginSpec,
    tokens: Option<Tokens>,
    failures: Failures,
}

impl Logins {
    pub(super) fn new(spec: LoginSpec, env: &mut Env<'_>) -> Self {
        let tokens = spec.tokens.map(|lifetime| Tokens::new(lifetime, env));
        Self {
            spec,
            tokens,
            failures: Failures::default(),
        }
    }

    /// Looks at a client's user name and password.
    pub(super) fn check(&mut self, client: &Authenticate, env: &mut Env<'_>) -> Login {
        let credentials = client.hello.credentials.as_ref();
        let source = source(client.path.remote);
        let spec = self.spec.clone();
        let login = self.login(credentials, source, client.again, || spec.users(), env);
        if let Login::Refused(why) = &login {
            log::debug!("{}: {why}", client.path.remote);
        }
        login
    }

    fn login(
        &mut self,
        credentials: Option<&Credentials>,
        source: [u8; 8],
        again: bool,
        users: impl FnOnce() -> Result<Users, String>,
        env: &mut Env<'_>,
    ) -> Login {
        let Some(Credentials { username, password }) = credentials else {
            return match self.spec.optional {
                true => Login::None,
                false => Login::Refused("user name and password are missing"),
            };
        };
        let good = |tokens: Option<&Tokens>, env: &mut Env<'_>| {
            let token = tokens.filter(|_| !again);
            let token = token.map(|tokens| tokens.make(username, env));
            Login::User(username.clone(), token)
        };
        let tokens = self.tokens.as_ref();
        match tokens.and_then(|tokens| tokens.check(username, password, env.unix)) {
            Some(Ok(())) => {
                return match users() {
                    Ok(users) if users.has(username) => good(tokens, env),
                    // Its user was removed meanwhile.
                    Ok(_) => Login::Refused(WRONG),
                    Err(why) => self.unreadable(&why),
                };
            }
            // A client since OpenVPN 2.6 takes its password again.
            Some(Err(Expired)) => return Login::Refused("SESSION: the token has expired"),
            None => {}
        }
        if self.failures.is_blocked(source, env.now) {
            return Login::Refused("TEMP[backoff 60]:too many failures from this address");
        }
        match users() {
            Ok(users) if users.verify(username, password) => good(tokens, env),
            Ok(_) => {
                self.failures.note(source, env.now);
                Login::Refused(WRONG)
            }
            Err(why) => self.unreadable(&why),
        }
    }

    fn unreadable(&self, why: &str) -> Login {
        log::error!("{}: {why}", self.spec.file.display());
        Login::Refused("TEMP:the server cannot read its users")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "anna:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\n";

    struct Table(Logins, Instant);

    impl Table {
        fn new(optional: bool, tokens: Option<Option<Duration>>) -> Self {
            let now = Instant::now();
            let mut random = |out: &mut [u8]| out.fill(1);
            let mut env = Env {
                now,
                unix: 1000,
                random: &mut random,
            };
            let spec = LoginSpec {
                file: "/nonexistent".into(),
                optional,
                by_user: false,
                certless: true,
                tokens,
            };
            Self(Logins::new(spec, &mut env), now)
        }

        fn login(
            &mut self,
            who: Option<(&str, &str)>,
            source: u8,
            again: bool,
            after: u64,
        ) -> Login {
            self.login_among(USERS, who, source, again, after)
        }

        fn login_among(
            &mut self,
            users: &str,
            who: Option<(&str, &str)>,
            source: u8,
            again: bool,
            after: u64,
        ) -> Login {
            let credentials = who.map(|(name, password)| Credentials {
                username: name.into(),
                password: Zeroizing::new(password.as_bytes().to_vec()),
            });
            let mut random = |out: &mut [u8]| out.fill(1);
            let mut env = Env {
                now: self.1 + Duration::from_secs(after),
                unix: 1000 + after,
                random: &mut random,
            };
            let users = || Users::parse(users.as_bytes());
            let source = [source; 8];
            self.0
                .login(credentials.as_ref(), source, again, users, &mut env)
        }
    }

    const GOOD: Option<(&str, &str)> = Some(("anna", "Hello world!"));
    const WRONG: Login = Login::Refused(super::WRONG);

    #[test]
    fn unknown_users_and_wrong_passwords_have_one_answer() {
        let mut table = Table::new(false, None);
        assert_eq!(
            table.login(GOOD, 1, false, 0),
            Login::User("anna".into(), None)
        );
        assert_eq!(table.login(Some(("anna", "x")), 1, false, 0), WRONG);
        assert_eq!(
            table.login(Some(("bert", "Hello world!")), 1, false, 0),
            WRONG
        );
        let missing = table.login(None, 1, false, 0);
        assert_eq!(
            missing,
            Login::Refused("user name and password are missing")
        );
        assert_eq!(Table::new(true, None).login(None, 1, false, 0), Login::None);
    }

    #[test]
    fn a_source_with_many_failures_waits_and_no_other() {
        let mut table = Table::new(false, None);
        for _ in 0..MAX_FAILURES {
            assert_eq!(table.login(Some(("anna", "x")), 1, false, 0), WRONG);
        }
        let blocked = table.login(GOOD, 1, false, 59);
        assert_eq!(
            blocked,
            Login::Refused("TEMP[backoff 60]:too many failures from this address")
        );
        let user = Login::User("anna".into(), None);
        assert_eq!(table.login(GOOD, 2, false, 59), user);
        assert_eq!(table.login(GOOD, 1, false, 60), user);
    }

    #[test]
    fn no_number_of_sources_fills_the_memory() {
        let mut failures = Failures::default();
        let now = Instant::now();
        for n in 0..1000u64 {
            failures.note(n.to_be_bytes(), now);
        }
        assert_eq!(failures.0.len(), MAX_SOURCES);
    }

    #[test]
    fn a_token_stands_for_the_password_until_it_expires() {
        let mut table = Table::new(false, Some(Some(Duration::from_secs(100))));
        let Login::User(_, Some(token)) = table.login(GOOD, 1, false, 0) else {
            panic!("no token");
        };
        let again = table.login(Some(("anna", &token)), 1, true, 100);
        assert_eq!(again, Login::User("anna".into(), None));
        let late = table.login(Some(("anna", &token)), 1, true, 101);
        assert_eq!(late, Login::Refused("SESSION: the token has expired"));
        assert_eq!(table.login(Some(("bert", &token)), 1, true, 50), WRONG);
        // A user who was removed does not come back by it.
        let others = USERS.replace("anna", "bert");
        let removed = table.login_among(&others, Some(("anna", &token)), 1, true, 50);
        assert_eq!(removed, WRONG);
    }
}

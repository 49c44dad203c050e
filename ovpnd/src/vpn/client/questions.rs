// SPDX-License-Identifier: GPL-2.0-or-later
//! Questions to a client's user, and the passwords that come of the answers and of the server's token.

use std::time::Instant;

use openvpn_control::client::Challenge;
use openvpn_control::exchange::Credentials;
use zeroize::Zeroizing;

use super::{Client, Phase};
use crate::config::vpn::{Asked, ClientSpec, Question};
use crate::tunnel;

/// The part of the configuration that a login depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs<'a> {
    /// The login, as far as it is asked for.
    pub(super) asks: Option<&'a Asked>,
    /// The question whose answer goes with the password.
    pub(super) fixed: Option<&'a Question>,
}

impl<'a> Needs<'a> {
    pub(super) fn of(spec: &'a ClientSpec) -> Self {
        Self {
            asks: spec.asks.as_ref(),
            fixed: spec.static_challenge.as_ref(),
        }
    }
}

/// The state of a client's login.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The server's question of the last attempt.
    asked: Option<Challenge>,
    /// The answer to the configuration's or the server's question. It holds until it was sent.
    answer: Option<Zeroizing<String>>,
    /// The login that the user gave. It holds until the server refuses it.
    login: Option<Credentials>,
    /// The server's token, which needs no answer.
    token: Option<Credentials>,
    /// This attempt has the answer to a question of the server.
    answered: bool,
    /// The answer before was wrong.
    again: bool,
}

impl Questions {
    fn lacks_login(&self, needs: Needs<'_>) -> bool {
        needs.asks.is_some() && self.login.is_none() && self.token.is_none()
    }

    /// Whether an answer is missing.
    pub(super) fn has_to_ask(&self, needs: Needs<'_>) -> bool {
        if self.asked.is_some() {
            return self.answer.is_none();
        }
        let fixed = needs.fixed.is_some() && self.token.is_none() && self.answer.is_none();
        self.lacks_login(needs) || fixed
    }

    /// The question that is open.
    pub(super) fn question(&self, needs: Needs<'_>) -> Option<tunnel::Question> {
        let plain = |text: &str, echo| tunnel::Question {
            text: text.to_owned(),
            echo,
            user: false,
        };
        if let Some(asked) = &self.asked {
            return Some(plain(&asked.text, asked.echo));
        }
        match needs.asks.filter(|_| self.lacks_login(needs)) {
            Some(Asked::Password(user)) => Some(plain(&format!("Password of {user}"), false)),
            Some(Asked::Login) => Some(tunnel::Question {
                user: true,
                ..plain("User name and password", false)
            }),
            None => needs.fixed.map(|fixed| plain(&fixed.text, fixed.echo)),
        }
    }

    /// Takes the server's question. True when it is asked again after a wrong answer.
    pub(super) fn ask(&mut self, challenge: Challenge) -> bool {
        self.asked = Some(challenge);
        self.answer = None;
        std::mem::take(&mut self.again)
    }

    /// Takes an answer to the open question; false when the name of a user is missing.
    pub(super) fn answer(&mut self, needs: Needs<'_>, user: Option<&str>, text: &str) -> bool {
        let username = match needs.asks.filter(|_| self.asked.is_none()) {
            Some(asks) if self.lacks_login(needs) => match asks {
                Asked::Password(user) => Some(user.as_str()),
                Asked::Login if user.is_none() => return false,
                Asked::Login => user,
            },
            _ => None,
        };
        match username {
            Some(username) => {
                self.login = Some(Credentials {
                    username: username.to_owned(),
                    password: Zeroizing::new(text.as_bytes().to_vec()),
                });
            }
            None => self.answer = Some(Zeroizing::new(text.to_owned())),
        }
        true
    }

    /// User name and password of the next attempt.
    pub(super) fn credentials(&self, own: Option<&Credentials>) -> Option<Credentials> {
        let own = self.login.as_ref().or(own);
        match (&self.asked, &self.answer, &self.token) {
            (Some(asked), Some(answer), _) => Some(asked.answer(answer)),
            (_, _, Some(token)) => Some(token.clone()),
            (None, Some(answer), None) => own.map(|own| own.with_answer(answer)),
            (_, None, None) => own.cloned(),
        }
    }

    /// Whether the next attempt goes by the token.
    pub(super) fn has_token(&self) -> bool {
        self.asked.is_none() && self.token.is_some()
    }

    /// The answer is on its way: it is good for one attempt.
    pub(super) fn sent(&mut self) {
        self.answered = self.asked.is_some();
        self.asked = None;
        self.answer = None;
    }

    pub(super) fn take_token(&mut self, token: Credentials) {
        self.token = Some(token);
    }

    pub(super) fn forget_token(&mut self) {
        self.token = None;
    }

    /// The server refused the login, which is forgotten. True when it refused the answer to its question: the login before was
    /// right then, and the next attempt brings the question again.
    pub(super) fn refused(&mut self) -> bool {
        let Self {
            login, answered, ..
        } = std::mem::take(self);
        self.login = login.filter(|_| answered);
        self.again = answered;
        answered
    }
}

impl Client {
    /// Takes the user's answer, and connects when it was the last one.
    ///
    /// # Errors
    /// The argument that is wrong, and why: there is no question, or a name is missing.
    pub(in crate::vpn) fn answer(
        &mut self,
        user: Option<&str>,
        text: &str,
        now: Instant,
    ) -> Result<(), (&'static str, &'static str)> {
        let asking = self.phase == Phase::Asking && self.stopped.is_none();
        let spec = self.spec.as_ref().filter(|_| asking);
        let spec = spec.ok_or(("interface", "asks nothing now"))?;
        if !self.login.answer(Needs::of(spec), user, text) {
            return Err(("user", "is missing"));
        }
        self.begin(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Credentials {
        Credentials {
            username: "anna".into(),
            password: Zeroizing::new(b"secret".to_vec()),
        }
    }

    fn password(questions: &Questions) -> String {
        let credentials = questions.credentials(Some(&own())).unwrap();
        String::from_utf8(credentials.password.to_vec()).unwrap()
    }

    fn asked(questions: &Questions, needs: Needs<'_>) -> (String, bool, bool) {
        let found = questions.question(needs).unwrap();
        (found.text, found.echo, found.user)
    }

    fn challenge() -> Challenge {
        Challenge {
            echo: false,
            response: true,
            state: "st".into(),
            username: "anna".into(),
            text: "Code".into(),
        }
    }

    #[test]
    fn an_answer_to_the_configurations_question_is_good_for_one_attempt() {
        let fixed = Question {
            text: "PIN".into(),
            echo: true,
        };
        let fixed = Needs {
            fixed: Some(&fixed),
            ..Needs::default()
        };
        let mut questions = Questions::default();
        assert!(!questions.has_to_ask(Needs::default()) && questions.has_to_ask(fixed));
        assert_eq!(asked(&questions, fixed), ("PIN".into(), true, false));
        assert!(questions.answer(fixed, None, "4711"));
        assert!(!questions.has_to_ask(fixed));
        assert_eq!(password(&questions), "SCRV1:c2VjcmV0:NDcxMQ==");
        questions.sent();
        assert!(questions.has_to_ask(fixed));
        // A token needs no answer, until the server does not take it any more.
        questions.take_token(Credentials {
            username: "anna".into(),
            password: Zeroizing::new(b"token".to_vec()),
        });
        assert!(!questions.has_to_ask(fixed) && questions.has_token());
        assert_eq!(password(&questions), "token");
        questions.forget_token();
        assert!(questions.has_to_ask(fixed) && !questions.has_token());
        assert_eq!(password(&questions), "secret");
    }

    #[test]
    fn the_servers_question_comes_before_all_else() {
        let mut questions = Questions::default();
        questions.take_token(own());
        questions.ask(challenge());
        assert!(questions.has_to_ask(Needs::default()) && !questions.has_token());
        let found = asked(&questions, Needs::default());
        assert_eq!(found, ("Code".into(), false, false));
        questions.answer(Needs::default(), None, "1");
        assert_eq!(password(&questions), "CRV1::st::1");
        questions.sent();
        assert!(questions.refused(), "it has to be asked anew");
        assert!(questions.ask(challenge()) && !questions.ask(challenge()));
        assert!(!questions.refused() && !questions.has_token());
    }

    #[test]
    fn a_login_that_is_asked_for_holds_until_it_is_refused() {
        let fixed = Question {
            text: "PIN".into(),
            echo: false,
        };
        let needs = Needs {
            asks: Some(&Asked::Login),
            fixed: Some(&fixed),
        };
        let mut questions = Questions::default();
        let both = ("User name and password".to_owned(), false, true);
        assert_eq!(asked(&questions, needs), both);
        assert!(!questions.answer(needs, None, "secret"), "without a user");
        assert!(questions.answer(needs, Some("anna"), "secret"));
        assert_eq!(asked(&questions, needs), ("PIN".into(), false, false));
        assert!(questions.has_to_ask(needs));
        assert!(questions.answer(needs, None, "4711"));
        assert!(!questions.has_to_ask(needs));
        let login = questions.credentials(None).unwrap();
        assert_eq!(login.username, "anna");
        assert_eq!(login.password.as_slice(), b"SCRV1:c2VjcmV0:NDcxMQ==");
        // The next attempt needs the answer alone.
        questions.sent();
        assert_eq!(asked(&questions, needs).0, "PIN");
        assert!(!questions.refused());
        assert_eq!(asked(&questions, needs), both);
        // The server's question is about a login that is known.
        let user = Asked::Password("bob".into());
        let needs = Needs {
            asks: Some(&user),
            ..Needs::default()
        };
        assert_eq!(
            asked(&questions, needs),
            ("Password of bob".into(), false, false)
        );
        questions.ask(challenge());
        assert_eq!(asked(&questions, needs).0, "Code");
        questions.answer(needs, None, "1");
        let login = questions.credentials(None).unwrap();
        assert_eq!(login.password.as_slice(), b"CRV1::st::1");
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
//! Questions to a client's user, and the passwords that come of the answers and of the server's token.

use openvpn_control::client::Challenge;
use openvpn_control::exchange::Credentials;
use zeroize::Zeroizing;

use crate::config::vpn::Question;

/// The state of a client's login.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The server's question of the last attempt.
    asked: Option<Challenge>,
    /// The answer to the configuration's or the server's question. It holds until it was sent.
    answer: Option<Zeroizing<String>>,
    /// The server's token, which needs no answer.
    token: Option<Credentials>,
}

impl Questions {
    /// Whether an answer is missing. `fixed` is the question of the configuration.
    pub(super) fn has_to_ask(&self, fixed: Option<&Question>) -> bool {
        let asked = self.asked.is_some() || (fixed.is_some() && self.token.is_none());
        asked && self.answer.is_none()
    }

    /// The question, and whether its answer may be shown.
    pub(super) fn question<'a>(&'a self, fixed: Option<&'a Question>) -> Option<(&'a str, bool)> {
        let fixed = fixed.map(|fixed| (fixed.text.as_str(), fixed.echo));
        let asked = self.asked.as_ref();
        asked
            .map(|asked| (asked.text.as_str(), asked.echo))
            .or(fixed)
    }

    pub(super) fn ask(&mut self, challenge: Challenge) {
        self.asked = Some(challenge);
        self.answer = None;
    }

    pub(super) fn answer(&mut self, text: &str) {
        self.answer = Some(Zeroizing::new(text.to_owned()));
    }

    /// User name and password of the next attempt.
    pub(super) fn credentials(&self, own: Option<&Credentials>) -> Option<Credentials> {
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
        self.asked = None;
        self.answer = None;
    }

    pub(super) fn take_token(&mut self, token: Credentials) {
        self.token = Some(token);
    }

    pub(super) fn forget_token(&mut self) {
        self.token = None;
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

    #[test]
    fn an_answer_to_the_configurations_question_is_good_for_one_attempt() {
        let fixed = Question {
            text: "PIN".into(),
            echo: true,
        };
        let mut questions = Questions::default();
        assert!(!questions.has_to_ask(None) && questions.has_to_ask(Some(&fixed)));
        assert_eq!(questions.question(Some(&fixed)), Some(("PIN", true)));
        questions.answer("4711");
        assert!(!questions.has_to_ask(Some(&fixed)));
        assert_eq!(password(&questions), "SCRV1:c2VjcmV0:NDcxMQ==");
        questions.sent();
        assert!(questions.has_to_ask(Some(&fixed)));
        // A token needs no answer, until the server does not take it any more.
        questions.take_token(Credentials {
            username: "anna".into(),
            password: Zeroizing::new(b"token".to_vec()),
        });
        assert!(!questions.has_to_ask(Some(&fixed)) && questions.has_token());
        assert_eq!(password(&questions), "token");
        questions.forget_token();
        assert!(questions.has_to_ask(Some(&fixed)) && !questions.has_token());
        assert_eq!(password(&questions), "secret");
    }

    #[test]
    fn the_servers_question_comes_before_all_else() {
        let mut questions = Questions::default();
        questions.take_token(own());
        questions.ask(Challenge {
            echo: false,
            response: true,
            state: "st".into(),
            username: "anna".into(),
            text: "Code".into(),
        });
        assert!(questions.has_to_ask(None) && !questions.has_token());
        assert_eq!(questions.question(None), Some(("Code", false)));
        questions.answer("1");
        assert_eq!(password(&questions), "CRV1::st::1");
    }
}

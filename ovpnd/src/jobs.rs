// SPDX-License-Identifier: GPL-2.0-or-later
//! Calls that take longer than the poll loop may wait: a key on P-256 is tens of milliseconds on a slow router. Each has a
//! thread, which ends with its answer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::answers::Answers;
use crate::ubus::{Caller, Reply};

/// Certificates are made and parsed on it.
const STACK: usize = 512 * 1024;
/// Calls that may be at work at a time.
const MAX: usize = 4;

/// The end of a call.
#[derive(Debug)]
pub struct Done {
    /// Where the answer goes.
    pub to: Caller,
    /// The answer.
    pub reply: Reply,
    /// Files changed that the configuration names.
    pub changed: bool,
}

/// Calls at work; poll it for readability.
#[derive(Debug)]
pub struct Jobs {
    answers: Answers<Done>,
    running: usize,
}

impl Jobs {
    /// None at work.
    ///
    /// # Errors
    /// When no more descriptors can be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            answers: Answers::new()?,
            running: 0,
        })
    }

    /// Starts `work`, which gives the answer and whether files changed; it comes by [`Self::done`].
    ///
    /// # Errors
    /// A sentence: there is no thread for it, or too many are at work.
    pub fn start(
        &mut self,
        to: Caller,
        work: impl FnOnce() -> (Reply, bool) + Send + 'static,
    ) -> Result<(), String> {
        if self.running >= MAX {
            return Err(format!("{MAX} such calls are at work: try again"));
        }
        let work = move || {
            let (reply, changed) = work();
            Done { to, reply, changed }
        };
        self.answers
            .start("job", STACK, work)
            .map_err(|error| format!("no thread for it: {error}"))?;
        self.running += 1;
        Ok(())
    }

    /// The next call that has ended, if there is one.
    pub fn done(&mut self) -> Option<Done> {
        let done = self.answers.next()?;
        self.running = self.running.saturating_sub(1);
        Some(done)
    }
}

impl AsFd for Jobs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers.as_fd()
    }
}

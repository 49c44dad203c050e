// SPDX-License-Identifier: GPL-2.0-or-later
//! Work on threads of its own, whose results come back into the poll loop.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Results that wait to be taken; poll it for readability.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    /// Written to with each result.
    bell: Arc<UnixStream>,
    ear: UnixStream,
}

impl<T: Send + 'static> Answers<T> {
    /// No work, and no results.
    ///
    /// # Errors
    /// When no more descriptors can be had.
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Self {
            sender,
            receiver,
            bell: Arc::new(bell),
            ear,
        })
    }

    /// Does `work` on a thread with a stack of this many bytes, which ends with its result.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        &self,
        thread: &str,
        stack: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<()> {
        let (sender, bell) = (self.sender.clone(), Arc::clone(&self.bell));
        let thread = thread::Builder::new().name(thread.into()).stack_size(stack);
        thread.spawn(move || put(&sender, &bell, work()))?;
        Ok(())
    }

    /// Adds a result that took no thread.
    pub(crate) fn add(&self, result: T) {
        put(&self.sender, &self.bell, result);
    }

    /// The next result, if there is one.
    pub(crate) fn next(&mut self) -> Option<T> {
        let mut bytes = [0; 64];
        while matches!(self.ear.read(&mut bytes), Ok(1..)) {}
        self.receiver.try_recv().ok()
    }
}

fn put<T>(sender: &Sender<T>, mut bell: &UnixStream, result: T) {
    // The daemon may be gone by now, and then the result is not needed.
    let _ = sender.send(result);
    let _ = bell.write(&[0]);
}

impl<T> AsFd for Answers<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Output for the user: one line for each message, and the progress of long steps.
//!
//! On a terminal the steps at work share one line that is redrawn; elsewhere each prints a line every 15 seconds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(500);
const REPORT: Duration = Duration::from_secs(15);

thread_local! {
    static LABEL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A long-running thing, shown until dropped.
pub struct Progress {
    id: u64,
}

struct Task {
    label: String,
    started: Instant,
    reported: Instant,
    detail: String,
}

struct Screen {
    terminal: bool,
    drawn: bool,
    next: u64,
    tasks: BTreeMap<u64, Task>,
}

fn screen() -> MutexGuard<'static, Screen> {
    static SCREEN: OnceLock<Mutex<Screen>> = OnceLock::new();
    let screen = SCREEN.get_or_init(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(REDRAW);
                screen().tick();
            }
        });
        let terminal = std::io::stdout().is_terminal();
        Mutex::new(Screen {
            terminal,
            drawn: false,
            next: 0,
            tasks: BTreeMap::new(),
        })
    });
    // The screen's state is only text: a panic elsewhere does not make it wrong.
    screen
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Screen {
    fn clear(&mut self, out: &mut impl Write) {
        if self.drawn {
            let _ = write!(out, "\r\x1b[K");
            self.drawn = false;
        }
    }

    fn line(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        self.clear(&mut out);
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    fn tick(&mut self) {
        if self.terminal {
            let shown: Vec<_> = self.tasks.values().map(Task::show).collect();
            if shown.is_empty() {
                return;
            }
            let width = std::env::var("COLUMNS")
                .ok()
                .and_then(|c| c.parse().ok())
                .unwrap_or(100);
            let text: String = shown.join(" | ").chars().take(width).collect();
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\r\x1b[K{text}");
            let _ = out.flush();
            self.drawn = true;
            return;
        }
        let mut due = Vec::new();
        for task in self
            .tasks
            .values_mut()
            .filter(|t| t.reported.elapsed() >= REPORT)
        {
            task.reported = Instant::now();
            due.push(task.show());
        }
        for text in due {
            self.line(&text);
        }
    }
}

impl Task {
    fn show(&self) -> String {
        format!(
            "{}{} {}",
            prefix(&self.label),
            clock(self.started.elapsed()),
            self.detail
        )
    }
}

/// Names the step this thread works for; its lines start with it. Empty for none.
pub fn set_label(label: &str) {
    LABEL.with_borrow_mut(|l| label.clone_into(l));
}

/// The name given by [`set_label`].
pub fn label() -> String {
    LABEL.with_borrow(Clone::clone)
}

fn prefix(label: &str) -> String {
    if label.is_empty() {
        String::new()
    } else {
        format!("[{label}] ")
    }
}

/// Prints a line under the thread's label.
pub fn say(text: impl AsRef<str>) {
    say_as(&label(), text.as_ref());
}

/// Prints each line of `text` under another thread's label.
pub fn say_as(label: &str, text: &str) {
    let prefix = prefix(label);
    let mut screen = screen();
    for line in text.lines() {
        screen.line(&format!("{prefix}{line}"));
    }
}

/// Minutes and seconds.
pub fn clock(elapsed: Duration) -> String {
    let s = elapsed.as_secs();
    format!("{}:{:02}", s / 60, s % 60)
}

impl Progress {
    /// Starts showing a step under the thread's label.
    pub fn new(detail: &str) -> Self {
        let mut screen = screen();
        let id = screen.next;
        screen.next += 1;
        let now = Instant::now();
        let task = Task {
            label: label(),
            started: now,
            reported: now,
            detail: detail.to_owned(),
        };
        screen.tasks.insert(id, task);
        Self { id }
    }

    /// Replaces what is shown beside the elapsed time.
    pub fn detail(&self, text: &str) {
        if let Some(task) = screen().tasks.get_mut(&self.id) {
            text.trim().clone_into(&mut task.detail);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        screen().tasks.remove(&self.id);
    }
}

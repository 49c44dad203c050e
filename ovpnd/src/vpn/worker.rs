// SPDX-License-Identifier: GPL-2.0-or-later
//! The thread that speaks OpenVPN's control channel for all tunnels. A handshake takes half a second on a slow router,
//! and the poll loop must answer ubus meanwhile.
//!
//! The poll loop reads the sockets and hands packets over by a queue that has room for so many: others are lost, and
//! sent again by the peer. Orders are never lost; each tunnel gives few. Packets for the peer are sent from here.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use openvpn_control::client::{Client, ClientConfig, End, Event};
use openvpn_control::env::Env;
use openvpn_control::keystate::Failure;
use openvpn_control::server::{self, Path};
use openvpn_control::tls::ring::Factory;

use super::logins::Login;
use super::outlet::Outlet;
use super::serving::{Decision, Serve, Serving};
use super::stream::Writer;
use crate::config::vpn::unix_time;

/// Packets that may wait: a handshake has about ten.
const MAX_PACKETS: usize = 256;
/// Events that the poll loop takes in before it looks at everything else again, ubus among it: each may cost it several requests
/// to the kernel, and while many clients come at once others follow as fast.
const TURN: usize = 8;
/// A handshake's certificates are parsed on it.
const STACK: usize = 512 * 1024;
/// How long the last packets of sessions that are over are sent again.
const GOODBYE: Duration = Duration::from_secs(5);

/// Names one attempt to connect and the session that comes of it. No two have the same.
pub(super) type Attempt = u64;

/// A session to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) attempt: Attempt,
    pub(super) config: ClientConfig<Factory>,
    pub(super) outlet: Outlet,
}

/// Something that happened, for the poll loop.
#[derive(Debug)]
pub(super) enum Said {
    Client(Event),
    /// With the outcome of the client's login, when it is one.
    Server(server::Event, Login),
}

/// An order of the poll loop.
#[derive(Debug)]
enum Order {
    Start(Box<Start>),
    Serve(Box<Serve>),
    /// A packet for a server, which has many paths, or a client.
    Packet(Attempt, Option<Path>, Vec<u8>),
    /// A connection came to a server.
    Called(Attempt, u32, Arc<Writer>),
    /// A connection of a server is gone, for this reason.
    HungUp(Attempt, Path, String),
    Decide(Attempt, Decision),
    Renegotiate(Attempt),
    /// A client's connection is of no more use, for this reason; packets before it count.
    Broken(Attempt, String),
    End(Attempt),
    Stop,
}

#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<Order>,
    packets: usize,
    lost: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, order: Order) {
        let mut queue = self.lock();
        if let Order::Packet(..) = order {
            if queue.packets >= MAX_PACKETS {
                queue.lost += 1;
                return;
            }
            queue.packets += 1;
        }
        queue.orders.push_back(order);
        self.filled.notify_one();
    }

    /// The next order; none when `until` came first.
    fn pop(&self, until: Option<Instant>) -> Option<Order> {
        let mut queue = self.lock();
        loop {
            if let Some(order) = queue.orders.pop_front() {
                if let Order::Packet(..) = order {
                    queue.packets = queue.packets.saturating_sub(1);
                }
                return Some(order);
            }
            queue = match until {
                None => self
                    .filled
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.filled.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The thread, as the poll loop sees it.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    events: Receiver<(Attempt, Said)>,
    /// Readable when there are events.
    ear: UnixStream,
    /// The other end of that.
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// No more threads or descriptors can be had.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, events) = channel();
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let orders = Arc::clone(&shared);
        let own = bell.try_clone()?;
        let thread = thread::Builder::new()
            .name("control".into())
            .stack_size(STACK)
            .spawn(move || Sessions::new(sender, bell).run(&orders))?;
        Ok(Self {
            shared,
            events,
            ear,
            bell: own,
            thread: Some(thread),
        })
    }

    pub(super) fn connect(&self, start: Start) {
        self.shared.push(Order::Start(Box::new(start)));
    }

    pub(super) fn serve(&self, serve: Serve) {
        self.shared.push(Order::Serve(Box::new(serve)));
    }

    pub(super) fn packet(&self, attempt: Attempt, path: impl Into<Option<Path>>, packet: &[u8]) {
        self.shared
            .push(Order::Packet(attempt, path.into(), packet.to_vec()));
    }

    /// A connection came to a server.
    pub(super) fn called(&self, attempt: Attempt, number: u32, writer: Arc<Writer>) {
        self.shared.push(Order::Called(attempt, number, writer));
    }

    /// A connection of a server is gone, for this reason; packets before it count.
    pub(super) fn hung_up(&self, attempt: Attempt, path: Path, why: String) {
        self.shared.push(Order::HungUp(attempt, path, why));
    }

    /// Tells a server a decision about one of its sessions.
    pub(super) fn decide(&self, attempt: Attempt, decision: Decision) {
        self.shared.push(Order::Decide(attempt, decision));
    }

    pub(super) fn renegotiate(&self, attempt: Attempt) {
        self.shared.push(Order::Renegotiate(attempt));
    }

    /// A client's connection is of no more use, for this reason.
    pub(super) fn broken(&self, attempt: Attempt, why: String) {
        self.shared.push(Order::Broken(attempt, why));
    }

    /// Ends a session, or a server with all of its sessions; the other side is told.
    pub(super) fn end(&self, attempt: Attempt) {
        self.shared.push(Order::End(attempt));
    }

    /// Packets that found the queue full.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// The events for one turn of the poll loop, [`TURN`] at most. While there may be more, the descriptor stays readable.
    pub(super) fn events(&mut self) -> Vec<(Attempt, Said)> {
        let mut bytes = [0; 64];
        // Before the events: the bell of one that comes from now on is heard by the next poll.
        while matches!(self.ear.read(&mut bytes), Ok(1..)) {}
        let events: Vec<_> = self.events.try_iter().take(TURN).collect();
        if events.len() == TURN {
            // Without room it is readable already.
            let _ = (&self.bell).write(&[0]);
        }
        events
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.push(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

struct Session {
    client: Client<Factory>,
    outlet: Outlet,
    /// When it goes, whatever is still to be sent.
    gone_at: Option<Instant>,
}

struct Sessions {
    sessions: BTreeMap<Attempt, Session>,
    servers: BTreeMap<Attempt, Serving>,
    events: Sender<(Attempt, Said)>,
    bell: UnixStream,
}

/// Fills `out` with the system's random bytes.
fn random(out: &mut [u8]) {
    if getrandom::getrandom(out).is_err() {
        // Keys that somebody could guess are worse than no daemon; procd starts another one.
        std::process::abort();
    }
}

impl Sessions {
    fn new(events: Sender<(Attempt, Said)>, bell: UnixStream) -> Self {
        Self {
            sessions: BTreeMap::new(),
            servers: BTreeMap::new(),
            events,
            bell,
        }
    }

    fn run(mut self, orders: &Shared) {
        loop {
            let order = orders.pop(self.deadline());
            let now = Instant::now();
            let mut fill = random;
            let mut env = Env {
                now,
                unix: unix_time(),
                random: &mut fill,
            };
            let stop = matches!(order, Some(Order::Stop));
            if let Some(order) = order {
                self.obey(order, &mut env);
            }
            let due: Vec<Attempt> = self
                .sessions
                .iter()
                .filter(|(_, session)| session.due(now))
                .map(|(attempt, _)| *attempt)
                .collect();
            for attempt in due {
                if let Some(session) = self.sessions.get_mut(&attempt) {
                    session.client.advance(&mut env);
                }
                self.work(attempt, &mut env);
            }
            let due = |serving: &Serving| serving.deadline().is_some_and(|at| at <= now);
            let due = self.servers.iter().filter(|(_, serving)| due(serving));
            for attempt in due.map(|(attempt, _)| *attempt).collect::<Vec<_>>() {
                self.work_server(attempt, &mut env);
            }
            if stop {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order, env: &mut Env<'_>) {
        let attempt = match order {
            Order::Start(start) => {
                let Start {
                    attempt,
                    config,
                    outlet,
                } = *start;
                match Client::connect(config, env) {
                    Ok(client) => {
                        let session = Session {
                            client,
                            outlet,
                            gone_at: None,
                        };
                        self.sessions.insert(attempt, session);
                    }
                    Err(why) => self.tell(attempt, Said::Client(Event::Failed(why, End::Retry))),
                }
                attempt
            }
            Order::Serve(serve) => {
                let attempt = serve.attempt;
                self.servers.insert(attempt, Serving::new(*serve, env));
                attempt
            }
            Order::Decide(attempt, decision) => {
                if let Some(serving) = self.servers.get_mut(&attempt) {
                    serving.decide(decision, env);
                }
                attempt
            }
            Order::Called(attempt, number, writer) => {
                if let Some(serving) = self.servers.get_mut(&attempt) {
                    serving.called(number, writer);
                }
                attempt
            }
            Order::HungUp(attempt, path, why) => {
                if let Some(serving) = self.servers.get_mut(&attempt) {
                    serving.hung_up(path, &why, env);
                }
                attempt
            }
            Order::Packet(attempt, path, packet) => {
                if let Some((serving, path)) = self.servers.get_mut(&attempt).zip(path) {
                    serving.receive(path, &packet, env);
                }
                if let Some(session) = self.sessions.get_mut(&attempt) {
                    // Packets that are refused are lost, without an answer and without a word.
                    let _ = session.client.receive(&packet, env);
                }
                attempt
            }
            Order::Renegotiate(attempt) => {
                if let Some(session) = self.sessions.get_mut(&attempt) {
                    session.client.renegotiate(env);
                }
                attempt
            }
            Order::Broken(attempt, why) => {
                if let Some(session) = self.sessions.get_mut(&attempt) {
                    session.client.lost(Failure::new(why, ""));
                }
                attempt
            }
            Order::End(attempt) => {
                if let Some(mut serving) = self.servers.remove(&attempt) {
                    serving.say_goodbye(env);
                    // Its port may be wanted again at once: there is no second goodbye.
                    serving.work(env);
                }
                if let Some(session) = self.sessions.get_mut(&attempt) {
                    session.client.exit(env);
                    session.gone_at = env.now.checked_add(GOODBYE);
                }
                attempt
            }
            Order::Stop => {
                let all: Vec<Attempt> = self
                    .sessions
                    .keys()
                    .chain(self.servers.keys())
                    .copied()
                    .collect();
                for attempt in all {
                    self.obey(Order::End(attempt), env);
                }
                return;
            }
        };
        self.work(attempt, env);
        self.work_server(attempt, env);
    }

    fn work_server(&mut self, attempt: Attempt, env: &mut Env<'_>) {
        let events = self.servers.get_mut(&attempt);
        for (event, login) in events.map(|serving| serving.work(env)).unwrap_or_default() {
            self.tell(attempt, Said::Server(event, login));
        }
    }

    /// Sends the packets of a client that there are, and tells what happened.
    fn work(&mut self, attempt: Attempt, env: &mut Env<'_>) {
        let Some(session) = self.sessions.get_mut(&attempt) else {
            return;
        };
        let mut events = Vec::new();
        while let Some(packet) = session.client.transmit(env) {
            session.outlet.send(&packet);
        }
        while let Some(event) = session.client.event() {
            if matches!(event, Event::Failed(..)) && session.gone_at.is_none() {
                session.gone_at = env.now.checked_add(GOODBYE);
            }
            events.push(event);
        }
        let over = session.gone_at.is_some_and(|at| at <= env.now);
        if over || (session.gone_at.is_some() && session.client.is_drained()) {
            self.sessions.remove(&attempt);
        }
        for event in events {
            self.tell(attempt, Said::Client(event));
        }
    }

    fn tell(&self, attempt: Attempt, event: Said) {
        // The daemon may be gone by now; the answer is lost then.
        let _ = self.events.send((attempt, event));
        let _ = (&self.bell).write(&[0]);
    }

    fn deadline(&self) -> Option<Instant> {
        let servers = self.servers.values().filter_map(Serving::deadline);
        let sessions = self.sessions.values().filter_map(Session::deadline);
        sessions.chain(servers).min()
    }
}

impl Session {
    fn deadline(&self) -> Option<Instant> {
        [self.client.deadline(), self.gone_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }
}

/// A failure as one sentence, with its remedy.
pub(super) fn sentence(why: &Failure) -> String {
    match &why.remedy {
        Some(remedy) => format!("{} ({remedy})", why.reason),
        None => why.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    /// A worker without a thread, whose events are sent by hand.
    fn worker() -> (Worker, Sender<(Attempt, Said)>, UnixStream) {
        let (sender, events) = channel();
        let (bell, ear) = UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        ear.set_nonblocking(true).unwrap();
        let worker = Worker {
            shared: Arc::default(),
            events,
            ear,
            bell: bell.try_clone().unwrap(),
            thread: None,
        };
        (worker, sender, bell)
    }

    fn is_readable(worker: &Worker) -> bool {
        let mut fds = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn a_turn_takes_a_few_events_and_the_rest_wakes_the_next_one() {
        let (mut worker, sender, bell) = worker();
        for attempt in 0..100 {
            let why = Failure::new("", "");
            let said = Said::Client(Event::Failed(why, End::Retry));
            sender.send((attempt, said)).unwrap();
            let _ = (&bell).write(&[0]);
        }
        let mut seen = Vec::new();
        while is_readable(&worker) {
            let events = worker.events();
            assert!(events.len() <= 8, "{} events in one turn", events.len());
            seen.extend(events.into_iter().map(|(attempt, _)| attempt));
        }
        assert!(seen.into_iter().eq(0..100));
    }

    #[test]
    fn without_events_the_worker_is_silent() {
        let (mut worker, _sender, bell) = worker();
        (&bell).write_all(&[0; 3]).unwrap();
        assert!(is_readable(&worker) && worker.events().is_empty() && !is_readable(&worker));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery in order over a network that loses packets: what OpenVPN calls its reliability layer.
//!
//! Each direction of each negotiation numbers its messages from 0. Acks name single messages. At most 4 messages are
//! outstanding, the smallest window of the peers in the field (OpenVPN 2.4 to 2.7 and OpenVPN 3).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::packet::{CONTROL_ACKS, MAX_ACKS, MessageId, Opcode};

/// Messages that may be sent and not acked.
pub const SEND_WINDOW: usize = 4;
/// Messages from the next expected one that are kept until those before them come.
pub const RECEIVE_WINDOW: u32 = 12;
/// Wait before the first repetition; it doubles.
pub const FIRST_REPEAT: Duration = Duration::from_secs(2);
/// Longest wait before a repetition.
pub const LONGEST_REPEAT: Duration = Duration::from_secs(60);
/// So many acks of later messages make a message be repeated at once.
const EARLY_REPEAT: u8 = 3;

/// A message that is to be sent now, perhaps again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number.
    pub id: MessageId,
    /// Its opcode.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    message: Outgoing,
    due: Instant,
    wait: Duration,
    later_acks: u8,
}

/// Messages on their way to the peer.
#[derive(Debug, Default)]
pub struct Sender {
    next: u32,
    waiting: VecDeque<Waiting>,
}

impl Sender {
    /// A sender whose first messages, up to `next`, the peer has.
    pub fn starting_at(next: MessageId) -> Self {
        Self {
            next: next.0,
            waiting: VecDeque::new(),
        }
    }

    /// Whether another message may be queued.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < SEND_WINDOW && self.next < u32::MAX
    }

    /// Whether the peer has all messages.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the next message.
    pub fn next(&self) -> MessageId {
        MessageId(self.next)
    }

    /// Queues a message, which is due at once; false when the window is full.
    #[must_use]
    pub fn queue(&mut self, opcode: Opcode, payload: Vec<u8>, now: Instant) -> bool {
        if !self.has_room() {
            return false;
        }
        let id = MessageId(self.next);
        self.next = self.next.saturating_add(1);
        self.waiting.push_back(Waiting {
            message: Outgoing {
                id,
                opcode,
                payload,
            },
            due: now,
            wait: FIRST_REPEAT,
            later_acks: 0,
        });
        true
    }

    /// Takes the peer's acks. An ack of a message that is not outstanding changes nothing.
    pub fn acked(&mut self, acks: &[MessageId], now: Instant) {
        for ack in acks {
            let Some(at) = self.waiting.iter().position(|w| w.message.id == *ack) else {
                continue;
            };
            self.waiting.remove(at);
            for earlier in self.waiting.iter_mut().take(at) {
                earlier.later_acks = earlier.later_acks.saturating_add(1);
                if earlier.later_acks == EARLY_REPEAT {
                    earlier.due = earlier.due.min(now);
                }
            }
        }
    }

    /// The next message whose time has come; its next repetition is scheduled.
    pub fn due(&mut self, now: Instant) -> Option<Outgoing> {
        let waiting = self.waiting.iter_mut().find(|w| w.due <= now)?;
        waiting.due = now.checked_add(waiting.wait)?;
        waiting.wait = waiting.wait.saturating_mul(2).min(LONGEST_REPEAT);
        Some(waiting.message.clone())
    }

    /// When the next message is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|w| w.due).min()
    }
}

/// The fate of a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was kept, and is acked.
    New,
    /// It came before, and is acked again.
    Repeated,
    /// It is beyond the window: dropped, not acked.
    Beyond,
}

/// Messages of the peer.
#[derive(Debug, Default)]
pub struct Receiver {
    next: u32,
    early: BTreeMap<u32, (Opcode, Vec<u8>)>,
    owed: VecDeque<MessageId>,
    /// Acks that were sent, the newest first.
    recent: VecDeque<MessageId>,
}

impl Receiver {
    /// A receiver that has the messages up to `next`; they are acked again with whatever is sent.
    pub fn starting_at(next: MessageId) -> Self {
        Self {
            next: next.0,
            recent: (0..next.0).rev().take(MAX_ACKS).map(MessageId).collect(),
            ..Self::default()
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, id: MessageId, opcode: Opcode, payload: &[u8]) -> Arrival {
        let arrival = match id.0.checked_sub(self.next) {
            None => Arrival::Repeated,
            Some(ahead) if ahead >= RECEIVE_WINDOW => return Arrival::Beyond,
            Some(_) if self.early.contains_key(&id.0) => Arrival::Repeated,
            Some(_) => {
                self.early.insert(id.0, (opcode, payload.to_vec()));
                Arrival::New
            }
        };
        if !self.owed.contains(&id) {
            // As many as a window holds: the peer repeats a message whose ack is dropped here.
            if self.owed.len() >= RECEIVE_WINDOW as usize {
                self.owed.pop_front();
            }
            self.owed.push_back(id);
        }
        arrival
    }

    /// The next message in order.
    pub fn deliver(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let message = self.early.remove(&self.next)?;
        self.next = self.next.checked_add(1)?;
        Some(message)
    }

    /// Whether acks wait to be sent.
    pub fn owes_acks(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Acks for a packet that carries a message. They are filled up with the most recent ones, because the packet that
    /// had those may be lost, and a server without state knows a client only by a packet with acks.
    pub fn acks_for_message(&mut self) -> Vec<MessageId> {
        self.acks(CONTROL_ACKS)
    }

    /// Acks for a packet that carries nothing else; empty when none are owed.
    pub fn acks_alone(&mut self) -> Vec<MessageId> {
        match self.owes_acks() {
            true => self.acks(MAX_ACKS),
            false => Vec::new(),
        }
    }

    fn acks(&mut self, most: usize) -> Vec<MessageId> {
        let mut acks: Vec<_> = self.owed.drain(..most.min(self.owed.len())).collect();
        self.recent.retain(|id| !acks.contains(id));
        for id in &acks {
            self.recent.push_front(*id);
        }
        self.recent.truncate(MAX_ACKS);
        let missing = most.saturating_sub(acks.len());
        let older: Vec<_> = self
            .recent
            .iter()
            .skip(acks.len())
            .take(missing)
            .copied()
            .collect();
        acks.extend(older);
        acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const C: Opcode = Opcode::ControlV1;

    fn ids(of: &[u32]) -> Vec<MessageId> {
        of.iter().copied().map(MessageId).collect()
    }

    fn sent(sender: &mut Sender, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| sender.due(now))
            .map(|m| m.id.0)
            .collect()
    }

    #[test]
    fn four_messages_may_be_outstanding() {
        let now = Instant::now();
        let mut sender = Sender::default();
        for _ in 0..4 {
            assert!(sender.queue(C, vec![1], now));
        }
        assert!(!sender.has_room() && !sender.queue(C, vec![1], now));
        assert_eq!(sent(&mut sender, now), [0, 1, 2, 3]);
        assert_eq!(sent(&mut sender, now), []);
        sender.acked(&ids(&[2, 9, 2]), now);
        assert!(sender.queue(C, vec![1], now) && !sender.has_room());
        assert_eq!(sent(&mut sender, now), [4]);
        sender.acked(&ids(&[0, 1, 3, 4]), now);
        assert!(sender.is_empty() && sender.deadline().is_none());
    }

    #[test]
    fn repetitions_come_after_2_seconds_and_then_ever_later() {
        let mut now = Instant::now();
        let mut sender = Sender::default();
        assert!(sender.queue(C, vec![1], now));
        assert_eq!(sent(&mut sender, now), [0]);
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(wait);
            assert_eq!(sender.deadline(), Some(now + wait));
            assert_eq!(sent(&mut sender, now + wait - Duration::from_millis(1)), []);
            now += wait;
            assert_eq!(sent(&mut sender, now), [0]);
        }
    }

    #[test]
    fn three_later_acks_repeat_a_message_at_once_and_only_once() {
        let now = Instant::now();
        let mut sender = Sender::default();
        for _ in 0..4 {
            assert!(sender.queue(C, vec![1], now));
        }
        assert_eq!(sent(&mut sender, now).len(), 4);
        sender.acked(&ids(&[1, 2]), now);
        assert_eq!(sent(&mut sender, now), []);
        sender.acked(&ids(&[3]), now);
        assert_eq!(sent(&mut sender, now), [0]);
        assert!(sender.queue(C, vec![1], now));
        assert_eq!(sent(&mut sender, now), [4]);
        sender.acked(&ids(&[4]), now);
        assert_eq!(sent(&mut sender, now), []);
    }

    #[test]
    fn messages_are_delivered_in_order_and_once() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(MessageId(1), C, b"b"), Arrival::New);
        assert_eq!(receiver.deliver(), None);
        assert_eq!(receiver.receive(MessageId(1), C, b"x"), Arrival::Repeated);
        assert_eq!(receiver.receive(MessageId(0), C, b"a"), Arrival::New);
        assert_eq!(receiver.deliver(), Some((C, b"a".to_vec())));
        assert_eq!(receiver.deliver(), Some((C, b"b".to_vec())));
        assert_eq!(receiver.deliver(), None);
        assert_eq!(receiver.receive(MessageId(0), C, b"a"), Arrival::Repeated);
        assert_eq!(receiver.deliver(), None);
    }

    #[test]
    fn both_edges_of_the_receive_window() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(MessageId(12), C, b""), Arrival::Beyond);
        assert!(!receiver.owes_acks());
        assert_eq!(receiver.receive(MessageId(11), C, b""), Arrival::New);
        assert_eq!(
            receiver.receive(MessageId(u32::MAX), C, b""),
            Arrival::Beyond
        );
        assert_eq!(receiver.acks_alone(), ids(&[11]));
    }

    #[test]
    fn acks_are_filled_up_with_recent_ones() {
        let mut receiver = Receiver::default();
        for id in 0..3 {
            receiver.receive(MessageId(id), C, b"");
        }
        assert_eq!(receiver.acks_for_message(), ids(&[0, 1, 2]));
        assert_eq!(receiver.acks_for_message(), ids(&[2, 1, 0]));
        assert_eq!(receiver.acks_alone(), []);
        for id in 3..6 {
            receiver.receive(MessageId(id), C, b"");
        }
        assert_eq!(receiver.acks_for_message(), ids(&[3, 4, 5, 2]));
        receiver.receive(MessageId(0), C, b"");
        assert_eq!(receiver.acks_alone(), ids(&[0, 5, 4, 3, 2, 1]));
        for id in 0..12 {
            receiver.receive(MessageId(id), C, b"");
        }
        assert_eq!(receiver.acks_for_message(), ids(&[0, 1, 2, 3]));
        assert_eq!(receiver.acks_alone(), ids(&[4, 5, 6, 7, 8, 9, 10, 11]));
    }

    #[test]
    fn a_side_that_starts_later_acks_what_it_skipped() {
        let mut receiver = Receiver::starting_at(MessageId(1));
        assert_eq!(receiver.acks_for_message(), ids(&[0]));
        assert_eq!(receiver.receive(MessageId(0), C, b""), Arrival::Repeated);
        assert_eq!(receiver.receive(MessageId(2), C, b"2"), Arrival::New);
        assert_eq!(receiver.receive(MessageId(1), C, b"1"), Arrival::New);
        assert_eq!(receiver.deliver(), Some((C, b"1".to_vec())));
        assert_eq!(Sender::starting_at(MessageId(1)).next(), MessageId(1));
    }

    proptest! {
        #[test]
        fn a_receiver_holds_no_more_than_its_windows(arrivals in proptest::collection::vec((0u32..40, any::<bool>()), 0..300)) {
            let mut receiver = Receiver::default();
            let mut expected = 0;
            for (id, ack) in arrivals {
                receiver.receive(MessageId(id), C, &id.to_be_bytes());
                while let Some((_, payload)) = receiver.deliver() {
                    prop_assert_eq!(&payload[..], &u32::to_be_bytes(expected)[..]);
                    expected += 1;
                }
                prop_assert!(receiver.early.len() <= RECEIVE_WINDOW as usize);
                prop_assert!(receiver.owed.len() <= RECEIVE_WINDOW as usize);
                if ack {
                    prop_assert!(receiver.acks_alone().len() <= MAX_ACKS);
                    prop_assert!(receiver.acks_for_message().len() <= CONTROL_ACKS);
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! One data channel key: its cipher, packet ids and replay window.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::prelude::*;

use crate::compat::{new_spinlock, Arc, SpinLock};
use crate::engine::{Backend, Choice};
use crate::proto::attrs::ValidKey;
use crate::proto::cipher::CipherAlg;
use crate::proto::nonce::{Exhausted, IdRange, TxCounter};
use crate::proto::replay::ReplayWindow;
use crate::proto::wire::{KeyId, PacketId};
use crate::sys::crypto::{AsyncAead, Cipher, DriverName};
use crate::sys::driver::JobKey;
use crate::sys::params::first_packet_id;
use crate::sys::rcu::{Retire, Ticket};
use crate::sys::skb::Batch;
use crate::sys::stats::now;

/// Largest payload under one packet id; bounds what a key encrypts between two rekey marks.
const MAX_PAYLOAD: u32 = 65_535;

/// A key in a slot. Immutable but for its counters.
#[pin_data]
pub(crate) struct Key {
    id: KeyId,
    alg: CipherAlg,
    backend: Backend,
    sent: TxCounter,
    /// The packet id at which userspace is asked for the next key.
    mark: PacketId,
    /// Packet ids have run out; the next tick takes the key out of its slot.
    dead: AtomicBool,
    /// Taken by the receive path only, where bottom halves are off.
    #[pin]
    replay: SpinLock<ReplayWindow>,
    ticket: Ticket,
}

impl Retire for Key {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl Cipher for Key {
    /// Does nothing when the key has an engine.
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        if let Some(cipher) = self.backend.cipher() {
            cipher.seal(batch, op, first);
        }
    }

    /// Does nothing when the key has an engine.
    fn open(&self, batch: &mut Batch) {
        if let Some(cipher) = self.backend.cipher() {
            cipher.open(batch);
        }
    }
}

impl JobKey for Key {
    fn engine(&self) -> Option<&AsyncAead> {
        self.backend.engine()
    }
}

impl Key {
    /// A key, and whether it is carried as the administrator wishes. `ENOMEM`, or the errno of the
    /// crypto API. May sleep.
    pub(crate) fn new(config: &ValidKey<'_>) -> Result<(Arc<Key>, bool)> {
        let Choice { backend, as_wished } = Choice::make(config)?;
        let ticket = Ticket::new()?;
        let (id, alg) = (config.key_id, config.alg);
        let key = Arc::pin_init(
            pin_init!(Key {
                id,
                alg,
                backend,
                sent: TxCounter::starting_at(first_packet_id()),
                mark: alg.rekey_mark(MAX_PAYLOAD),
                dead: AtomicBool::new(false),
                replay <- new_spinlock!(ReplayWindow::new(now()), "ovpn_replay"),
                ticket,
            }),
            GFP_KERNEL,
        )?;
        Ok((key, as_wished))
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn alg(&self) -> CipherAlg {
        self.alg
    }

    /// Numbers for `count` packets, perhaps fewer at the end of the key's life.
    pub(crate) fn number(&self, count: u32) -> Result<IdRange, Exhausted> {
        self.sent.reserve(count)
    }

    /// Whether userspace should be asked for a new key now that `range` is used up. True once.
    pub(crate) fn wants_successor(&self, range: IdRange) -> bool {
        range.contains(self.mark)
    }

    /// Marks the key as used up; true for the first caller.
    pub(crate) fn kill(&self) -> bool {
        !self.dead.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Name of its implementation.
    pub(crate) fn driver(&self) -> DriverName {
        self.backend.driver()
    }

    /// The window against replayed packets, to be locked once for a batch.
    pub(crate) fn replay(&self) -> &SpinLock<ReplayWindow> {
        &self.replay
    }
}

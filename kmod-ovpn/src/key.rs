// SPDX-License-Identifier: GPL-2.0
//! One data channel key: its ciphers, packet ids and replay window.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::prelude::*;

use crate::compat::{new_spinlock, Arc, SpinLock};
use crate::proto::attrs::ValidKey;
use crate::proto::cipher::CipherAlg;
use crate::proto::nonce::{Exhausted, IdRange, TxCounter};
use crate::proto::replay::ReplayWindow;
use crate::proto::wire::{KeyId, PacketId};
use crate::sys::crypto::{Aead, ChaChaPoly, Cipher};
use crate::sys::rcu::{Retire, Ticket};
use crate::sys::skb::Batch;
use crate::sys::stats::now;

/// Largest payload under one packet id; bounds what a key encrypts between two rekey marks.
const MAX_PAYLOAD: u32 = 65_535;

/// The back end that carries a key.
enum Backend {
    Library(ChaChaPoly),
    Api(Aead),
}

impl Backend {
    fn cipher(&self) -> &dyn Cipher {
        match self {
            Backend::Library(cipher) => cipher,
            Backend::Api(cipher) => cipher,
        }
    }
}

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

impl Key {
    /// `ENOMEM`, or the errno of the crypto API. May sleep.
    pub(crate) fn new(config: &ValidKey<'_>) -> Result<Arc<Key>> {
        let seal = (config.encrypt.cipher_key, config.encrypt.nonce_tail);
        let open = (config.decrypt.cipher_key, config.decrypt.nonce_tail);
        let backend = match config.alg {
            CipherAlg::ChaCha20Poly1305 => Backend::Library(ChaChaPoly::new(seal, open)?),
            CipherAlg::AesGcm => Backend::Api(Aead::new(c"gcm(aes)", seal, open)?),
        };
        let ticket = Ticket::new()?;
        let (id, alg) = (config.key_id, config.alg);
        Arc::pin_init(
            pin_init!(Key {
                id,
                alg,
                backend,
                sent: TxCounter::new(),
                mark: alg.rekey_mark(MAX_PAYLOAD),
                dead: AtomicBool::new(false),
                replay <- new_spinlock!(ReplayWindow::new(now()), "ovpn_replay"),
                ticket,
            }),
            GFP_KERNEL,
        )
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

    /// See [`Cipher::seal`].
    pub(crate) fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        self.backend.cipher().seal(batch, op, first);
    }

    /// See [`Cipher::open`].
    pub(crate) fn open(&self, batch: &mut Batch) {
        self.backend.cipher().open(batch);
    }

    /// The window against replayed packets, to be locked once for a batch.
    pub(crate) fn replay(&self) -> &SpinLock<ReplayWindow> {
        &self.replay
    }
}

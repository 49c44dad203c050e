// SPDX-License-Identifier: GPL-2.0
//! Tables that are read under RCU: values by number, numbers by address.

use core::marker::PhantomData;
use core::ptr::NonNull;

use kernel::error::to_result;
use kernel::prelude::*;

use super::ffi;
use super::netdev::NetDev;
use super::rcu::{Rcu, Retire, Retired};
use crate::compat::Arc;

/// Values by number. Changed under a lock of the owner.
///
/// # Invariants
/// A live table of the shim, ours alone. Each pointer in it carries the reference of an `Arc<T>`
/// and keeps it for a grace period after it was taken out.
pub(crate) struct Ids<T: Retire>(NonNull<ffi::ovpn_ids>, PhantomData<Arc<T>>);

// SAFETY: The shim's table may be read anywhere; the values may go anywhere by `Retire`.
unsafe impl<T: Retire> Send for Ids<T> {}
// SAFETY: As above.
unsafe impl<T: Retire> Sync for Ids<T> {}

impl<T: Retire> Ids<T> {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_ids_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh and empty.
        Ok(Ids(raw, PhantomData))
    }

    /// `EEXIST` when the number is taken, `ENOMEM` without memory. May sleep.
    pub(crate) fn insert(&self, id: u32, value: Arc<T>) -> Result {
        value.ticket().publish();
        let ptr = Arc::into_raw(value);
        // SAFETY: The table is ours; the pointer carries its reference.
        let result =
            to_result(unsafe { ffi::ovpn_ids_insert(self.0.as_ptr(), id, ptr.cast_mut().cast()) });
        if result.is_err() {
            // SAFETY: The table did not take the reference.
            drop(unsafe { Arc::from_raw(ptr) });
        }
        result
    }

    /// Takes a value out.
    pub(crate) fn remove(&self, id: u32) -> Option<Retired<T>> {
        // SAFETY: The table is ours.
        let ptr = NonNull::new(unsafe { ffi::ovpn_ids_remove(self.0.as_ptr(), id) })?;
        // SAFETY: By the invariant the pointer carries a reference, and it has left the table.
        Some(unsafe { Retired::new(ptr.cast()) })
    }

    /// The value with this number, valid to the end of the read section.
    pub(crate) fn find<'a>(&'a self, _rcu: &'a Rcu, id: u32) -> Option<&'a T> {
        // SAFETY: The table is ours; by the invariant the value outlives this read section.
        unsafe { ffi::ovpn_ids_find(self.0.as_ptr(), id).cast::<T>().as_ref() }
    }

    /// Marks the value with this number, if there is one.
    pub(crate) fn mark(&self, id: u32) {
        // SAFETY: The table is ours, and its lock may be taken anywhere.
        unsafe { ffi::ovpn_ids_mark(self.0.as_ptr(), id) };
    }

    /// Some marked value, which is marked no more. Under the lock of the owner.
    pub(crate) fn unmark_next<'a>(&'a self, _rcu: &'a Rcu) -> Option<&'a T> {
        // SAFETY: As in `find`.
        unsafe {
            ffi::ovpn_ids_unmark_next(self.0.as_ptr())
                .cast::<T>()
                .as_ref()
        }
    }

    /// The value with the smallest number from `id` on, with that number.
    pub(crate) fn next<'a>(&'a self, _rcu: &'a Rcu, mut id: u32) -> Option<(u32, &'a T)> {
        // SAFETY: As in `find`.
        let value = unsafe {
            ffi::ovpn_ids_next(self.0.as_ptr(), &mut id)
                .cast::<T>()
                .as_ref()
        }?;
        Some((id, value))
    }
}

impl<T: Retire> Drop for Ids<T> {
    fn drop(&mut self) {
        let mut id = 0;
        // SAFETY: The table is ours, and `&mut self` is the only access.
        while let Some(ptr) = NonNull::new(unsafe { ffi::ovpn_ids_next(self.0.as_ptr(), &mut id) })
        {
            // SAFETY: As above.
            unsafe { ffi::ovpn_ids_remove(self.0.as_ptr(), id) };
            // SAFETY: By the invariant the pointer carried a reference; somebody may hold it.
            drop(unsafe { Retired::new(ptr.cast::<T>()) });
        }
        // SAFETY: Ours alone by the invariant.
        unsafe { ffi::ovpn_ids_free(self.0.as_ptr()) };
    }
}

/// A set of numbers. Locks itself.
///
/// # Invariants
/// A live table of the shim, ours alone, whose entries all are [`MEMBER`].
pub(crate) struct IdSet(NonNull<ffi::ovpn_ids>);

/// The entry of a member points here; only its presence matters.
static MEMBER: u32 = 0;

// SAFETY: The shim's table locks itself.
unsafe impl Send for IdSet {}
// SAFETY: As above.
unsafe impl Sync for IdSet {}

impl IdSet {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_ids_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh and empty.
        Ok(IdSet(raw))
    }

    /// Adds a number. May sleep. Without memory it is not added.
    pub(crate) fn insert(&self, id: u32) {
        let member = core::ptr::addr_of!(MEMBER).cast_mut().cast();
        // SAFETY: The table is ours, and no function writes through its entries.
        unsafe { ffi::ovpn_ids_insert(self.0.as_ptr(), id, member) };
    }

    /// Removes a number, if it is there.
    pub(crate) fn remove(&self, id: u32) {
        // SAFETY: The table is ours.
        unsafe { ffi::ovpn_ids_remove(self.0.as_ptr(), id) };
    }

    /// Whether a number is there.
    pub(crate) fn contains(&self, id: u32) -> bool {
        // SAFETY: The table is ours; the entry is only looked at for being there.
        !unsafe { ffi::ovpn_ids_find(self.0.as_ptr(), id) }.is_null()
    }
}

impl Drop for IdSet {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant, and the entries own nothing.
        unsafe { ffi::ovpn_ids_free(self.0.as_ptr()) };
    }
}

/// A key of [`Addrs`].
#[derive(Clone, Copy)]
pub(crate) struct Addr(pub(super) ffi::ovpn_addr);

impl Addr {
    /// An address alone, IPv4 mapped into IPv6.
    pub(crate) fn ip(ip: [u8; 16]) -> Self {
        Addr::transport(ip, 0, 0)
    }

    /// A transport address; the port is in host order, the scope 0 where it means nothing.
    pub(crate) fn transport(ip: [u8; 16], scope: u32, port: u16) -> Self {
        Addr(ffi::ovpn_addr {
            ip,
            scope,
            port: port.to_be(),
            pad: 0,
        })
    }

    /// An address that the shim fills in.
    pub(super) fn filled(fill: impl FnOnce(*mut ffi::ovpn_addr)) -> Self {
        let mut addr = Addr::ip([0; 16]);
        fill(&mut addr.0);
        addr
    }

    /// Whether both are the same key.
    pub(crate) fn is(&self, other: &Addr) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.ip == b.ip && a.scope == b.scope && a.port == b.port
    }
}

/// Numbers by address.
///
/// # Invariants
/// A live table of the shim, ours alone.
pub(crate) struct Addrs(NonNull<ffi::ovpn_addrs>);

// SAFETY: The shim's table locks itself.
unsafe impl Send for Addrs {}
// SAFETY: As above.
unsafe impl Sync for Addrs {}

impl Addrs {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_addrs_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Addrs(raw))
    }

    /// `EEXIST` when another number has the address, `ENOMEM` without memory.
    pub(crate) fn add(&self, addr: &Addr, id: u32) -> Result {
        self.put(addr, id, false)
    }

    /// Gives the address to this number, even if another one had it. `ENOMEM` without memory.
    pub(crate) fn take_over(&self, addr: &Addr, id: u32) -> Result {
        self.put(addr, id, true)
    }

    fn put(&self, addr: &Addr, id: u32, steal: bool) -> Result {
        // SAFETY: The table is ours.
        to_result(unsafe { ffi::ovpn_addrs_add(self.0.as_ptr(), &addr.0, id, steal) })
    }

    /// Removes the address if it is this number's.
    pub(crate) fn remove(&self, addr: &Addr, id: u32) {
        // SAFETY: The table is ours.
        unsafe { ffi::ovpn_addrs_del(self.0.as_ptr(), &addr.0, id) };
    }

    /// Whether an answer to a packet between the two addresses would leave through the interface,
    /// to a next hop that is this number's: the packet's source itself, or the gateway of its
    /// route.
    pub(crate) fn leads_back(
        &self,
        _rcu: &Rcu,
        net: &NetDev,
        (source, destination): (&Addr, &Addr),
        id: u32,
    ) -> bool {
        let table = self.0.as_ptr();
        // SAFETY: The table is ours, the interface lives while `net` does, and a read section is
        // open.
        unsafe { ffi::ovpn_route_leads(net.as_raw(), table, &source.0, &destination.0, id) }
    }

    /// The number that has the address.
    pub(crate) fn find(&self, _rcu: &Rcu, addr: &Addr) -> Option<u32> {
        let mut id = 0;
        // SAFETY: The table is ours, and a read section is open.
        unsafe { ffi::ovpn_addrs_find(self.0.as_ptr(), &addr.0, &mut id) }.then_some(id)
    }
}

impl Drop for Addrs {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant.
        unsafe { ffi::ovpn_addrs_free(self.0.as_ptr()) };
    }
}

//! The seam between the keyspace and the engine that holds its entries: what any engine must do, in memory as
//! `Table` does, or later ordered or larger than memory. Engines know nothing of expiry decisions or commands, and of
//! edits only the one that puts an entry, as which they save a frozen moment.
//!
//! Functions that take a `hash` get what `hash` gave for that key: a caller hashes once and may prefetch meanwhile.

use super::entry::{Entry, StringRef};
use super::{NewDeadline, ShardCursor};
use crate::random::Random;
use crate::types::{Kind, Thresholds};
use crate::units::{Db, Deadline, Now};

/// Changes to a collection, and what they need to know.
#[derive(Clone, Copy)]
pub struct NewCollection<'a> {
    pub(super) kind: Kind,
    pub(super) changes: &'a [u8],
    pub(super) thresholds: &'a Thresholds,
}

pub trait Store {
    fn databases(&self) -> u16;
    /// The engine's hash of a key: the same in all databases, unlike between shards or starts.
    fn hash(&self, key: &[u8]) -> u64;
    /// What decides `hash`.
    fn seed(&self) -> u64;

    // ---- reads: expired keys are there like others -------------------------------------------------------

    fn find(&self, db: Db, hash: u64, key: &[u8]) -> Option<Entry<'_>>;
    /// As `find`, and notes the access at `access` (24 bits).
    fn find_noting(&self, db: Db, hash: u64, key: &[u8], access: u32) -> Option<Entry<'_>>;
    fn len(&self, db: Db) -> usize;
    /// Keys that have a deadline.
    fn deadlines(&self, db: Db) -> usize;
    fn scan(&self, db: Db, cursor: ShardCursor, count: usize, visit: &mut dyn FnMut(Entry<'_>)) -> ShardCursor;
    /// One key, all equally likely; `None` only when there is none.
    fn random(&self, db: Db, random: &mut Random) -> Option<Entry<'_>>;
    /// A key whose deadline is over, with its hash; cheap when there is none.
    fn first_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)>;
    /// A key with an element whose deadline is over, with its hash; cheap when there is none.
    fn first_element_due(&self, db: Db, now: Now) -> Option<(u64, Entry<'_>)>;
    /// Milliseconds until the first deadline, of a key or an element, is over.
    fn next_deadline(&self, db: Db, now: Now) -> Option<u64>;
    /// Starts loading the place where this hash is looked up.
    fn prefetch_place(&self, db: Db, hash: u64);
    /// Reads that place and starts loading the entry.
    fn prefetch_entry(&self, db: Db, hash: u64);
    /// Starts loading the place where this key's deadline will be noted.
    fn prefetch_deadline(&self, db: Db, hash: u64, deadline: Deadline);
    fn bytes_used(&self) -> usize;
    /// XOR of the digests of all entries.
    fn digest(&self, db: Db) -> u64;

    // ---- changes -----------------------------------------------------------------------------------------

    /// Sets a string; the deadline it has now. A new entry's access is `access`.
    fn put(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        value: StringRef<'_>,
        deadline: NewDeadline,
        access: u32,
    ) -> Option<Deadline>;
    /// Writes `bytes` at `offset` into a string, made when absent, zero-padded when short.
    fn splice(&mut self, db: Db, hash: u64, key: &[u8], offset: usize, bytes: &[u8], access: u32);
    /// Sets a collection: the one of no elements, with changes made to it; nothing is there if they leave it without. The deadline
    /// it has now. Changes here and below are verified.
    fn put_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        deadline: NewDeadline,
        access: u32,
    ) -> Option<Deadline>;
    /// Makes changes to the collection of a key that is there, and, given a time, live then; whether it is. If nothing is left of
    /// the collection, the key goes.
    fn change_collection(
        &mut self,
        db: Db,
        hash: u64,
        key: &[u8],
        collection: NewCollection<'_>,
        live_at: Option<Now>,
    ) -> bool;
    /// Copies an entry to another place, replacing what is there; whether it was there. The places differ.
    fn copy(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8]), access: u32) -> bool;
    /// Whether it was there.
    fn remove(&mut self, db: Db, hash: u64, key: &[u8]) -> bool;
    /// Whether it was there.
    fn set_deadline(&mut self, db: Db, hash: u64, key: &[u8], deadline: Option<Deadline>) -> bool;
    /// Moves an entry over another place, replacing what is there; whether it was there. The places differ.
    fn rename(&mut self, from: (Db, u64, &[u8]), to: (Db, u64, &[u8])) -> bool;
    fn flush(&mut self, db: Db);
    fn swap(&mut self, a: Db, b: Db);
    /// Frees at most `limit` pieces of what flushes left behind; whether some are left.
    fn reclaim(&mut self, limit: usize) -> bool;

    // ---- a frozen moment ---------------------------------------------------------------------------------

    /// From here on `walk_frozen` saves the content of this moment, whatever is changed meanwhile. Not while frozen.
    fn freeze(&mut self);
    /// Until the walk is over.
    fn is_frozen(&self) -> bool;
    /// Saves at most `pieces` pieces more; whether some are left. Without any, the store is frozen no longer.
    fn walk_frozen(&mut self, pieces: usize) -> bool;
    /// Bytes that `take_frozen` would give.
    fn frozen_bytes(&self) -> usize;
    /// What walk and changes have saved since the last call: edits that put the entries, and how many.
    fn take_frozen(&mut self, empty: Vec<u8>) -> (Vec<u8>, u32);
    /// Nothing more is saved. The walk has to go on to its end all the same.
    fn abandon_frozen(&mut self);

    /// Panics unless the engine's structures agree with each other.
    fn check_invariants(&self);
}

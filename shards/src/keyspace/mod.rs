//! The keyspace: what every key holds and until when. Its mutating functions are one per kind of edit, and
//! each records its own edit as it mutates, so nothing can change unlogged and untold.
//!
//! Reads never write: an expired key is absent for readers and is removed by `expire_due`, through an edit.
//! (Access bits, for LRU and LFU, are no part of the data: reads may touch them.)

mod arena;
mod deadlines;
mod edit;
mod entry;
mod frozen;
#[cfg(test)]
mod naive;
mod packed;
mod reload;
mod replay;
mod segment;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub use crate::wire::EditError;
pub use edit::Edit;
pub use entry::{Encoding, Entry, StringRef, Value};
pub use reload::Misread;

use crate::random::Random;
use crate::types::{self, Kind, Need, Thresholds};
use crate::units::{Db, Deadline, Now};
use crate::waiting::{Kinds, Readers, Waiter, Waiting, Wake};
use crate::watches::{Content, Watcher, Watches};
use edit::EditLog;
use std::cell::Cell;
use store::{NewCollection, Store};
use table::Table;

/// Longest string, as Redis' default limit has it (`proto-max-bulk-len`).
pub const STRING_BYTES_MAX: usize = 512 << 20;

/// How many expired keys in a row `random` may draw.
const EXPIRED_DRAWS: usize = 100;

/// Bits of `Entry::access`.
pub const ACCESS_MASK: u32 = (1 << 24) - 1;

/// What a write does to a key's deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewDeadline {
    None,
    Keep,
    At(Deadline),
}

impl NewDeadline {
    /// The deadline of a key that has `old` now.
    fn resolve(self, old: Option<Deadline>) -> Option<Deadline> {
        match self {
            NewDeadline::None => None,
            NewDeadline::Keep => old,
            NewDeadline::At(deadline) => Some(deadline),
        }
    }
}

/// Where SCAN continues: opaque to all but the keyspace; 0 starts, and 0 coming back means the end.
/// Fits in 48 bits, so that the shard's number has room beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardCursor(pub u64);

/// Whatever engine holds the entries, the table unless a test says otherwise.
pub struct Keyspace<S: Store = Table> {
    store: S,
    log: EditLog,
    watches: Watches,
    waiting: Waiting,
    /// The time of the last access, as entries note it: a write, which knows no time, makes new entries with it.
    last_access: Cell<u32>,
    lookups: Cell<Lookups>,
    thresholds: Thresholds,
}

/// Lookups by reads, as `keyspace_hits` and `keyspace_misses` of INFO count them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lookups {
    pub hits: u64,
    pub misses: u64,
}

impl Keyspace {
    /// `databases` empty databases; `seed` decides the hash functions. Costs next to nothing until keys come.
    pub fn new(databases: u16, seed: u64) -> Self {
        Keyspace::with_store(Table::new(databases, seed))
    }
}

impl<S: Store> Keyspace<S> {
    fn with_store(store: S) -> Self {
        Keyspace {
            thresholds: Thresholds { seed: store.seed(), ..Thresholds::default() },
            store,
            log: EditLog::default(),
            watches: Watches::default(),
            waiting: Waiting::default(),
            last_access: Cell::default(),
            lookups: Cell::default(),
        }
    }

    pub fn databases(&self) -> u16 {
        self.store.databases()
    }
    /// Where small collections become large: from here on, for those that change. The seed stays.
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = Thresholds { seed: self.store.seed(), is_large: false, ..thresholds };
    }

    // ---- reads -------------------------------------------------------------------------------------------

    /// The live entry of `key`; absent when expired. Notes the access and counts the lookup.
    #[inline]
    pub fn get(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        self.count_lookup(self.get_to_write(db, key, now))
    }
    /// As `get`, for a key whose prefetch was asked for: it is not hashed again.
    #[inline]
    pub fn get_prefetched(&self, db: Db, key: &[u8], ticket: PrefetchTicket, now: Now) -> Option<Entry<'_>> {
        let access = self.note_time(now);
        let found = self.store.find_noting(db, ticket.0, key, access).filter(|entry| !is_due(entry, now));
        self.count_lookup(found)
    }
    /// As `get`, but not counted: what a write looks up in order to change it is neither hit nor miss.
    #[inline]
    pub fn get_to_write(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        let access = self.note_time(now);
        self.store.find_noting(db, self.store.hash(key), key, access).filter(|entry| !is_due(entry, now))
    }
    /// As `get`, without noting an access (EXISTS, OBJECT, TTL, TYPE).
    pub fn look(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        self.count_lookup(self.peek(db, key, now))
    }
    /// Lets `key` have been accessed as these bits say (`Entry::access`), if it is there.
    pub fn note_access(&self, db: Db, key: &[u8], access: u32) {
        self.store.find_noting(db, self.store.hash(key), key, access & ACCESS_MASK);
    }
    /// The live entry of `key`, and nobody knows that it was asked for.
    pub fn peek(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        self.find(db, key).filter(|entry| !is_due(entry, now))
    }
    /// What reads looked up since the start, or the last reset.
    pub fn lookups(&self) -> Lookups {
        self.lookups.get()
    }
    /// CONFIG RESETSTAT.
    pub fn reset_lookups(&self) {
        self.lookups.take();
    }
    /// Keys in the database, expired ones that were not removed yet included (as Redis' DBSIZE).
    pub fn len(&self, db: Db) -> usize {
        self.store.len(db)
    }
    pub fn is_empty(&self, db: Db) -> bool {
        self.len(db) == 0
    }
    /// Keys that have a deadline.
    pub fn deadlines(&self, db: Db) -> usize {
        self.store.deadlines(db)
    }
    /// Live keys from `cursor` on, about `count` of them, each handed to `visit` (whole groups at a time, so a few
    /// more or none may come). A key that stays from a scan's start to its end is visited at least once,
    /// however the table grows meanwhile.
    pub fn scan(
        &self,
        db: Db,
        cursor: ShardCursor,
        count: usize,
        now: Now,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> ShardCursor {
        self.store.scan(db, cursor, count, &mut |entry| {
            if !is_due(&entry, now) {
                visit(entry)
            }
        })
    }
    /// A live key chosen at random, nearly uniformly; `None` when there is none (or, very rarely, when many keys in a row had
    /// expired).
    pub fn random(&self, db: Db, random: &mut Random, now: Now) -> Option<Entry<'_>> {
        (0..EXPIRED_DRAWS).map_while(|_| self.store.random(db, random)).find(|entry| !is_due(entry, now))
    }
    /// Starts loading the bucket where `key` would be into the cache; first of two steps of a pipeline. The ticket goes to
    /// `prefetch_entry` once some other keys' buckets were asked for too.
    #[inline]
    pub fn prefetch_bucket(&self, db: Db, key: &[u8]) -> PrefetchTicket {
        let hash = self.store.hash(key);
        self.store.prefetch_place(db, hash);
        PrefetchTicket(hash)
    }
    /// Second step: reads the bucket and starts loading the entry it points to.
    #[inline]
    pub fn prefetch_entry(&self, db: Db, ticket: PrefetchTicket) {
        self.store.prefetch_entry(db, ticket.0);
    }
    /// The key's hash as the tracker of unsettled keys knows it. Seeded: it must never reach disk or a client.
    #[inline]
    pub fn key_hash(&self, db: Db, key: &[u8]) -> u64 {
        self.ticket_hash(db, PrefetchTicket(self.store.hash(key)))
    }
    /// `key_hash` of the key that the ticket is for.
    #[inline]
    pub fn ticket_hash(&self, db: Db, ticket: PrefetchTicket) -> u64 {
        in_database(db, ticket.0)
    }
    /// Milliseconds until the next deadline of any key falls due, 0 when one is; `None` when no key has one.
    pub fn next_deadline(&self, now: Now) -> Option<u64> {
        self.all_databases().filter_map(|db| self.store.next_deadline(db, now)).min()
    }

    // ---- edits: one function per kind --------------------------------------------------------------------

    /// Sets `key` to a string. A value that is a canonical integer is kept as one.
    #[inline]
    pub fn put(&mut self, db: Db, key: &[u8], value: &[u8], deadline: NewDeadline) {
        self.put_string(db, key, StringRef::from_bytes(value), deadline);
    }
    /// As `put`, but what looks like an integer stays text (INCRBYFLOAT).
    pub fn put_text(&mut self, db: Db, key: &[u8], value: &[u8], deadline: NewDeadline) {
        self.put_string(db, key, StringRef::Bytes(value), deadline);
    }
    /// As `put`, with the result kept as plain bytes, as that of `splice` is (BITOP).
    pub fn put_raw(&mut self, db: Db, key: &[u8], value: &[u8], deadline: NewDeadline) {
        self.put_string(db, key, StringRef::Raw(value), deadline);
    }
    /// As `put`, for a value known to be an integer.
    pub fn put_integer(&mut self, db: Db, key: &[u8], value: i64, deadline: NewDeadline) {
        self.put_string(db, key, StringRef::Integer(value), deadline);
    }
    /// Writes `bytes` at `offset` into the string at `key`, which is made (without a deadline) when absent and zero-padded when
    /// short (SETRANGE, APPEND, SETBIT). The result is kept as plain bytes ("raw"), its deadline stays. Without bytes,
    /// nothing happens (SETRANGE with an empty string makes and pads nothing). The caller has checked
    /// `STRING_BYTES_MAX`.
    pub fn splice(&mut self, db: Db, key: &[u8], offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        assert!(splice_fits(offset as u64, bytes), "commands check the length of strings");
        self.store.splice(db, self.store.hash(key), key, offset, bytes, self.last_access.get());
        self.record(&Edit::Splice { db, key, offset: offset as u64, bytes });
    }
    /// Sets `key` to a collection: the one of no elements, with `changes` made to it, which its type's encoder wrote. If they
    /// leave it without elements, what is there is removed.
    pub fn put_collection(&mut self, db: Db, key: &[u8], kind: Kind, changes: &[u8], deadline: NewDeadline) {
        self.put_collection_as(db, key, kind, false, changes, deadline);
    }
    /// Makes changes to the collection at `key`, which is there, live, and of this kind: whoever calls has looked. If nothing is
    /// left of it, the key goes with it.
    pub fn change(&mut self, db: Db, key: &[u8], kind: Kind, changes: &[u8]) {
        let collection = NewCollection { kind, changes, thresholds: &self.thresholds };
        self.store.change_collection(db, self.store.hash(key), key, collection, None);
        self.record(&Edit::Change { db, key, kind, changes });
    }
    /// Makes changes to the collection at `key`, or makes it of them where there is none live, with no deadline. What is there live
    /// is of this kind: whoever calls has looked.
    pub fn write_collection(&mut self, db: Db, key: &[u8], kind: Kind, changes: &[u8], now: Now) {
        let hash = self.store.hash(key);
        let collection = NewCollection { kind, changes, thresholds: &self.thresholds };
        if self.store.change_collection(db, hash, key, collection, Some(now)) {
            self.record(&Edit::Change { db, key, kind, changes });
        } else {
            // What has expired, but still lies there, is not built on.
            self.put_collection(db, key, kind, changes, NewDeadline::None);
        }
    }
    /// Removes `key`, expired or not; whether it was there.
    pub fn remove(&mut self, db: Db, key: &[u8]) -> bool {
        let there = self.store.remove(db, self.store.hash(key), key);
        if there {
            self.record(&Edit::Remove { db, key });
        }
        there
    }
    /// Gives `key` a deadline or takes it away; whether the key was there.
    pub fn set_deadline(&mut self, db: Db, key: &[u8], deadline: Option<Deadline>) -> bool {
        let there = self.store.set_deadline(db, self.store.hash(key), key, deadline);
        if there {
            self.record(&Edit::SetDeadline { db, key, deadline });
        }
        there
    }
    /// Moves the entry of `key`, deadline included, to `to_key` in `to_db`, replacing what is there (RENAME, MOVE);
    /// whether `key` was there. Onto itself, nothing changes.
    pub fn rename(&mut self, db: Db, key: &[u8], to_db: Db, to_key: &[u8]) -> bool {
        if (db, key) == (to_db, to_key) {
            return self.find(db, key).is_some();
        }
        let (hash, to_hash) = (self.store.hash(key), self.store.hash(to_key));
        let there = self.store.rename((db, hash, key), (to_db, to_hash, to_key));
        if there {
            self.record(&Edit::Rename { db, key, to_db, to_key });
        }
        there
    }
    /// Copies the entry of `key`, deadline included, replacing what is at `to_key`; whether `key` was there.
    pub fn copy(&mut self, db: Db, key: &[u8], to_db: Db, to_key: &[u8]) -> bool {
        let Some(entry) = self.find(db, key) else { return false };
        let Value::String(value) = entry.value() else { return self.copy_collection((db, key), (to_db, to_key)) };
        // The copy outlives the borrow of the original as the edit it will be logged as.
        let edit = Edit::Put { db: to_db, key: to_key, value, deadline: entry.deadline() }.encode_to_vec();
        self.adopt(&edit).expect("an edit just made, of a value that is there");
        true
    }
    fn copy_collection(&mut self, (db, key): (Db, &[u8]), (to_db, to_key): (Db, &[u8])) -> bool {
        if (db, key) == (to_db, to_key) {
            return true;
        }
        let (hash, to_hash) = (self.store.hash(key), self.store.hash(to_key));
        let there = self.store.copy((db, hash, key), (to_db, to_hash, to_key), self.last_access.get());
        if there {
            self.record(&Edit::Copy { db, key, to_db, to_key });
        }
        there
    }
    /// Empties a database. Its memory comes back by and by, through `reclaim`.
    pub fn flush(&mut self, db: Db) {
        self.store.flush(db);
        self.record(&Edit::Flush { db });
    }
    /// Changes nothing, and logs that.
    pub fn nothing(&mut self) {
        self.record(&Edit::Nothing);
    }
    /// Empties all databases.
    pub fn flush_all(&mut self) {
        self.all_databases().for_each(|db| self.store.flush(db));
        self.record(&Edit::FlushAll);
    }
    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, a: Db, b: Db) {
        self.store.swap(a, b);
        self.record(&Edit::Swap { a, b });
    }
    /// Removes keys whose deadline is due, and elements of collections, at most `limit` of them; how many were removed.
    pub fn expire_due(&mut self, now: Now, limit: usize) -> usize {
        self.expire_due_if(now, limit, &|_| true)
    }
    /// As `expire_due`, up to the first key of a database that isn't `free`, which gets the key's hash as in database 0.
    pub fn expire_due_if(&mut self, now: Now, limit: usize, free: &dyn Fn(u64) -> bool) -> usize {
        self.note_time(now);
        let mut removed = 0;
        let mut key = Vec::new();
        for db in self.all_databases() {
            while removed < limit {
                let Some((hash, entry)) = self.store.first_due(db, now).filter(|(hash, _)| free(*hash)) else { break };
                key.clear();
                key.extend_from_slice(entry.key());
                assert!(self.store.remove(db, hash, &key), "a due key is there");
                self.record(&Edit::Remove { db, key: &key });
                removed += 1;
            }
            while removed < limit {
                let due = self.store.first_element_due(db, now).filter(|(hash, _)| free(*hash));
                let Some((_, entry)) = due else { break };
                let collection = entry.value().collection().expect("strings have no elements");
                let (kind, mut changes) = (collection.kind(), Vec::new());
                key.clear();
                key.extend_from_slice(entry.key());
                removed += collection.expire(now, limit - removed, &mut changes);
                assert!(!changes.is_empty(), "a collection with an element that is due removes it");
                self.change(db, &key, kind, &changes);
            }
        }
        removed
    }
    /// Tells those who watch `key` that it was written, where a command had nothing to change and so made no edit, but counts
    /// as a write (APPEND of nothing).
    pub fn touch(&mut self, db: Db, key: &[u8]) {
        if !self.watches.is_empty() {
            self.watches.written(self.key_hash(db, key), db, key);
        }
    }
    /// Keeps the string at `key` as plain bytes from here on ("raw"), which only OBJECT ENCODING shows: an edit, but nothing
    /// that is told to anybody. Nothing happens when there is no string.
    pub fn keep_raw(&mut self, db: Db, key: &[u8]) {
        let Some(entry) = self.find(db, key) else { return };
        let Value::String(value) = entry.value() else { return };
        let value = value.to_bytes().into_owned();
        let (hash, value) = (self.store.hash(key), StringRef::Raw(&value));
        let deadline = self.store.put(db, hash, key, value, NewDeadline::Keep, self.last_access.get());
        self.log.push(&Edit::Put { db, key, value, deadline });
    }
    /// Gives back memory of flushed databases and of large collections that were removed, at most `limit` pieces of it (segments of
    /// up to 512 keys, 128 nodes of collections); whether there is more.
    /// For the shard's tick: no content changes.
    pub fn reclaim(&mut self, limit: usize) -> bool {
        self.store.reclaim(limit)
    }

    // ---- a frozen moment: what snapshots are made from ---------------------------------------------------

    /// The seed of the hash functions, as `new` got it. Edits in the order of a walk load fastest under the same one.
    pub fn seed(&self) -> u64 {
        self.store.seed()
    }
    /// From here on `walk_frozen` yields the content of this moment, whatever is changed meanwhile. Must not be frozen already.
    /// What an earlier walk has left to take is forgotten. Takes time for each database, not for keys.
    pub fn freeze(&mut self) {
        self.store.freeze();
    }
    /// From `freeze` until the walk is over.
    pub fn is_frozen(&self) -> bool {
        self.store.is_frozen()
    }
    /// Walks at most `pieces` segments (of up to 512 keys); whether there is more. When there is none, it is thawed.
    /// No content changes. Goes no further while a megabyte or more waits for `take_frozen`.
    pub fn walk_frozen(&mut self, pieces: usize) -> bool {
        self.store.walk_frozen(pieces)
    }
    /// What walk and changes have saved since the last call, swapped for `empty`: an `Edit::Put` of each entry, under its
    /// database of the time of `freeze`, expired ones included, and how many. Each entry comes once.
    pub fn take_frozen(&mut self, empty: Vec<u8>) -> (Vec<u8>, u32) {
        self.store.take_frozen(empty)
    }
    /// Bytes that `take_frozen` would give.
    pub fn frozen_bytes(&self) -> usize {
        self.store.frozen_bytes()
    }
    /// The rest is not wanted: the walk has to go on to its end, but saves nothing more.
    pub fn abandon_frozen(&mut self) {
        self.store.abandon_frozen();
    }

    // ---- watches (WATCH): the server asks, edits answer --------------------------------------------------

    /// `watcher` watches `key` from now on; a second time changes nothing.
    pub fn watch(&mut self, watcher: Watcher, db: Db, key: &[u8], now: Now) {
        let is_live = self.peek(db, key, now).is_some();
        self.watches.watch(watcher, self.key_hash(db, key), db, key, is_live);
    }
    /// Whether a key that `watcher` watches was written or has expired since. For EXEC: not once its own writes have begun.
    pub fn is_broken(&self, watcher: Watcher, now: Now) -> bool {
        match self.watches.intact(watcher) {
            // An edit would have told, but expiry needs none.
            Some(mut keys) => keys.any(|watched| self.peek(watched.db, watched.key, now).is_some() != watched.was_live),
            None => true,
        }
    }
    /// Forgets all that `watcher` watches and whether it is broken (EXEC, DISCARD, UNWATCH, the end of a connection).
    pub fn unwatch(&mut self, watcher: Watcher) {
        self.watches.unwatch(watcher);
    }

    // ---- blocked clients: the server says who waits, edits say who may try -------------------------------

    /// `waiter` waits for `key` from now on, behind those who did before.
    pub fn join_line(&mut self, waiter: Waiter, kind: Kind, readers: Readers, db: Db, key: &[u8]) {
        self.waiting.join(waiter, kind, readers, db, key);
    }
    /// Forgets all that `waiter` waits for.
    pub fn leave_lines(&mut self, waiter: Waiter) {
        self.waiting.leave(waiter);
    }
    /// `waiter` tried in vain, and had heard of the shard's hints up to `heard`.
    pub fn waits_again(&mut self, waiter: Waiter, heard: u64) {
        self.waiting.again(waiter, heard);
    }
    /// How many wait for keys of this shard.
    pub fn waiters(&self) -> usize {
        self.waiting.len()
    }
    /// Whether `take_wakes` may name somebody.
    #[inline]
    pub fn has_wakes(&self) -> bool {
        self.waiting.has_due()
    }
    /// Who is to try (again) because of what happened since this was last asked.
    #[inline]
    pub fn take_wakes(&mut self, wakes: &mut Vec<Wake>) {
        if self.waiting.has_due() {
            self.waiting.take_wakes(&self.store, wakes);
        }
    }

    // ---- edits as bytes ----------------------------------------------------------------------------------

    /// The entry of `key` as the edit that puts it (several, for a large collection), as it would be logged; to move it to another
    /// shard.
    pub fn export(&self, db: Db, key: &[u8]) -> Option<Vec<u8>> {
        let entry = self.find(db, key)?;
        let (mut out, mut changes) = (Vec::new(), Vec::new());
        let (edit, mut next) = Edit::put(db, &entry, &mut changes);
        edit.encode(&mut out);
        while let Some(from) = next {
            changes.clear();
            let collection = entry.value().collection().expect("only collections have a rest");
            let (edit, further) = Edit::put_more(db, key, collection, from, &mut changes);
            edit.encode(&mut out);
            next = further;
        }
        Some(out)
    }
    /// The same for a command that needs so much of it.
    pub fn export_excerpt(&self, db: Db, key: &[u8], need: Need<'_>) -> Option<Vec<u8>> {
        let mut changes = Vec::new();
        match Edit::put_excerpt(db, &self.find(db, key)?, need, &mut changes) {
            Some(edit) if need != Need::All => Some(edit.encode_to_vec()),
            Some(_) | None => self.export(db, key),
        }
    }
    /// Applies the first edit in `bytes` without logging it (recovery, replicas); bytes used.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<usize, EditError> {
        let logging = self.log.is_enabled();
        self.log.set_enabled(false);
        let used = self.adopt(bytes);
        self.log.set_enabled(logging);
        used
    }
    /// As `replay`, and logs it (the edits that a scratch keyspace made, on their way home).
    pub fn adopt(&mut self, bytes: &[u8]) -> Result<usize, EditError> {
        let (edit, used) = Edit::decode(bytes)?;
        self.check(&edit)?;
        self.apply(edit);
        Ok(used)
    }
    /// Edits made since the last `take_edits`, in order.
    pub fn edits(&self) -> &[u8] {
        self.log.bytes()
    }
    /// How many edits `edits` holds.
    pub fn edit_count(&self) -> u32 {
        self.log.count()
    }
    /// Swaps the batch of edits for an empty buffer, which the caller provides so that no allocation is needed per batch.
    pub fn take_edits(&mut self, empty: Vec<u8>) -> Vec<u8> {
        self.log.take(empty)
    }
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn forget_edits(&mut self, kept: usize) {
        self.log.truncate(kept);
    }
    /// Turns logging of edits on or off (off: no persistence, recovery). On from the start.
    pub fn set_logging(&mut self, on: bool) {
        self.log.set_enabled(on);
    }

    // ---- accounting --------------------------------------------------------------------------------------

    /// Bytes held by entries, tables and the index of deadlines of all databases, flushed ones that are not freed
    /// yet included; what `take_frozen` would give is not.
    pub fn bytes_used(&self) -> usize {
        self.store.bytes_used()
    }
    /// Order-independent digest of one database's content (keys, values, deadlines; not access bits), the same whatever
    /// the number of shards when the shards' digests are XORed.
    pub fn digest(&self, db: Db) -> u64 {
        self.store.digest(db)
    }
    /// Panics unless all structures agree with each other. Walks everything: for tests and the simulation.
    pub fn check_invariants(&self) {
        self.store.check_invariants();
        self.watches.check_invariants(&self.store);
        self.waiting.check_invariants();
    }

    fn all_databases(&self) -> impl Iterator<Item = Db> + use<S> {
        (0..self.databases()).map(Db)
    }
    fn find(&self, db: Db, key: &[u8]) -> Option<Entry<'_>> {
        self.store.find(db, self.store.hash(key), key)
    }
    #[inline]
    fn count_lookup<'a>(&self, found: Option<Entry<'a>>) -> Option<Entry<'a>> {
        let Lookups { hits, misses } = self.lookups.get();
        let hit = found.is_some() as u64;
        self.lookups.set(Lookups { hits: hits + hit, misses: misses + 1 - hit });
        found
    }
    /// The access bits for now: seconds, 24 bits of them.
    fn note_time(&self, now: Now) -> u32 {
        let access = (now.steady_ms / 1000) as u32 & ACCESS_MASK;
        self.last_access.set(access);
        access
    }
    /// The shard's one sink of events: every edit passes here once the store shows it, however it came about. The log takes it
    /// if there is one; whoever waits for a change of a key is told if anybody does: those who watch and
    /// those who wait; here is also where client-side caches and keyspace notifications hear of it. While nobody listens, all of
    /// that together is one branch.
    #[inline]
    fn record(&mut self, edit: &Edit<'_>) {
        self.log.push(edit);
        // Both are asked at once, for one branch.
        if !(self.watches.is_empty() & self.waiting.is_empty()) {
            self.tell(edit);
        }
    }
    #[cold]
    fn tell(&mut self, edit: &Edit<'_>) {
        self.watches.edited(edit, &self.store);
        self.waiting.edited(edit);
    }
    #[inline]
    fn put_string(&mut self, db: Db, key: &[u8], value: StringRef<'_>, deadline: NewDeadline) {
        let hash = self.store.hash(key);
        let deadline = self.store.put(db, hash, key, value, deadline, self.last_access.get());
        self.record(&Edit::Put { db, key, value, deadline });
    }
    fn put_collection_as(
        &mut self,
        db: Db,
        key: &[u8],
        kind: Kind,
        is_large: bool,
        changes: &[u8],
        deadline: NewDeadline,
    ) {
        let hash = self.store.hash(key);
        let thresholds = Thresholds { is_large, ..self.thresholds };
        let collection = NewCollection { kind, changes, thresholds: &thresholds };
        let deadline = self.store.put_collection(db, hash, key, collection, deadline, self.last_access.get());
        self.record(&Edit::PutCollection { db, key, kind, is_large, changes, deadline });
    }
    /// Whether an edit from outside makes sense here: it may come from a damaged or hostile source.
    fn check(&self, edit: &Edit<'_>) -> Result<(), EditError> {
        let database = |db: Db| if db.0 < self.databases() { Ok(()) } else { Err(EditError::NoSuchDatabase(db.0)) };
        match *edit {
            Edit::PutCollection { db, kind, changes, .. } | Edit::Change { db, kind, changes, .. } => {
                database(db)?;
                types::verify(kind, changes)
            }
            Edit::Put { db, .. } | Edit::Remove { db, .. } | Edit::SetDeadline { db, .. } | Edit::Flush { db } => {
                database(db)
            }
            Edit::Splice { db, offset, bytes, .. } => {
                database(db)?;
                if splice_fits(offset, bytes) { Ok(()) } else { Err(EditError::BadNumber) }
            }
            Edit::Rename { db, to_db, .. } | Edit::Copy { db, to_db, .. } => database(db).and(database(to_db)),
            Edit::FlushAll | Edit::Nothing => Ok(()),
            Edit::Swap { a, b } => database(a).and(database(b)),
        }
    }
    /// Does again what an edit says, through the function that made it.
    fn apply(&mut self, edit: Edit<'_>) {
        match edit {
            Edit::Put { db, key, value, deadline } => {
                let deadline = deadline.map_or(NewDeadline::None, NewDeadline::At);
                self.put_string(db, key, value, deadline);
            }
            Edit::PutCollection { db, key, kind, is_large, changes, deadline } => {
                let deadline = deadline.map_or(NewDeadline::None, NewDeadline::At);
                self.put_collection_as(db, key, kind, is_large, changes, deadline);
            }
            Edit::Change { db, key, kind, changes } => self.change(db, key, kind, changes),
            Edit::Copy { db, key, to_db, to_key } => {
                self.copy_collection((db, key), (to_db, to_key));
            }
            Edit::Splice { db, key, offset, bytes } => self.splice(db, key, offset as usize, bytes),
            Edit::Remove { db, key } => {
                self.remove(db, key);
            }
            Edit::SetDeadline { db, key, deadline } => {
                self.set_deadline(db, key, deadline);
            }
            Edit::Rename { db, key, to_db, to_key } => {
                self.rename(db, key, to_db, to_key);
            }
            Edit::Flush { db } => self.flush(db),
            Edit::FlushAll => self.flush_all(),
            Edit::Nothing => self.nothing(),
            Edit::Swap { a, b } => self.swap(a, b),
        }
    }
}

/// What watches ask of the keyspace, for which the store is enough: edits come when it has them already.
impl<S: Store> Content for S {
    fn hash(&self, db: Db, key: &[u8]) -> u64 {
        in_database(db, Store::hash(self, key))
    }
    fn holds(&self, db: Db, key: &[u8]) -> bool {
        self.find(db, Store::hash(self, key), key).is_some()
    }
}

/// What blocked clients are told by: what stands at their key, though it may have expired.
impl<S: Store> Kinds for S {
    fn kind(&self, db: Db, key: &[u8]) -> Option<Kind> {
        let entry = self.find(db, Store::hash(self, key), key)?;
        entry.value().collection().map(|collection| collection.kind())
    }
}

/// The store's hash is the same in all databases; an odd factor keeps databases apart.
#[inline]
fn in_database(db: Db, hash: u64) -> u64 {
    hash ^ (db.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_due(entry: &Entry<'_>, now: Now) -> bool {
    entry.deadline().is_some_and(|deadline| deadline.is_due(now))
}

fn splice_fits(offset: u64, bytes: &[u8]) -> bool {
    offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= STRING_BYTES_MAX as u64)
}

/// A key on its way into the cache: its hash.
#[derive(Clone, Copy, Debug)]
pub struct PrefetchTicket(u64);

//! The keyspace: what every key holds and until when. Its mutating functions are one per kind of edit, and
//! each writes its own edit as it mutates, so nothing can change unlogged.
//!
//! Reads never write: an expired key is absent for readers and is removed by `expire_due`, through an edit.
//! (Access bits, for LRU and LFU, are no part of the data: reads may touch them.)

mod edit;
mod entry;
mod naive;

pub use edit::{Edit, EditError};
pub use entry::{Encoding, Entry, StringRef, Value};

use crate::random::Random;
use crate::units::{Db, Deadline, Now};
use edit::EditLog;
use naive::Store;

/// What a write does to a key's deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewDeadline {
    None,
    Keep,
    At(Deadline),
}

/// Where SCAN continues: opaque to all but the keyspace; 0 starts, and 0 coming back means the end.
/// Fits in 48 bits, so that the shard's number has room beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardCursor(pub u64);

pub struct Keyspace {
    databases: Vec<Store>,
    log: EditLog,
}

impl Keyspace {
    /// `databases` empty databases; `seed` decides the hash functions.
    pub fn new(databases: u16, _seed: u64) -> Self {
        Keyspace { databases: (0..databases).map(|_| Store::default()).collect(), log: EditLog::default() }
    }

    pub fn databases(&self) -> u16 {
        self.databases.len() as u16
    }

    // ---- reads -------------------------------------------------------------------------------------------

    /// The live entry of `key`; absent when expired. Notes the access.
    pub fn get(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        // The engine behind this notes the access; the naive store has no access bits.
        self.peek(db, key, now)
    }
    /// As `get`, without noting an access (OBJECT, TTL, EXISTS, DEBUG).
    pub fn peek(&self, db: Db, key: &[u8], now: Now) -> Option<Entry<'_>> {
        self.store(db).find(key).filter(|entry| !entry.deadline().is_some_and(|d| d.is_due(now)))
    }
    /// Keys in the database, expired ones that were not removed yet included (as Redis' DBSIZE).
    pub fn len(&self, db: Db) -> usize {
        self.store(db).len()
    }
    pub fn is_empty(&self, db: Db) -> bool {
        self.len(db) == 0
    }
    /// Keys that have a deadline.
    pub fn deadlines(&self, db: Db) -> usize {
        self.store(db).deadlines()
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
        self.store(db).scan(cursor, count, &mut |entry| {
            if !entry.deadline().is_some_and(|d| d.is_due(now)) {
                visit(entry)
            }
        })
    }
    /// A live key chosen at random, nearly uniformly; `None` when there is none (or, very rarely, when many keys in a row had
    /// expired).
    pub fn random(&self, db: Db, random: &mut Random, now: Now) -> Option<Entry<'_>> {
        self.store(db).random(random).filter(|entry| !entry.deadline().is_some_and(|d| d.is_due(now)))
    }
    /// Starts loading the bucket where `key` would be into the cache; first of two steps of a pipeline. The ticket goes to
    /// `prefetch_entry` once some other keys' buckets were asked for too.
    pub fn prefetch_bucket(&self, _db: Db, _key: &[u8]) -> PrefetchTicket {
        PrefetchTicket(0)
    }
    /// Second step: reads the bucket and starts loading the entry it points to.
    pub fn prefetch_entry(&self, _db: Db, _ticket: PrefetchTicket) {}
    /// The key's hash as the tracker of unsettled keys knows it.
    pub fn key_hash(&self, db: Db, key: &[u8]) -> u64 {
        naive::hash(db, key)
    }

    // ---- edits: one function per kind --------------------------------------------------------------------

    /// Sets `key` to a string. A value that is a canonical integer is kept as one.
    pub fn put(&mut self, db: Db, key: &[u8], value: &[u8], deadline: NewDeadline) {
        let deadline = self.resolve(db, key, deadline);
        self.apply_and_log(Edit::Put { db, key, value: StringRef::from_bytes(value), deadline });
    }
    /// As `put`, for a value known to be an integer.
    pub fn put_integer(&mut self, db: Db, key: &[u8], value: i64, deadline: NewDeadline) {
        let deadline = self.resolve(db, key, deadline);
        self.apply_and_log(Edit::Put { db, key, value: StringRef::Integer(value), deadline });
    }
    /// Writes `bytes` at `offset` into the string at `key`, which is made (without a deadline) when absent and zero-padded when
    /// short (SETRANGE, APPEND, SETBIT). The result is kept as plain bytes ("raw"), its deadline stays.
    pub fn splice(&mut self, db: Db, key: &[u8], offset: usize, bytes: &[u8]) {
        self.apply_and_log(Edit::Splice { db, key, offset: offset as u64, bytes });
    }
    /// Removes `key`, expired or not; whether it was there.
    pub fn remove(&mut self, db: Db, key: &[u8]) -> bool {
        let there = self.store(db).find(key).is_some();
        if there {
            self.apply_and_log(Edit::Remove { db, key });
        }
        there
    }
    /// Gives `key` a deadline or takes it away; whether the key was there.
    pub fn set_deadline(&mut self, db: Db, key: &[u8], deadline: Option<Deadline>) -> bool {
        let there = self.store(db).find(key).is_some();
        if there {
            self.apply_and_log(Edit::SetDeadline { db, key, deadline });
        }
        there
    }
    /// Moves the entry of `key`, deadline included, to `to_key` in `to_db`, replacing what is there (RENAME, MOVE);
    /// whether `key` was there.
    pub fn rename(&mut self, db: Db, key: &[u8], to_db: Db, to_key: &[u8]) -> bool {
        let there = self.store(db).find(key).is_some();
        if there {
            self.apply_and_log(Edit::Rename { db, key, to_db, to_key });
        }
        there
    }
    /// Copies the entry of `key`, deadline included, replacing what is at `to_key`; whether `key` was there.
    pub fn copy(&mut self, db: Db, key: &[u8], to_db: Db, to_key: &[u8]) -> bool {
        let Some(mut edit) = self.export(db, key) else { return false };
        // A copy is a Put of the same value elsewhere: decode, point it there, encode.
        let Ok((Edit::Put { value, deadline, .. }, _)) = Edit::decode(&edit) else {
            unreachable!("export makes a Put")
        };
        let moved = Edit::Put { db: to_db, key: to_key, value, deadline }.encode_to_vec();
        edit = moved;
        let (edit, _) = Edit::decode(&edit).expect("just encoded");
        self.apply_and_log(edit);
        true
    }
    /// Empties a database.
    pub fn flush(&mut self, db: Db) {
        self.apply_and_log(Edit::Flush { db });
    }
    /// Empties all databases.
    pub fn flush_all(&mut self) {
        self.apply_and_log(Edit::FlushAll);
    }
    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, a: Db, b: Db) {
        self.apply_and_log(Edit::Swap { a, b });
    }
    /// Removes keys whose deadline is due, at most `limit` of them; how many were removed.
    pub fn expire_due(&mut self, now: Now, limit: usize) -> usize {
        let mut removed = 0;
        for db in 0..self.databases() {
            let db = Db(db);
            let due = self.store(db).due(now, limit - removed);
            for key in &due {
                self.remove(db, key);
            }
            removed += due.len();
        }
        removed
    }

    // ---- edits as bytes ----------------------------------------------------------------------------------

    /// The entry of `key` as a `Put` edit, as it would be logged; to move it to another shard or a snapshot.
    pub fn export(&self, db: Db, key: &[u8]) -> Option<Vec<u8>> {
        let entry = self.store(db).find(key)?;
        let Value::String(value) = entry.value();
        Some(Edit::Put { db, key, value, deadline: entry.deadline() }.encode_to_vec())
    }
    /// Applies the first edit in `bytes` without logging it (recovery, replicas); bytes used.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<usize, EditError> {
        let (edit, used) = Edit::decode(bytes)?;
        self.apply(edit);
        Ok(used)
    }
    /// Applies all edits in `bytes`, one record's, without logging them.
    pub fn replay_all(&mut self, mut bytes: &[u8]) -> Result<(), EditError> {
        while !bytes.is_empty() {
            let used = self.replay(bytes)?;
            bytes = &bytes[used..];
        }
        Ok(())
    }
    /// As `replay`, and logs it (the edits that a scratch keyspace made, on their way home).
    pub fn adopt(&mut self, bytes: &[u8]) -> Result<usize, EditError> {
        let (edit, used) = Edit::decode(bytes)?;
        self.apply_and_log(edit);
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
    /// Frees a bounded part of what FLUSHALL left behind; whether there is more.
    pub fn reclaim(&mut self, _limit: usize) -> bool {
        false
    }
    /// Turns logging of edits on or off (off: no persistence, recovery). On from the start.
    pub fn set_logging(&mut self, on: bool) {
        self.log.set_enabled(on);
    }

    // ---- accounting --------------------------------------------------------------------------------------

    /// Bytes held by entries and tables of all databases.
    pub fn bytes_used(&self) -> usize {
        self.databases.iter().map(Store::bytes_used).sum()
    }
    /// Order-independent digest of one database's content (keys, values, deadlines; not access bits), the same whatever
    /// the number of shards when the shards' digests are XORed.
    pub fn digest(&self, db: Db) -> u64 {
        self.store(db).digest(db)
    }

    fn store(&self, db: Db) -> &Store {
        &self.databases[db.0 as usize]
    }
    fn resolve(&self, db: Db, key: &[u8], deadline: NewDeadline) -> Option<Deadline> {
        match deadline {
            NewDeadline::None => None,
            NewDeadline::At(deadline) => Some(deadline),
            NewDeadline::Keep => self.store(db).find(key).and_then(|entry| entry.deadline()),
        }
    }
    fn apply_and_log(&mut self, edit: Edit<'_>) {
        self.log.push(&edit);
        self.apply(edit);
    }
    fn apply(&mut self, edit: Edit<'_>) {
        match edit {
            Edit::Put { db, key, value, deadline } => self.databases[db.0 as usize].put(key, value, deadline),
            Edit::Splice { db, key, offset, bytes } => {
                self.databases[db.0 as usize].splice(key, offset as usize, bytes)
            }
            Edit::Remove { db, key } => self.databases[db.0 as usize].remove(key),
            Edit::SetDeadline { db, key, deadline } => self.databases[db.0 as usize].set_deadline(key, deadline),
            Edit::Rename { db, key, to_db, to_key } => {
                if let Some(item) = self.databases[db.0 as usize].take(key) {
                    self.databases[to_db.0 as usize].insert(to_key, item);
                }
            }
            Edit::Flush { db } => self.databases[db.0 as usize] = Store::default(),
            Edit::FlushAll => self.databases.iter_mut().for_each(|store| *store = Store::default()),
            Edit::Swap { a, b } => self.databases.swap(a.0 as usize, b.0 as usize),
        }
    }
}

/// A key on its way into the cache.
#[derive(Clone, Copy, Debug)]
pub struct PrefetchTicket(#[allow(dead_code)] u64);

//! Reading all content back as if it came from disk (DEBUG RELOAD): each entry is written as the edits that snapshots have
//! of it, these are read, and what comes of them takes the entry's place.
//!
//! Content stays what it was, so nothing is logged and nobody is told. Entries are replaced as by any write, hence
//! indexes of deadlines follow and a frozen moment is kept. What may change is how a value is kept: it comes out in the
//! form that its content has under the thresholds of now.

use super::edit::Edit;
use super::entry::StringRef;
use super::store::{NewCollection, Store};
use super::{Keyspace, NewDeadline, ShardCursor};
use crate::types::Kind;
use crate::types::set::without_form;
use crate::units::Db;
use crate::wire::EditError;

/// Entries looked up before the first of them is replaced.
const GROUP: usize = 512;
/// Pieces of replaced collections freed at a time.
const RECLAIMED_PIECES: usize = 1024;

/// A value that does not read back as it was written. Nothing was done to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misread {
    pub db: Db,
    pub key: Vec<u8>,
    /// Unless it was read, as another one.
    pub error: Option<EditError>,
}

impl<S: Store> Keyspace<S> {
    /// Reads everything back, up to the first value that isn't what it was.
    pub fn reload(&mut self) -> Result<(), Misread> {
        let mut scratch = Keyspace::new(self.databases(), self.seed());
        scratch.set_thresholds(self.thresholds);
        let mut keys = Vec::new();
        for db in self.all_databases() {
            let mut cursor = ShardCursor::default();
            loop {
                keys.clear();
                cursor = self.store.scan(db, cursor, GROUP, &mut |entry| keys.push(entry.key().to_vec()));
                for key in &keys {
                    self.reload_entry(&mut scratch, db, key).map_err(|error| Misread {
                        db,
                        key: key.clone(),
                        error,
                    })?;
                }
                while self.reclaim(RECLAIMED_PIECES) | scratch.reclaim(RECLAIMED_PIECES) {}
                if cursor == ShardCursor::default() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// By way of a scratch keyspace, so that a value which is misread stays as it is.
    fn reload_entry(&mut self, scratch: &mut Keyspace, db: Db, key: &[u8]) -> Result<(), Option<EditError>> {
        let entry = self.find(db, key).expect("keys stay while they are read back");
        let (digest, access) = (entry.digest(db), entry.access());
        let edits = self.export(db, key).expect("it was just found");
        let read = scratch.read_back(&edits);
        let is_same = scratch.find(db, key).is_some_and(|copy| copy.digest(db) == digest);
        scratch.store.remove(db, scratch.store.hash(key), key);
        read?;
        if !is_same {
            return Err(None);
        }
        self.read_back(&edits)?;
        self.store.find_noting(db, self.store.hash(key), key, access);
        Ok(())
    }

    /// Puts an exported entry, without a trace but in the store, in the form that new ones get.
    fn read_back(&mut self, mut bytes: &[u8]) -> Result<(), EditError> {
        let thresholds = &self.thresholds;
        while !bytes.is_empty() {
            let (edit, used) = Edit::decode(bytes)?;
            self.check(&edit)?;
            bytes = &bytes[used..];
            let new = |deadline: Option<_>| deadline.map_or(NewDeadline::None, NewDeadline::At);
            let access = self.last_access.get();
            match edit {
                Edit::Put { db, key, value, deadline } => {
                    let text = value.to_bytes();
                    let value = StringRef::from_bytes(&text);
                    self.store.put(db, self.store.hash(key), key, value, new(deadline), access);
                }
                Edit::PutCollection { db, key, kind, is_large: _, changes, deadline } => {
                    let changes = if kind == Kind::Set { without_form(changes) } else { changes };
                    let collection = NewCollection { kind, changes, thresholds };
                    self.store.put_collection(db, self.store.hash(key), key, collection, new(deadline), access);
                }
                Edit::Change { db, key, kind, changes } => {
                    let collection = NewCollection { kind, changes, thresholds };
                    self.store.change_collection(db, self.store.hash(key), key, collection, None);
                }
                Edit::Copy { .. }
                | Edit::Remove { .. }
                | Edit::SetDeadline { .. }
                | Edit::Splice { .. }
                | Edit::Rename { .. }
                | Edit::Flush { .. }
                | Edit::FlushAll
                | Edit::Nothing
                | Edit::Swap { .. } => unreachable!("an entry is exported as what puts it"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, contents, key, operate};
    use super::*;
    use crate::types::Thresholds;
    use crate::types::hash::HashChange;
    use crate::types::set::SetChange;
    use crate::units::Deadline;
    use crate::watches::Watcher;

    const DB: Db = Db(0);

    fn encoding(keyspace: &Keyspace, key: &[u8]) -> &'static str {
        keyspace.look(DB, key, NOW).expect("it is there").encoding().name()
    }

    #[test]
    fn content_stays_and_nobody_hears_of_it() {
        for seed in 0..6 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut keyspace = Keyspace::new(3, 42);
            for _ in 0..3 {
                (0..5000).for_each(|_| drop(operate(&mut keyspace, &mut random, 1000, NOW)));
                keyspace.take_edits(Vec::new());
                let watched: Vec<Vec<u8>> = (0..100).map(key).collect();
                watched.iter().for_each(|key| keyspace.watch(Watcher(1), DB, key, NOW));
                let figures = |keyspace: &Keyspace| {
                    let of = |db| (keyspace.digest(db), keyspace.len(db), keyspace.deadlines(db));
                    ((0..3).map(|db| of(Db(db))).collect::<Vec<_>>(), keyspace.next_deadline(NOW))
                };
                let before = figures(&keyspace);
                assert_eq!(keyspace.reload(), Ok(()));
                keyspace.check_invariants();
                assert_eq!(figures(&keyspace), before);
                assert_eq!((keyspace.edit_count(), keyspace.is_broken(Watcher(1), NOW)), (0, false));
                keyspace.unwatch(Watcher(1));
                let all = contents(&keyspace, DB);
                assert_eq!(keyspace.reload(), Ok(()));
                assert!(contents(&keyspace, DB) == all, "a second time changes no encoding");
            }
        }
    }

    #[test]
    fn values_come_out_in_the_form_that_new_ones_get() {
        let mut keyspace = Keyspace::new(1, 1);
        keyspace.put_text(DB, b"number", b"12", NewDeadline::None);
        keyspace.put_raw(DB, b"text", b"some", NewDeadline::At(Deadline::after(NOW, 5)));
        let mut changes = Vec::new();
        for field in [&b"a"[..], b"b", b"c"] {
            HashChange::Put { field, value: b"1" }.encode(&mut changes);
        }
        keyspace.put_collection(DB, b"small", Kind::Hash, &changes, NewDeadline::None);
        keyspace.set_thresholds(Thresholds { hash_entries: 2, ..Thresholds::default() });
        keyspace.put_collection(DB, b"large", Kind::Hash, &changes, NewDeadline::None);
        changes.clear();
        for member in [&b"1"[..], b"2", b"x"] {
            SetChange::Add { member }.encode(&mut changes);
        }
        SetChange::Remove { member: b"x" }.encode(&mut changes);
        keyspace.put_collection(DB, b"set", Kind::Set, &changes, NewDeadline::None);
        let keys = [&b"number"[..], b"text", b"small", b"large", b"set"];
        let encodings = |keyspace: &Keyspace| keys.map(|key| encoding(keyspace, key));
        assert_eq!(encodings(&keyspace), ["embstr", "raw", "listpack", "hashtable", "hashtable"]);
        assert_eq!(keyspace.reload(), Ok(()));
        assert_eq!(encodings(&keyspace), ["int", "embstr", "hashtable", "hashtable", "intset"]);
        keyspace.set_thresholds(Thresholds::default());
        assert_eq!(keyspace.reload(), Ok(()));
        assert_eq!(encodings(&keyspace), ["int", "embstr", "listpack", "listpack", "intset"]);
        assert_eq!(keyspace.deadlines(DB), 1);
    }

    #[test]
    fn the_time_of_the_last_access_stays() {
        let mut keyspace = Keyspace::new(1, 1);
        keyspace.put(DB, b"k", b"v", NewDeadline::None);
        keyspace.note_access(DB, b"k", 77);
        keyspace.put(DB, b"late", b"v", NewDeadline::None);
        keyspace.get(DB, b"late", NOW);
        assert_eq!(keyspace.reload(), Ok(()));
        let access = |key| keyspace.look(DB, key, NOW).map(|entry| entry.access());
        assert_eq!((access(b"k"), access(b"late")), (Some(77), Some(1000)));
    }
}

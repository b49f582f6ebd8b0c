//! Blocking commands (BLPOP, XREAD BLOCK): how a handler says that it wants to wait, and who waits for which of a shard's keys.
//!
//! A shard only gives hints: "try again". It holds nothing back for those who wait, and never runs their commands. Whether a
//! client still waits, and for how long, is known on the core of its connection, which answers each hint: the client was
//! served or has gone (`leave`), or tried in vain (`again`).
//!
//! Rule: whoever waits and is not told to try has nothing to find. So an edit that comes while a hint is under way is noted,
//! and is another hint after `again`; and a hint needs an edit, a registration, or the end of the one before in line: none
//! follows from a vain attempt alone, so nobody tries for ever.

mod marker;
#[cfg(test)]
mod tests;

pub use marker::{Awaited, Null, Readers, Wait, append_at_once, is_wait, timeout_ms, timeout_seconds};

use crate::keyspace::Edit;
use crate::types::Kind;
use crate::units::{Db, ShardId};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// A blocked client: the core of its connection, the connection there, and which of its waits this is, so that what comes late
/// is never taken for another one's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Waiter {
    pub front: ShardId,
    pub index: u32,
    pub generation: u32,
    pub number: u64,
}

/// The hint to try again. `at` counts a shard's hints: `again` says up to which the attempt in vain had heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wake {
    pub waiter: Waiter,
    pub at: u64,
}

/// What an edit's listener asks of the keyspace: the kind of collection at a key, expired or not.
pub(crate) trait Kinds {
    fn kind(&self, db: Db, key: &[u8]) -> Option<Kind>;
}

/// Who waits for which key. Trees, for the reasons that `Watches` has.
#[derive(Default, Debug)]
pub(crate) struct Waiting {
    databases: BTreeMap<Db, BTreeMap<Box<[u8]>, Line>>,
    waiters: BTreeMap<Waiter, Vec<Stand>>,
    /// Keys to be looked at, each once.
    due: Vec<(Db, Box<[u8]>)>,
    /// Numbers of places in lines, and of hints.
    arrivals: u64,
    hints: u64,
}

/// Where a waiter stands: database, key, place in the key's line.
type Stand = (Db, Box<[u8]>, u64);

/// Those who wait for one key, in the order of their coming.
#[derive(Default, Debug)]
struct Line {
    places: BTreeMap<u64, Place>,
    is_due: bool,
}

#[derive(Debug)]
struct Place {
    waiter: Waiter,
    kind: Kind,
    readers: Readers,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// `news`: shared readers have not seen what the last edit made of the key.
    Waits { news: bool },
    /// Was told to try; whether there was an edit since.
    Told { at: u64, edited: bool },
}

impl Waiting {
    /// Whether no edit could matter to anybody.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// How many wait here.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Puts a waiter at the end of the line for a key. It may be told to try at once: between its attempt and now there may
    /// have been an edit. Named twice, a key is waited for once.
    pub(crate) fn join(&mut self, waiter: Waiter, kind: Kind, readers: Readers, db: Db, key: &[u8]) {
        let places = self.waiters.entry(waiter).or_default();
        if places.iter().any(|(place_db, place_key, _)| *place_db == db && **place_key == *key) {
            return;
        }
        self.arrivals += 1;
        places.push((db, key.into(), self.arrivals));
        let standing = Standing::Waits { news: true };
        let line = self.databases.entry(db).or_default().entry(key.into()).or_default();
        line.places.insert(self.arrivals, Place { waiter, kind, readers, standing });
        line.mark_due(db, key, &mut self.due);
    }

    /// The waiter was served, or has gone: forgets it, and the next in line have their turn.
    pub(crate) fn leave(&mut self, waiter: Waiter) {
        for (db, key, place) in self.waiters.remove(&waiter).unwrap_or_default() {
            let keys = self.databases.get_mut(&db).expect("a waiter's database has lines");
            let line = keys.get_mut(&key).expect("a waiter's key has a line");
            line.places.remove(&place).expect("a waiter has its place in line");
            if !line.places.is_empty() {
                line.mark_due(db, &key, &mut self.due);
            } else {
                keys.remove(&key);
                if keys.is_empty() {
                    self.databases.remove(&db);
                }
            }
        }
    }

    /// The waiter tried in vain, having heard of hints up to `heard`. What was edited since is another hint.
    pub(crate) fn again(&mut self, waiter: Waiter, heard: u64) {
        for (db, key, place) in self.waiters.get(&waiter).into_iter().flatten() {
            let line = self.databases.get_mut(db).and_then(|keys| keys.get_mut(key));
            let line = line.expect("a waiter's key has a line");
            let place = line.places.get_mut(place).expect("a waiter has its place in line");
            match place.standing {
                Standing::Told { at, edited } if at <= heard => {
                    place.standing = Standing::Waits { news: edited };
                    if edited {
                        line.mark_due(*db, key, &mut self.due);
                    }
                }
                Standing::Told { .. } | Standing::Waits { .. } => {}
            }
        }
    }

    /// Takes in an edit, which the keyspace shows already. Who is told of it is decided later, once for all edits of a command.
    pub(crate) fn edited(&mut self, edit: &Edit<'_>) {
        match *edit {
            Edit::Put { db, key, .. }
            | Edit::PutCollection { db, key, .. }
            | Edit::Change { db, key, .. }
            | Edit::Remove { db, key }
            | Edit::Copy { to_db: db, to_key: key, .. } => self.key_edited(db, key),
            Edit::Rename { db, key, to_db, to_key } => {
                self.key_edited(db, key);
                self.key_edited(to_db, to_key);
            }
            Edit::Flush { db } => self.database_edited(db),
            Edit::FlushAll => {
                let databases: Vec<Db> = self.databases.keys().copied().collect();
                databases.into_iter().for_each(|db| self.database_edited(db));
            }
            Edit::Swap { a, b } => {
                self.database_edited(a);
                self.database_edited(b);
            }
            // Of strings, or of when a key goes, which is an edit of its own then.
            Edit::Splice { .. } | Edit::SetDeadline { .. } | Edit::Nothing => {}
        }
    }

    fn key_edited(&mut self, db: Db, key: &[u8]) {
        if let Some(line) = self.databases.get_mut(&db).and_then(|keys| keys.get_mut(key)) {
            line.note_edit(db, key, &mut self.due);
        }
    }

    fn database_edited(&mut self, db: Db) {
        let lines = self.databases.get_mut(&db).into_iter().flatten();
        lines.for_each(|(key, line)| line.note_edit(db, key, &mut self.due));
    }

    /// Whether `take_wakes` has something to look at.
    #[inline]
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Looks at the keys that edits, arrivals and departures concern, and says who is to try. A waiter of several keys is named
    /// with its last hint only if the hints come one after the other; more than one does no harm.
    pub(crate) fn take_wakes(&mut self, content: &impl Kinds, wakes: &mut Vec<Wake>) {
        for (db, key) in std::mem::take(&mut self.due) {
            // The last of the line may have left since.
            let Some(line) = self.databases.get_mut(&db).and_then(|keys| keys.get_mut(&key)) else { continue };
            line.is_due = false;
            line.tell(content.kind(db, &key), &mut self.hints, wakes);
        }
    }

    /// Panics unless lines and waiters name each other, and each due key stands in the list once.
    pub(crate) fn check_invariants(&self) {
        let mut of_lines = Vec::new();
        let mut due = 0;
        for (db, keys) in &self.databases {
            assert!(!keys.is_empty(), "a database without lines is kept");
            for (key, line) in keys {
                assert!(!line.places.is_empty(), "nobody waits for {key:?}");
                let listed = self.due.iter().filter(|(due_db, due_key)| (due_db, due_key) == (db, key)).count();
                assert_eq!(listed, line.is_due as usize, "{key:?} is not listed once if it is due");
                due += listed;
                of_lines.extend(line.places.iter().map(|(at, place)| (place.waiter, *db, key.clone(), *at)));
                line.check_told();
            }
        }
        assert!(due <= self.due.len());
        let mut of_waiters = Vec::new();
        for (waiter, places) in &self.waiters {
            assert!(!places.is_empty(), "a waiter waits for nothing");
            of_waiters.extend(places.iter().map(|(db, key, at)| (*waiter, *db, key.clone(), *at)));
        }
        of_lines.sort();
        of_waiters.sort();
        assert_eq!(of_lines, of_waiters, "lines and waiters differ on who waits for what");
    }
}

impl Line {
    fn mark_due(&mut self, db: Db, key: &[u8], due: &mut Vec<(Db, Box<[u8]>)>) {
        if !std::mem::replace(&mut self.is_due, true) {
            due.push((db, key.into()));
        }
    }

    fn note_edit(&mut self, db: Db, key: &[u8], due: &mut Vec<(Db, Box<[u8]>)>) {
        for place in self.places.values_mut() {
            match &mut place.standing {
                Standing::Waits { news } => *news = true,
                Standing::Told { edited, .. } => *edited = true,
            }
        }
        self.mark_due(db, key, due);
    }

    /// All shared readers that have not seen the last edit; and of each kind of value, and of each group, the first who takes, unless it
    /// was told before.
    fn tell(&mut self, found: Option<Kind>, hints: &mut u64, wakes: &mut Vec<Wake>) {
        let mut head_seen = false;
        let mut groups_seen: SmallVec<[u64; 4]> = SmallVec::new();
        for place in self.places.values_mut() {
            let may_try = match place.readers {
                Readers::Shared => true,
                Readers::Exclusive => found == Some(place.kind) && !std::mem::replace(&mut head_seen, true),
                Readers::Group(group) if found == Some(place.kind) => {
                    let is_first = !groups_seen.contains(&group);
                    groups_seen.push(group);
                    is_first
                }
                // Each gets an error.
                Readers::Group(_) => true,
            };
            let Standing::Waits { news } = place.standing else { continue };
            if may_try && news {
                *hints += 1;
                place.standing = Standing::Told { at: *hints, edited: false };
                match wakes.last_mut() {
                    Some(last) if last.waiter == place.waiter => last.at = *hints,
                    Some(_) | None => wakes.push(Wake { waiter: place.waiter, at: *hints }),
                }
            }
        }
    }

    /// Of those who take a kind of value, only the first may be under way.
    fn check_told(&self) {
        for kind in Kind::ALL {
            let takes = |place: &&Place| place.readers == Readers::Exclusive && place.kind == kind;
            let told = |place: &Place| matches!(place.standing, Standing::Told { .. });
            let later = self.places.values().filter(takes).skip(1);
            assert!(later.filter(|place| told(place)).count() == 0, "one was told to try before its turn");
        }
    }
}

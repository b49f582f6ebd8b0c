//! Which clients watch which keys (WATCH), and whose watch is broken. Knows keys by name and the hash they are given
//! with; whether one is live is the keyspace's to say, and when a client asks or stops asking, the server's.
//!
//! Rule: a watch is broken when its key was written since, though it be with the value it had; or when the key is no
//! longer what it was, live or not. What a watcher has broken holds no memory but its own mark.

use crate::keyspace::Edit;
use crate::units::Db;
use std::collections::BTreeMap;

/// A client's watch, by a number that the server gives and that no other watch of this shard has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Watcher(pub u64);

/// Trees throughout: nobody can choose keys that collide, the order is the same in every run, and what is let go
/// of goes back to the allocator.
#[derive(Default, Debug)]
pub(crate) struct Watches {
    keys: BTreeMap<Place, WatchedKey>,
    watchers: BTreeMap<Watcher, Watching>,
}

/// Where a watched key stands: by its hash, and a number to tell keys of one hash apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    hash: u64,
    number: u32,
}

#[derive(Debug)]
struct WatchedKey {
    db: Db,
    key: Box<[u8]>,
    /// At least one, with whether the key was live when they began.
    watchers: BTreeMap<Watcher, bool>,
}

#[derive(Debug)]
enum Watching {
    Intact(Vec<Place>),
    Broken,
}

/// A key as one watcher knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Watched<'a> {
    pub(crate) db: Db,
    pub(crate) key: &'a [u8],
    pub(crate) was_live: bool,
}

/// What the keyspace tells of an edit besides the edit: the hash of a key as given to `watch`, and whether there is
/// something at a key, expired or not.
pub(crate) trait Content {
    fn hash(&self, db: Db, key: &[u8]) -> u64;
    fn holds(&self, db: Db, key: &[u8]) -> bool;
}

impl Watches {
    /// Whether no edit could matter to anybody.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Begins to watch a key. One that is watched already stays as it was; nothing is added to a broken watch.
    pub(crate) fn watch(&mut self, watcher: Watcher, hash: u64, db: Db, key: &[u8], is_live: bool) {
        let watching = self.watchers.entry(watcher).or_insert_with(|| Watching::Intact(Vec::new()));
        let Watching::Intact(places) = watching else { return };
        let place = find(&self.keys, hash, db, key).unwrap_or_else(|| {
            let place = free_place(&self.keys, hash);
            self.keys.insert(place, WatchedKey { db, key: key.into(), watchers: BTreeMap::new() });
            place
        });
        let watchers = &mut self.keys.get_mut(&place).expect("found or inserted above").watchers;
        watchers.entry(watcher).or_insert_with(|| {
            places.push(place);
            is_live
        });
    }

    /// Forgets all that the watcher watches, and whether it is broken.
    pub(crate) fn unwatch(&mut self, watcher: Watcher) {
        match self.watchers.remove(&watcher) {
            Some(Watching::Intact(places)) => places.iter().for_each(|&place| self.leave(watcher, place)),
            Some(Watching::Broken) | None => {}
        }
    }

    /// The keys that the watcher watches; `None` when one of them was written since.
    pub(crate) fn intact(&self, watcher: Watcher) -> Option<impl Iterator<Item = Watched<'_>>> {
        let places = match self.watchers.get(&watcher) {
            Some(Watching::Broken) => return None,
            Some(Watching::Intact(places)) => places.as_slice(),
            None => &[],
        };
        Some(places.iter().map(move |place| {
            let watched = &self.keys[place];
            Watched { db: watched.db, key: &watched.key, was_live: watched.watchers[&watcher] }
        }))
    }

    /// Takes in an edit that `content` shows already.
    pub(crate) fn edited(&mut self, edit: &Edit<'_>, content: &impl Content) {
        match *edit {
            Edit::Put { db, key, .. }
            | Edit::PutCollection { db, key, .. }
            | Edit::SetDeadline { db, key, .. }
            | Edit::Splice { db, key, .. }
            | Edit::Copy { to_db: db, to_key: key, .. } => self.written(content.hash(db, key), db, key),
            // The last element may have gone, and the key with it.
            Edit::Change { db, key, .. } if content.holds(db, key) => self.written(content.hash(db, key), db, key),
            Edit::Change { db, key, .. } => self.removed(content.hash(db, key), db, key),
            Edit::Remove { db, key } => self.removed(content.hash(db, key), db, key),
            Edit::Rename { db, key, to_db, to_key } => {
                self.removed(content.hash(db, key), db, key);
                self.written(content.hash(to_db, to_key), to_db, to_key);
            }
            Edit::Flush { db } => self.break_where(|watched| watched.db == db && watched.was_live),
            Edit::FlushAll => self.break_where(|watched| watched.was_live),
            Edit::Nothing => {}
            // What had not been live is not changed by what isn't there either. Something there that has expired,
            // but was not removed yet, would do no harm; to take it for a change costs a client one more try.
            Edit::Swap { a, b } => self.break_where(|watched| {
                (watched.db == a || watched.db == b) && (watched.was_live || content.holds(watched.db, watched.key))
            }),
        }
    }

    /// The key was written, maybe with what it had.
    pub(crate) fn written(&mut self, hash: u64, db: Db, key: &[u8]) {
        self.break_key(hash, db, key, |_| true);
    }

    /// The key is gone. To those for whom it never was there, nothing changed: it had expired before they watched it.
    fn removed(&mut self, hash: u64, db: Db, key: &[u8]) {
        self.break_key(hash, db, key, |was_live| was_live);
    }

    fn break_key(&mut self, hash: u64, db: Db, key: &[u8], concerns: impl Fn(bool) -> bool) {
        let Some(place) = find(&self.keys, hash, db, key) else { return };
        let watchers = self.keys[&place].watchers.iter();
        let broken = watchers.filter(|(_, was_live)| concerns(**was_live)).map(|(watcher, _)| *watcher);
        self.break_all(broken.collect());
    }

    fn break_where(&mut self, concerns: impl Fn(Watched<'_>) -> bool) {
        let mut broken = Vec::new();
        for WatchedKey { db, key, watchers } in self.keys.values() {
            // Two questions for a key at most, however many watch it.
            let [fresh, live] = [false, true].map(|was_live| concerns(Watched { db: *db, key, was_live }));
            let of_key = watchers.iter().filter(|(_, was_live)| if **was_live { live } else { fresh });
            broken.extend(of_key.map(|(watcher, _)| *watcher));
        }
        self.break_all(broken);
    }

    /// Marks them, some of them maybe named more than once. They let go of their keys at once: a key that many watch
    /// and somebody writes all the time is no work after the first write.
    fn break_all(&mut self, watchers: Vec<Watcher>) {
        for watcher in watchers {
            self.unwatch(watcher);
            self.watchers.insert(watcher, Watching::Broken);
        }
    }

    fn leave(&mut self, watcher: Watcher, place: Place) {
        let watchers = &mut self.keys.get_mut(&place).expect("a watched key stays while it is watched").watchers;
        watchers.remove(&watcher).expect("a key knows who watches it");
        if watchers.is_empty() {
            self.keys.remove(&place);
        }
    }

    /// Panics unless keys and watchers name each other, each once, and every key stands at its hash.
    pub(crate) fn check_invariants(&self, content: &impl Content) {
        let (mut of_keys, mut of_watchers) = (Vec::new(), Vec::new());
        for (place, WatchedKey { db, key, watchers }) in &self.keys {
            assert!(!watchers.is_empty(), "nobody watches {key:?}");
            assert_eq!(place.hash, content.hash(*db, key), "{key:?} is not at its hash");
            assert_eq!(find(&self.keys, place.hash, *db, key), Some(*place), "{key:?} is there twice");
            of_keys.extend(watchers.keys().map(|watcher| (*watcher, *place)));
        }
        for (watcher, watching) in &self.watchers {
            match watching {
                Watching::Intact(places) => of_watchers.extend(places.iter().map(|place| (*watcher, *place))),
                Watching::Broken => {}
            }
        }
        of_keys.sort_unstable();
        of_watchers.sort_unstable();
        assert_eq!(of_keys, of_watchers, "keys and watchers differ on who watches what");
    }
}

fn find(keys: &BTreeMap<Place, WatchedKey>, hash: u64, db: Db, key: &[u8]) -> Option<Place> {
    let mut same_hash = keys.range(Place { hash, number: 0 }..=Place { hash, number: u32::MAX });
    same_hash.find(|(_, watched)| watched.db == db && *watched.key == *key).map(|(place, _)| *place)
}

/// The first number that no key of this hash has: hardly ever is there one.
fn free_place(keys: &BTreeMap<Place, WatchedKey>, hash: u64) -> Place {
    let mut place = Place { hash, number: 0 };
    while keys.contains_key(&place) {
        place.number += 1;
    }
    place
}

#[cfg(test)]
mod tests;

//! Watches through the commands that break them, against a twin that knows no index, and against the content itself.

use super::*;
use crate::call::{Args, Span};
use crate::commands::FAMILIES;
use crate::keyspace::{Keyspace, NewDeadline};
use crate::owner::{Caller, Owner};
use crate::reply::Protocol;
use crate::units::{Deadline, Now};

const ME: Watcher = Watcher(7);

struct Stage {
    owner: Owner,
    now: Now,
}

impl Stage {
    fn new() -> Stage {
        Stage { owner: Owner::new(4, 1), now: Now::at(1_700_000_000_000) }
    }
    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.owner.keyspace
    }
    fn advance(&mut self, ms: u64) {
        self.now = Now { steady_ms: self.now.steady_ms + ms, wall_ms: self.now.wall_ms + ms };
    }
    /// Words separated by spaces, `''` for an empty one; `1: GET a` runs in database 1.
    fn run(&mut self, line: &str) {
        let (db, line) = match line.split_once(": ") {
            Some((db, line)) => (db.parse().expect("a database"), line),
            None => (0, line),
        };
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for word in line.split(' ').map(|word| if word == "''" { "" } else { word }) {
            spans.push(Span { start: buffer.len() as u32, len: word.len() as u32 });
            buffer.extend_from_slice(word.as_bytes());
        }
        let args = Args::new(&buffer, &spans);
        let mut rows = FAMILIES.iter().flat_map(|rows| rows.iter());
        let row = rows.find(|row| row.name.as_bytes().eq_ignore_ascii_case(args.at(0))).expect("a command");
        assert!(row.accepts(args.len()), "arity of {line}");
        let caller = Caller { db: Db(db), now: self.now, protocol: Protocol::Resp2 };
        self.owner.execute(row, args, caller, &mut Vec::new());
    }
    fn watch(&mut self, key: &str) {
        let now = self.now;
        self.keyspace().watch(ME, Db(0), key.as_bytes(), now);
    }
    fn is_broken(&self) -> bool {
        self.owner.keyspace.is_broken(ME, self.now)
    }
}

/// What is run before `k` of database 0 is watched, and what then, with whether that breaks the watch.
/// As redis-server 7.0.15 has it, but for the last section.
const CASES: &[(&str, &str, bool)] = &[
    ("SET k v", "SET k v", true),
    ("SET k v", "GETSET k v", true),
    ("SET k v", "MSET a 1 k v", true),
    ("", "MSET a 1 k v", true),
    ("SET a 1", "MSETNX a 1 k v", false),
    ("SET k v", "SETNX k w", false),
    ("SET k v", "SET k w NX GET", false),
    ("", "SET k v XX", false),
    ("SET k v", "SET k v PXAT 1000", true),
    ("", "SET k v PXAT 1000", true),
    ("SET k v", "GET k", false),
    ("SET k v", "INCR k", false),
    ("SET k 1", "INCRBY k 0", true),
    ("SET k 1", "INCRBYFLOAT k 0", true),
    ("SET k v", "APPEND k ''", true),
    ("APPEND k v,APPEND k w", "APPEND k ''", true),
    ("", "APPEND k ''", true),
    ("SET k v", "SETRANGE k 0 ''", false),
    ("", "SETRANGE k 0 ''", false),
    ("SET k v", "SETRANGE k 0 v", true),
    ("SET k v", "SETBIT k 1 1", false),
    ("SET k 12", "SETBIT k 2 1", false),
    ("SET k v", "SETBIT k 0 1", true),
    ("", "SETBIT k 1 0", true),
    ("SET k v", "BITFIELD k SET u8 0 118", false),
    ("SET k v", "BITFIELD k SET u8 80 0", true),
    ("SET k v", "BITFIELD k INCRBY u8 0 0", false),
    ("SET k v", "BITFIELD k INCRBY u8 0 1", true),
    ("SET k v", "BITFIELD k OVERFLOW FAIL INCRBY u8 0 250", false),
    ("", "BITOP AND k x y", false),
    ("SET k v", "BITOP AND k x y", true),
    ("SET k v", "BITOP AND x k k", false),
    ("SET k v", "DEL k", true),
    ("", "DEL k", false),
    ("", "SET k v,DEL k", true),
    ("", "GETDEL k", false),
    ("", "GETEX k PXAT 1000", false),
    ("SET k v", "GETEX k PXAT 1000", true),
    ("SET k v", "GETEX k PERSIST", false),
    ("SET k v EX 100", "GETEX k PERSIST", true),
    ("SET k v PXAT 9999999999999", "PEXPIREAT k 9999999999999", true),
    ("SET k v PXAT 9999999999999", "PEXPIREAT k 9999999999998 GT", false),
    ("SET k v", "EXPIRE k -1", true),
    ("", "EXPIRE k 100", false),
    ("SET k v", "PERSIST k", false),
    ("SET k v EX 100", "PERSIST k", true),
    ("SET k v", "TOUCH k", false),
    ("SET k v", "RENAME k k", false),
    ("SET k v", "RENAME k j", true),
    ("SET j v", "RENAME j k", true),
    ("SET k v,SET j 1", "RENAMENX j k", false),
    ("SET k v", "COPY k j", false),
    ("SET j v", "COPY j k", true),
    ("SET j v,SET k v", "COPY j k", false),
    ("SET k v", "MOVE k 1", true),
    ("1: SET k v", "1: MOVE k 0", true),
    ("SET k v,1: SET k v", "1: MOVE k 0", false),
    ("SET k v", "1: SET k v", false),
    ("SET k v", "FLUSHDB", true),
    ("SET a v", "FLUSHDB", false),
    ("SET k v,1: SET k v", "1: FLUSHDB", false),
    ("SET k v", "1: FLUSHALL", true),
    ("SET a v", "FLUSHALL", false),
    ("SET k v", "SWAPDB 0 1", true),
    ("SET k v", "SWAPDB 0 1,SWAPDB 0 1", true),
    ("1: SET k v", "SWAPDB 0 1", true),
    ("1: SET k v", "SWAPDB 1 0", true),
    ("SET k v,1: SET k v", "SWAPDB 0 1", true),
    ("SET a v", "SWAPDB 0 1", false),
    ("SET k v", "SWAPDB 1 2", false),
    ("SET k v", "SWAPDB 0 0", false),
    // Redis tells nobody of the key that this makes. Here a key that appeared is a change.
    ("", "BITFIELD k OVERFLOW FAIL INCRBY u8 0 256", true),
];

/// As `CASES`, for a `k` that expired before it was watched and that nothing has removed yet.
const CASES_OF_EXPIRED: &[(&str, &str, bool)] = &[
    ("", "GET k", false),
    ("", "DEL k", false),
    ("", "EXPIRE k 100", false),
    ("", "SET k v", true),
    ("", "SET k v PXAT 1000", true),
    ("", "MSET k v", true),
    ("", "APPEND k v", true),
    ("", "SETRANGE k 0 v", true),
    ("", "SETBIT k 0 0", true),
    ("", "FLUSHDB", false),
    ("", "FLUSHALL", false),
    ("", "FLUSHDB,SET k v", true),
    ("SET j v", "RENAME j k", true),
    ("SET j v", "COPY j k REPLACE", true),
    ("", "SWAPDB 0 1", false),
    ("1: SET k v", "SWAPDB 0 1", true),
    // Redis looks at the clock, and sees no change. Here it takes until the expired key is removed, a tick or so.
    ("1: SET k v PX 5", "SWAPDB 0 1", true),
];

fn check(cases: &[(&str, &str, bool)], expired: bool, logging: bool) {
    for &(before, then, breaks) in cases {
        let mut stage = Stage::new();
        stage.keyspace().set_logging(logging);
        if expired {
            stage.run("SET k old PX 5");
        }
        before.split(',').filter(|line| !line.is_empty()).for_each(|line| stage.run(line));
        if expired {
            stage.advance(5);
        }
        stage.watch("k");
        assert!(!stage.is_broken());
        then.split(',').for_each(|line| stage.run(line));
        assert_eq!(stage.is_broken(), breaks, "after {before:?}, {then:?}; expired {expired}, logging {logging}");
        stage.keyspace().check_invariants();
    }
}

#[test]
fn a_watch_is_broken_by_what_breaks_it_in_redis() {
    check(CASES, false, true);
    check(CASES_OF_EXPIRED, true, true);
}

#[test]
fn a_watch_is_broken_without_a_log_as_with_one() {
    check(CASES, false, false);
    check(CASES_OF_EXPIRED, true, false);
}

#[test]
fn a_key_that_expires_breaks_its_watch_removed_or_not() {
    let mut stage = Stage::new();
    stage.run("SET k v PX 5");
    stage.watch("k");
    stage.advance(4);
    assert!(!stage.is_broken());
    stage.advance(1);
    assert!(stage.is_broken());
    let now = stage.now;
    assert_eq!(stage.keyspace().expire_due(now, 10), 1);
    assert!(stage.is_broken());
}

#[test]
fn the_removal_of_what_had_expired_breaks_nothing() {
    let mut stage = Stage::new();
    stage.run("SET k v PX 5");
    stage.advance(5);
    stage.watch("k");
    let now = stage.now;
    assert_eq!(stage.keyspace().expire_due(now, 10), 1);
    assert!(!stage.is_broken());
    stage.run("SETNX k v");
    assert!(stage.is_broken());
}

#[test]
fn what_others_bring_breaks_a_watch() {
    let mut source = Keyspace::new(4, 2);
    source.put(Db(0), b"k", b"v", NewDeadline::None);
    for adopt in [true, false] {
        let mut stage = Stage::new();
        stage.watch("k");
        let put = source.export(Db(0), b"k").expect("it was put");
        if adopt { stage.keyspace().adopt(&put) } else { stage.keyspace().replay(&put) }.expect("a keyspace's own");
        assert!(stage.is_broken());
    }
}

#[test]
fn a_watch_ends_with_unwatch_and_a_new_one_starts_anew() {
    let mut stage = Stage::new();
    stage.watch("k");
    stage.run("SET k v");
    stage.watch("j");
    assert!(stage.is_broken(), "a broken watch stays broken, whatever else is watched");
    stage.keyspace().unwatch(ME);
    assert!(!stage.is_broken());
    stage.watch("k");
    assert!(!stage.is_broken());
    stage.run("SET j v");
    assert!(!stage.is_broken());
}

#[test]
fn a_key_watched_twice_counts_from_the_first_time() {
    let mut stage = Stage::new();
    stage.run("SET k v PX 5");
    stage.watch("k");
    stage.advance(5);
    stage.watch("k");
    assert!(stage.is_broken());
}

/// Ten thousand of each: with anything quadratic in it, this would take minutes.
#[test]
fn many_watchers_of_one_key_and_many_keys_of_one_watcher_are_cheap() {
    const MANY: u64 = 10_000;
    let mut stage = Stage::new();
    let now = stage.now;
    let past = NewDeadline::At(Deadline::after(now, 0));
    for round in 0..3 {
        for number in 0..MANY {
            stage.keyspace().watch(Watcher(number), Db(0), b"k", now);
            stage.keyspace().put(Db(1), format!("{number}").as_bytes(), b"v", past);
            stage.keyspace().watch(Watcher(MANY), Db(1), format!("{number}").as_bytes(), now);
        }
        stage.keyspace().check_invariants();
        if round == 1 {
            (0..MANY).for_each(|_| stage.run("SET k v"));
            assert!((0..MANY).all(|number| stage.keyspace().is_broken(Watcher(number), now)));
        }
        assert_eq!(stage.keyspace().expire_due(now, usize::MAX), MANY as usize);
        assert!(!stage.keyspace().is_broken(Watcher(MANY), now), "all had expired before");
        (0..=MANY).for_each(|number| stage.keyspace().unwatch(Watcher(number)));
        stage.keyspace().check_invariants();
    }
}

#[test]
fn nothing_is_kept_for_those_who_have_let_go() {
    let mut watches = Watches::default();
    for number in 0..100 {
        // Few hashes: keys that share one are told apart.
        watches.watch(Watcher(number % 9), number % 5, Db(0), &[number as u8], number % 2 == 0);
    }
    watches.written(3, Db(0), &[4]);
    watches.written(3, Db(0), &[3]);
    assert!(watches.intact(Watcher(4)).is_some() && watches.intact(Watcher(3)).is_none());
    (0..9).for_each(|number| watches.unwatch(Watcher(number)));
    assert!(watches.is_empty() && watches.keys.is_empty() && watches.watchers.is_empty());
}

/// What a watcher saw of a key: enough to tell whether it is another one now.
type Seen = Option<(Vec<u8>, Option<Deadline>)>;

/// Watches as a list, looked through from end to end.
#[derive(Default)]
struct Twin {
    watches: Vec<(Watcher, Db, Vec<u8>, Seen)>,
    broken: Vec<Watcher>,
}

impl Twin {
    fn watch(&mut self, watcher: Watcher, db: Db, key: &[u8], seen: Seen) {
        let known = self.watches.iter().any(|(w, d, k, _)| (*w, *d, k.as_slice()) == (watcher, db, key));
        if !known {
            self.watches.push((watcher, db, key.to_vec(), seen));
        }
    }
    fn unwatch(&mut self, watcher: Watcher) {
        self.watches.retain(|(w, ..)| *w != watcher);
        self.broken.retain(|w| *w != watcher);
    }
    fn edited(&mut self, edit: Edit<'_>, keyspace: &Keyspace) {
        for (watcher, db, key, seen) in &self.watches {
            let named = match edit {
                Edit::Copy { to_db, to_key, .. } => (to_db, to_key) == (*db, key.as_slice()),
                _ => edit.keys().contains(&Some((*db, key.as_slice()))),
            };
            let vacates = match edit {
                Edit::Remove { .. } => true,
                Edit::Rename { db: from, key: from_key, .. } => (from, from_key) == (*db, key.as_slice()),
                _ => false,
            };
            let breaks = match edit {
                Edit::FlushAll => seen.is_some(),
                Edit::Nothing => false,
                Edit::Flush { db: flushed } => seen.is_some() && flushed == *db,
                Edit::Swap { a, b } => [a, b].contains(db) && (seen.is_some() || keyspace.export(*db, key).is_some()),
                _ => named && (!vacates || seen.is_some()),
            };
            if breaks && !self.broken.contains(watcher) {
                self.broken.push(*watcher);
            }
        }
    }
    fn is_broken(&self, watcher: Watcher, keyspace: &Keyspace, now: Now) -> bool {
        let own = || self.watches.iter().filter(|(w, ..)| *w == watcher);
        let broken = self.broken.contains(&watcher)
            || own().any(|(_, db, key, seen)| see(keyspace, *db, key, now).is_some() != seen.is_some());
        // The rules above are the code's own. This one isn't: whoever can see a change must have been told.
        assert!(broken || own().all(|(_, db, key, seen)| see(keyspace, *db, key, now) == *seen), "unnoticed");
        broken
    }
}

fn see(keyspace: &Keyspace, db: Db, key: &[u8], now: Now) -> Seen {
    let entry = keyspace.peek(db, key, now)?;
    Some((entry.string().expect("all are strings").to_bytes().into_owned(), entry.deadline()))
}

fn random_command(random: &mut fastrand::Rng) -> String {
    let db = random.u16(..3);
    let mut key = || format!("k{}", random.u8(..12));
    let (a, b) = (key(), key());
    let ms = random.u32(1..40);
    let line = match random.u8(..60) {
        0..8 => format!("SET {a} {ms}"),
        8..16 => format!("SET {a} v PX {ms}"),
        16..19 => format!("SET {a} v NX"),
        19..21 => format!("APPEND {a} tail"),
        21..23 => format!("SETRANGE {a} 3 x"),
        23..30 => format!("DEL {a}"),
        30..33 => format!("PEXPIRE {a} {ms} GT"),
        33..36 => format!("PEXPIRE {a} {ms}"),
        36..38 => format!("PERSIST {a}"),
        38..42 => format!("RENAME {a} {b}"),
        42..44 => format!("COPY {a} {b} DB {} REPLACE", random.u16(..3)),
        44..46 => format!("MOVE {a} {}", random.u16(..3)),
        46..48 => format!("SWAPDB {} {}", random.u16(..3), random.u16(..3)),
        48 => "FLUSHDB".to_string(),
        49 => ["FLUSHDB", "FLUSHALL"][random.usize(..2)].to_string(),
        50..54 => format!("MSET {a} 1 {b} 2"),
        54 => format!("BITOP NOT {a} {b}"),
        _ => format!("INCR {a}"),
    };
    format!("{db}: {line}")
}

#[test]
fn watches_do_what_a_naive_twin_does() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        // The second runs without a log, and must not differ.
        let (mut stage, mut unlogged, mut twin) = (Stage::new(), Stage::new(), Twin::default());
        unlogged.keyspace().set_logging(false);
        let (mut broken, mut intact) = (0, 0);
        for _ in 0..3000 {
            let now = stage.now;
            let (watcher, db) = (Watcher(random.u64(..6)), Db(random.u16(..3)));
            match random.u8(..20) {
                0..6 => {
                    let key = format!("k{}", random.u8(..12)).into_bytes();
                    twin.watch(watcher, db, &key, see(&stage.owner.keyspace, db, &key, now));
                    stage.keyspace().watch(watcher, db, &key, now);
                    unlogged.keyspace().watch(watcher, db, &key, now);
                }
                6..8 => {
                    twin.unwatch(watcher);
                    stage.keyspace().unwatch(watcher);
                    unlogged.keyspace().unwatch(watcher);
                }
                8 => {
                    let ms = random.u64(1..20);
                    [&mut stage, &mut unlogged].into_iter().for_each(|stage| stage.advance(ms));
                }
                9 => {
                    stage.keyspace().expire_due(now, usize::MAX);
                    unlogged.keyspace().expire_due(now, usize::MAX);
                }
                _ => {
                    let line = random_command(&mut random);
                    [&mut stage, &mut unlogged].into_iter().for_each(|stage| stage.run(&line));
                }
            }
            let edits = stage.keyspace().take_edits(Vec::new());
            let mut rest = edits.as_slice();
            while !rest.is_empty() {
                let (edit, used) = Edit::decode(rest).expect("a keyspace's own edit");
                twin.edited(edit, &stage.owner.keyspace);
                rest = &rest[used..];
            }
            for watcher in (0..6).map(Watcher) {
                let expected = twin.is_broken(watcher, &stage.owner.keyspace, stage.now);
                assert_eq!(stage.owner.keyspace.is_broken(watcher, stage.now), expected);
                assert_eq!(unlogged.owner.keyspace.is_broken(watcher, stage.now), expected);
                *if expected { &mut broken } else { &mut intact } += 1;
            }
            stage.keyspace().check_invariants();
        }
        assert!(broken > 1000 && intact > 1000, "{broken} broken, {intact} intact: too much of one kind");
    }
}

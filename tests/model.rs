//! A shard against the simplest model of itself: a map of strings and deadlines with a clock of its own.
//! Also, for commands of all families: the edits a shard wrote, replayed into an empty keyspace, give the same content,
//! and so does a moment that was frozen while commands went on.
//!
//! `SHARDIS_MODEL_OPERATIONS=1000000` for the long form, `SHARDIS_MODEL_SEED=n` to repeat a run.

mod support;

use fastrand::Rng;
use shards::keyspace::Keyspace;
use shards::types::Thresholds;
use shards::units::Db;
use std::collections::HashMap;
use support::Resp;
use support::commands::{Generator, carry, is_carry};
use support::script::Target;
use support::shard::Shard;

#[test]
fn a_shard_behaves_as_a_map_of_strings_with_deadlines() {
    let operations = support::from_env("SHARDIS_MODEL_OPERATIONS", 30_000);
    let seed = support::seed("SHARDIS_MODEL_SEED");
    let mut rng = Rng::with_seed(seed);
    let mut shard = Shard::new(seed);
    let mut model = Model { values: HashMap::new(), now_ms: shard.now.steady_ms };
    // Another seed: content, and so the digest, must not depend on how keys are hashed.
    let mut replica = Keyspace::new(16, seed ^ 1);
    let mut trace: Vec<String> = Vec::new();
    for step in 0..operations {
        if rng.u32(..12) == 0 {
            pass_time(&mut rng, &mut shard, &mut model);
        }
        let line = operation(&mut rng);
        trace.push(line.clone());
        let (got, expected) = (shard.line(&line), model.execute(&line));
        let recent = &trace[trace.len().saturating_sub(30)..];
        assert!(got == expected, "step {step} of seed {seed}: {recent:#?}\nshard: {got}\nmodel: {expected}");
        replay(&mut shard, &mut replica);
        if step % 500 == 0 {
            assert_eq!(shard.owner.keyspace.digest(Db(0)), replica.digest(Db(0)), "step {step} of seed {seed}");
            assert_eq!(shard.owner.keyspace.len(Db(0)), replica.len(Db(0)), "step {step} of seed {seed}");
        }
    }
    while shard.owner.keyspace.expire_due(shard.now, 7) > 0 {}
    replay(&mut shard, &mut replica);
    model.forget_due();
    assert_eq!(shard.owner.keyspace.len(Db(0)), model.values.len(), "live keys at the end of seed {seed}");
    assert_eq!(shard.owner.keyspace.digest(Db(0)), replica.digest(Db(0)), "the end of seed {seed}");
}

#[test]
fn the_same_seed_gives_the_same_edits() {
    let run = || {
        let (mut rng, mut shard) = (Rng::with_seed(7), Shard::new(7));
        let mut edits = Vec::new();
        for _ in 0..2_000 {
            shard.line(&operation(&mut rng));
            shard.now.steady_ms += rng.u64(..50);
            shard.owner.keyspace.expire_due(shard.now, 3);
            edits.extend(shard.owner.keyspace.take_edits(Vec::new()));
        }
        edits
    };
    let (first, second) = (run(), run());
    assert!(!first.is_empty(), "nothing was written");
    assert!(first == second, "two runs of one seed differ");
}

#[test]
fn edits_of_every_family_give_the_same_content_elsewhere() {
    let operations = support::from_env("SHARDIS_MODEL_OPERATIONS", 30_000);
    let seed = support::seed("SHARDIS_MODEL_SEED");
    let mut shard = Shard::new(seed);
    let mut generator = Generator::new(seed, false).with_newer();
    // Small collections are large here and there, and none of it shows.
    let mut replica = Keyspace::new(shard.owner.keyspace.databases(), seed ^ 1);
    let (few, many) = (few(), Thresholds::default());
    let few_here = generator.rng.bool();
    shard.owner.keyspace.set_thresholds(if few_here { few } else { many });
    replica.set_thresholds(if few_here { many } else { few });
    let (mut frozen, mut compared, mut expired) = (None, 0, 0);
    for step in 0..operations {
        expired += any_operation(&mut generator, &mut shard);
        replay(&mut shard, &mut replica);
        if step % 500 == 0 {
            assert_alike(&shard.owner.keyspace, &replica, &format!("step {step} of seed {seed}"));
        }
        if generator.rng.u32(..20) == 0 {
            let pieces = generator.rng.usize(1..4);
            let when = format!("step {step} of seed {seed}");
            compared += u32::from(go_on_saving(&mut frozen, &mut shard.owner.keyspace, pieces, &when));
        }
    }
    while shard.owner.keyspace.expire_due(shard.now, 7) > 0 {}
    replay(&mut shard, &mut replica);
    assert_alike(&shard.owner.keyspace, &replica, &format!("the end of seed {seed}"));
    // The other knows by itself what is due when.
    for _ in 0..20 {
        shard.now.steady_ms += generator.rng.u64(..4_000);
        shard.now.wall_ms += generator.rng.u64(..4_000);
        while shard.owner.keyspace.expire_due(shard.now, 7) > 0 {}
        while replica.expire_due(shard.now, 3) > 0 {}
        assert_alike(&shard.owner.keyspace, &replica, &format!("later, seed {seed}"));
    }
    assert!(compared > 0, "no moment was saved to its end");
    assert!(expired > 0, "no field of a hash expired by itself");
}

fn few() -> Thresholds {
    Thresholds {
        hash_entries: 5,
        hash_value_bytes: 20,
        list_node: 3,
        set_integers: 5,
        sorted_set_entries: 5,
        sorted_set_value_bytes: 20,
        ..Thresholds::default()
    }
}

/// A random command, or time that passes, or a deadline soon. How many fields of hashes were removed as they
/// were due, at least.
fn any_operation(generator: &mut Generator, shard: &mut Shard) -> usize {
    let mut expired = 0;
    let command = generator.command();
    match generator.rng.u32(..20) {
        _ if generator.rng.u32(..300) == 0 => {
            shard.execute(&many_elements(generator));
        }
        0 => {
            let (key, ms) = (generator.any_key(), generator.rng.u64(1..2000).to_string());
            shard.execute(&[b"PEXPIRE", &key[..], ms.as_bytes()]);
        }
        1 => {
            shard.now.steady_ms += generator.rng.u64(..400);
            // The wall clock is about where the ids of streams are, and steps back and forth.
            shard.now.wall_ms = generator.time_ms() + generator.rng.u64(..30);
            if generator.rng.bool() {
                let limit = generator.rng.usize(1..10);
                let keys = all_keys(&shard.owner.keyspace);
                let removed = shard.owner.keyspace.expire_due(shard.now, limit);
                expired = removed - (keys - all_keys(&shard.owner.keyspace)).min(removed);
            }
            shard.owner.keyspace.reclaim(1);
        }
        _ if is_carry(&command) => {
            carry(&command, |args| shard.execute(&args));
        }
        _ => {
            let reply = shard.call(&command).expect("a shard always answers");
            if reply.is_error() && reply.bytes().starts_with(b"NOGROUP") {
                // Made by chance only, there would hardly ever be one with all that it takes to have something pending.
                for (key, group) in (0..4).flat_map(|key| ["g", "h"].map(|group| (format!("x{key}"), group))) {
                    shard.line(&format!("XGROUP CREATE {key} {group} 0 MKSTREAM"));
                }
            }
        }
    }
    expired
}

fn all_keys(keyspace: &Keyspace) -> usize {
    (0..keyspace.databases()).map(|db| keyspace.len(Db(db))).sum()
}

/// So many that a large collection has many nodes, now and then more than a snapshot saves in one piece.
fn many_elements(generator: &mut Generator) -> support::Command {
    let rng = &mut generator.rng;
    let [name, key] = [["RPUSH", "l"], ["SADD", "s"], ["HSET", "h"], ["ZADD", "z"]][rng.usize(..4)];
    let count = if rng.u32(..20) == 0 { 5_000 } else { rng.usize(20..400) };
    let mut command = vec![name.into(), format!("{key}{}", rng.u32(..4)).into_bytes()];
    for _ in 0..count {
        let element = rng.u32(..10_000);
        if name == "ZADD" {
            command.push(rng.i32(-1_000..1_000).to_string().into_bytes());
        }
        command.push(if rng.bool() { element.to_string() } else { format!("element-{element:040}") }.into_bytes());
        if name == "HSET" {
            command.push(rng.u32(..).to_string().into_bytes());
        }
    }
    command
}

#[track_caller]
fn assert_alike(a: &Keyspace, b: &Keyspace, when: &str) {
    for db in (0..a.databases()).map(Db) {
        assert_eq!(a.len(db), b.len(db), "keys of {db:?}, {when}");
        assert_eq!(a.digest(db), b.digest(db), "digests of {db:?}, {when}");
    }
    a.check_invariants();
    b.check_invariants();
}

/// A moment that is being saved: what it was like, and what is saved of it.
struct Moment {
    digests: Vec<(usize, u64)>,
    saved: Vec<u8>,
}

fn digests(keyspace: &Keyspace) -> Vec<(usize, u64)> {
    (0..keyspace.databases()).map(Db).map(|db| (keyspace.len(db), keyspace.digest(db))).collect()
}

/// Freezes, or walks on; at the end of the walk, what it saved must be that moment. Whether it was the end.
fn go_on_saving(moment: &mut Option<Moment>, keyspace: &mut Keyspace, pieces: usize, when: &str) -> bool {
    let Some(running) = moment else {
        keyspace.freeze();
        *moment = Some(Moment { digests: digests(keyspace), saved: Vec::new() });
        return false;
    };
    let has_more = keyspace.walk_frozen(pieces);
    running.saved.extend(keyspace.take_frozen(Vec::new()).0);
    if has_more {
        return false;
    }
    let mut loaded = Keyspace::new(keyspace.databases(), keyspace.seed() ^ 2);
    loaded.replay_all(&running.saved).expect("what a shard saved can be read");
    loaded.check_invariants();
    assert!(digests(&loaded) == running.digests, "what was frozen, saved until {when}");
    *moment = None;
    true
}

/// Time goes on for both; sometimes the shard gets to removing what is due, sometimes not: nobody may notice.
fn pass_time(rng: &mut Rng, shard: &mut Shard, model: &mut Model) {
    let ms = rng.u64(..400);
    shard.now.steady_ms += ms;
    model.now_ms += ms;
    // Relative deadlines live on the steady clock: steps of the wall clock mean nothing to them.
    shard.now.wall_ms = shard.now.wall_ms.saturating_add_signed(rng.i64(-3_600_000..3_600_000));
    if rng.bool() {
        shard.owner.keyspace.expire_due(shard.now, rng.usize(1..10));
    }
}

fn replay(shard: &mut Shard, replica: &mut Keyspace) {
    let edits = shard.owner.keyspace.take_edits(Vec::new());
    let mut at = 0;
    while at < edits.len() {
        at += replica.replay(&edits[at..]).expect("a shard's own edits can be read");
    }
}

fn operation(rng: &mut Rng) -> String {
    let key = |rng: &mut Rng| format!("k{}", rng.u32(..25));
    let value = |rng: &mut Rng| match rng.u32(..4) {
        0 => rng.i64(-50..50).to_string(),
        1 => "v".repeat(rng.usize(1..80)),
        _ => format!("v{}", rng.u32(..1000)),
    };
    let ms = |rng: &mut Rng| rng.u64(1..2000);
    let (a, b) = (key(rng), key(rng));
    match rng.u32(..26) {
        0..3 => format!("SET {a} {}", value(rng)),
        3 => format!("SET {a} {} KEEPTTL", value(rng)),
        4 | 5 => format!("SET {a} {} PX {}", value(rng), ms(rng)),
        6 => format!("SET {a} {} NX", value(rng)),
        7 => format!("SET {a} {} XX GET", value(rng)),
        8 => format!("GETSET {a} {}", value(rng)),
        9 => format!("GETDEL {a}"),
        10 => format!("GETEX {a} PX {}", ms(rng)),
        11 => format!("GETEX {a} PERSIST"),
        12..15 => format!("GET {a}"),
        15 => format!("STRLEN {a}"),
        16 => format!("APPEND {a} {}", value(rng)),
        17 => format!("INCRBY {a} {}", rng.i64(-9..9)),
        18 => format!("SETRANGE {a} {} xyz", rng.u32(..40)),
        19 => format!("DEL {a}"),
        20 => format!("PEXPIRE {a} {}", ms(rng)),
        21 => format!("PERSIST {a}"),
        22 => format!("PTTL {a}"),
        23 => format!("EXISTS {a}"),
        24 => format!("RENAME {a} {b}"),
        _ => format!("COPY {a} {b} REPLACE"),
    }
}

struct Model {
    values: HashMap<Vec<u8>, Item>,
    now_ms: u64,
}

#[derive(Clone)]
struct Item {
    value: Vec<u8>,
    deadline_ms: Option<u64>,
}

impl Model {
    fn forget_due(&mut self) {
        self.values.retain(|_, item| item.deadline_ms.is_none_or(|deadline| deadline > self.now_ms));
    }

    fn execute(&mut self, line: &str) -> Resp {
        self.forget_due();
        let words = line.split(' ').collect::<Vec<_>>();
        let key = words[1].as_bytes().to_vec();
        let old = self.values.get(&key).cloned();
        let old_bulk = || old.as_ref().map_or(Resp::Nil, |item| Resp::bulk(&item.value));
        let old_deadline = old.as_ref().and_then(|item| item.deadline_ms);
        let later = |word: &str| Some(self.now_ms + word.parse::<u64>().expect("milliseconds"));
        match words[0] {
            "GET" => old_bulk(),
            "STRLEN" => Resp::Integer(old.map_or(0, |item| item.value.len() as i64)),
            "EXISTS" => Resp::Integer(old.is_some() as i64),
            "PTTL" => match (old.is_some(), old_deadline) {
                (false, _) => Resp::Integer(-2),
                (true, None) => Resp::Integer(-1),
                (true, Some(deadline)) => Resp::Integer((deadline - self.now_ms) as i64),
            },
            "SET" => {
                let (blocked, deadline_ms, reply) = match words[3..] {
                    ["NX"] => (old.is_some(), None, if old.is_some() { Resp::Nil } else { Resp::ok() }),
                    ["XX", "GET"] => (old.is_none(), None, old_bulk()),
                    ["KEEPTTL"] => (false, old_deadline, Resp::ok()),
                    ["PX", ms] => (false, later(ms), Resp::ok()),
                    _ => (false, None, Resp::ok()),
                };
                if !blocked {
                    self.put(key, words[2], deadline_ms);
                }
                reply
            }
            "GETSET" => {
                self.put(key, words[2], None);
                old_bulk()
            }
            "GETDEL" => {
                self.values.remove(&key);
                old_bulk()
            }
            "DEL" => Resp::Integer(self.values.remove(&key).is_some() as i64),
            "GETEX" | "PEXPIRE" | "PERSIST" => {
                let deadline_ms = match words[0] {
                    "PERSIST" => None,
                    "PEXPIRE" => later(words[2]),
                    _ => words.get(3).and_then(|ms| later(ms)),
                };
                if let Some(item) = self.values.get_mut(&key) {
                    item.deadline_ms = deadline_ms;
                }
                match words[0] {
                    "PERSIST" => Resp::Integer(old_deadline.is_some() as i64),
                    "PEXPIRE" => Resp::Integer(old.is_some() as i64),
                    _ => old_bulk(),
                }
            }
            "APPEND" => {
                let item = self.values.entry(key).or_insert(Item { value: Vec::new(), deadline_ms: None });
                item.value.extend_from_slice(words[2].as_bytes());
                Resp::Integer(item.value.len() as i64)
            }
            "SETRANGE" => {
                let at: usize = words[2].parse().expect("an offset");
                let item = self.values.entry(key).or_insert(Item { value: Vec::new(), deadline_ms: None });
                item.value.resize(item.value.len().max(at + words[3].len()), 0);
                item.value[at..at + words[3].len()].copy_from_slice(words[3].as_bytes());
                Resp::Integer(item.value.len() as i64)
            }
            "INCRBY" => {
                let by: i64 = words[2].parse().expect("an increment");
                let text = old.as_ref().map_or("0".into(), |item| String::from_utf8_lossy(&item.value).into_owned());
                // Canonical text only, as Redis reads it.
                match text.parse::<i64>().ok().filter(|value| value.to_string() == text) {
                    None => Resp::Error(b"ERR value is not an integer or out of range".to_vec()),
                    Some(value) => {
                        self.put(key, &(value + by).to_string(), old_deadline);
                        Resp::Integer(value + by)
                    }
                }
            }
            "RENAME" | "COPY" => {
                let renames = words[0] == "RENAME";
                let to = words[2].as_bytes().to_vec();
                match old {
                    _ if !renames && key == to => {
                        Resp::Error(b"ERR source and destination objects are the same".to_vec())
                    }
                    None if renames => Resp::Error(b"ERR no such key".to_vec()),
                    None => Resp::Integer(0),
                    Some(item) => {
                        if renames {
                            self.values.remove(&key);
                        }
                        self.values.insert(to, item);
                        if renames { Resp::ok() } else { Resp::Integer(1) }
                    }
                }
            }
            other => panic!("the model doesn't know {other}"),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: &str, deadline_ms: Option<u64>) {
        self.values.insert(key, Item { value: value.as_bytes().to_vec(), deadline_ms });
    }
}

//! Payloads for RESTORE: those of the corpus, mutated, with a right checksum.

use super::corpus::{self, short_hash};
use super::without_panic;
use crate::support::shard::Shard;
use crate::support::{Command, Resp};
use fastrand::Rng;
use shards::keyspace::Keyspace;
use shards::rdb::{Payload, payload_of};
use shards::units::Db;
use std::collections::HashSet;

const AT_ONCE: usize = 200;
/// Version and checksum.
const FOOTER_BYTES: usize = 10;
const TYPES: u8 = 26;
/// The type of streams since 7.2.
const STREAM_WITH_ACTIVITY: u8 = 21;
const VERSIONS: [u16; 7] = [1, 6, 9, 10, 11, 12, 80];
/// What a value may grow to: as docs/compatibility.md has it, and as much again for what holds it.
const GROWTH: usize = 2 * 256;
const GROWTH_BYTES: usize = 2 * (64 << 20);

pub struct Payloads {
    rng: Rng,
    values: Vec<(Vec<u8>, u16)>,
    seen: HashSet<String>,
    tried: u64,
    restored: u64,
}

impl Payloads {
    pub fn new(seed: u64) -> Payloads {
        Payloads { rng: Rng::with_seed(seed), values: Vec::new(), seen: HashSet::new(), tried: 0, restored: 0 }
    }

    /// Everything that was kept.
    pub fn replay(&mut self) {
        for (name, payload) in corpus::payloads() {
            let what = self.try_one(&payload);
            assert!(!what.contains("checksum is wrong"), "{name}: {what}");
            let (value, footer) = payload.split_at(payload.len() - FOOTER_BYTES);
            self.values.push((value.to_vec(), u16::from_le_bytes([footer[0], footer[1]])));
            self.seen.insert(what);
        }
        assert!(self.restored > 10, "the corpus has values of all types");
    }

    pub fn some(&mut self) {
        for _ in 0..AT_ONCE {
            let (mut value, mut version) = self.values[self.rng.usize(..self.values.len())].clone();
            for _ in 0..[1, 1, 1, 2, 2, 4][self.rng.usize(..6)] {
                self.mutate(&mut value);
            }
            match self.rng.u32(..20) {
                0 => version = VERSIONS[self.rng.usize(..VERSIONS.len())],
                1 if !value.is_empty() => value[0] = self.rng.u8(..TYPES),
                _ => {}
            }
            let payload = payload_of(&value, version);
            let what = self.try_one(&payload);
            if self.seen.insert(what.clone()) {
                if corpus::keeps() {
                    corpus::keep_payload(&name_of(&payload), &payload);
                }
                self.values.push((value, version));
            }
        }
    }

    pub fn report(&self) {
        println!("{} payloads, {} restored, {} outcomes", self.tried, self.restored, self.seen.len());
    }

    fn try_one(&mut self, payload: &[u8]) -> String {
        self.tried += 1;
        let seed = self.rng.u64(..);
        match without_panic(|| restore(payload, seed)) {
            Ok((what, restored)) => {
                self.restored += u64::from(restored);
                what
            }
            Err(why) => {
                let name = name_of(payload);
                corpus::keep_payload(&name, payload);
                panic!("tests/corpora/rdb/{name}.hex: {why}");
            }
        }
    }

    fn mutate(&mut self, value: &mut Vec<u8>) {
        let rng = &mut self.rng;
        let len = value.len();
        if len == 0 {
            return value.push(rng.u8(..));
        }
        let at = rng.usize(..len);
        let end = rng.usize(at..=len.min(at + 16));
        match rng.u32(..12) {
            0 | 1 => value[at] ^= 1 << rng.u32(..8),
            2 | 3 => value[at] = rng.u8(..),
            4 => value[at] = value[at].wrapping_add(if rng.bool() { 1 } else { 255 }),
            5 => value[at] = [0, 1, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xf1, 0xfe, 0xff][rng.usize(..10)],
            6 => value.truncate(at),
            7 => drop(value.drain(at..end)),
            8 => {
                let copied = value[at..end].to_vec();
                let to = rng.usize(..=len);
                value.splice(to..to, copied);
            }
            9 => {
                let bytes = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect::<Vec<_>>();
                value.splice(at..at, bytes);
            }
            10 => {
                let width = [1, 2, 4, 8][rng.usize(..4)].min(len - at);
                let number = [0u64, 1, u64::MAX, u64::MAX >> 1, 1 << 31, 1 << 32, 1 << 20][rng.usize(..7)];
                let bytes = if rng.bool() { number.to_le_bytes() } else { number.to_be_bytes() };
                value[at..at + width].copy_from_slice(&bytes[..width]);
            }
            _ => {
                let (other, _) = &self.values[rng.usize(..self.values.len())];
                let from = rng.usize(..=other.len());
                value.truncate(at);
                value.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// A hash of all but the checksum, with which all have the same.
fn name_of(payload: &[u8]) -> String {
    format!("found-{}", short_hash(&payload[..payload.len() - FOOTER_BYTES]))
}

/// What became of it, for telling outcomes apart; and whether it was restored.
fn restore(payload: &[u8], seed: u64) -> Result<(String, bool), String> {
    let read = Payload::verify(payload).and_then(Payload::read);
    let mut shard = Shard::new(seed);
    let (empty, of_type) = (shard.owner.keyspace.bytes_used(), payload[0]);
    let reply = shard.execute(&[b"RESTORE", &b"k"[..], b"0", payload]);
    if reply != Resp::ok() {
        check(shard.owner.keyspace.edit_count() == 0, || "what is refused left an edit".into())?;
        let why = read.err().map_or(reply.text(), |error| error.to_string());
        let why: String = why.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        return Ok((why, false));
    }
    let bytes = shard.owner.keyspace.bytes_used() - empty;
    check(bytes <= payload.len() * GROWTH + GROWTH_BYTES, || {
        format!("{bytes} bytes of a payload of {}", payload.len())
    })?;
    let encoding = shard.line("OBJECT ENCODING k").text();
    same_elsewhere(&shard, seed)?;
    if of_type == STREAM_WITH_ACTIVITY {
        // DUMP is for Redis 7.0, which doesn't know when a consumer was last served: what comes back lacks it the first time.
        let payload = shard.line("DUMP k");
        check(shard.execute(&[b"RESTORE", &b"k"[..], b"0", payload.bytes(), b"REPLACE"]) == Resp::ok(), || {
            "refused".into()
        })?;
    }
    comes_back(&mut shard)?;
    use_it(&mut shard);
    same_elsewhere(&shard, seed)?;
    Ok((format!("{of_type}: {encoding}"), true))
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// All edits since the start make the same.
fn same_elsewhere(shard: &Shard, seed: u64) -> Result<(), String> {
    let keyspace = &shard.owner.keyspace;
    keyspace.check_invariants();
    let mut other = Keyspace::new(keyspace.databases(), seed ^ 1);
    other.replay_all(keyspace.edits()).map_err(|error| format!("edits that can't be read: {error}"))?;
    let (here, there) = (keyspace.digest(Db(0)), other.digest(Db(0)));
    check(here == there, || "the edits make something else".into())
}

/// What DUMP says of it gives the same, but for fields that had expired when they came.
fn comes_back(shard: &mut Shard) -> Result<(), String> {
    while shard.owner.keyspace.expire_due(shard.now, 100) > 0 {}
    let before = shard.owner.keyspace.digest(Db(0));
    let dumped = shard.line("DUMP k");
    let Resp::Bulk(payload) = dumped else { return Ok(()) };
    let reply = shard.execute(&[b"RESTORE", &b"k"[..], b"0", &payload, b"REPLACE"]);
    check(reply == Resp::ok(), || format!("what DUMP said of it is refused: {reply}"))?;
    check(before == shard.owner.keyspace.digest(Db(0)), || "what DUMP said of it is something else".into())
}

/// Reads it in every way there is for its type, and writes to it.
fn use_it(shard: &mut Shard) {
    let lines: &[&str] = match shard.line("TYPE k").text().as_str() {
        "string" => &["GET k", "BITCOUNT k", "PFCOUNT k", "APPEND k x", "SETRANGE k 3 y", "PFADD k a"],
        "list" => &[
            "LRANGE k 0 -1",
            "LINDEX k -1",
            "LPOS k a",
            "LINSERT k BEFORE a b",
            "LSET k 0 v",
            "LREM k 0 a",
            "RPOP k",
            "LTRIM k 1 -2",
            "SORT k ALPHA",
        ],
        "set" => {
            &["SMEMBERS k", "SRANDMEMBER k 5", "SADD k a 7 text", "SREM k a", "SMOVE k l 7", "SPOP k", "SSCAN k 0"]
        }
        "hash" => &[
            "HGETALL k",
            "HSTRLEN k f",
            "HSET k f w new 1",
            "HINCRBY k new 5",
            "HPEXPIRE k 100 FIELDS 2 f new",
            "HTTL k FIELDS 2 f g",
            "HPERSIST k FIELDS 1 f",
            "HDEL k f g",
            "HRANDFIELD k -5 WITHVALUES",
            "HSCAN k 0",
        ],
        "zset" => &[
            "ZRANGE k 0 -1 WITHSCORES",
            "ZRANGEBYSCORE k -inf +inf",
            "ZRANGEBYLEX k - +",
            "ZADD k 3 a 4 new",
            "ZINCRBY k 1 a",
            "ZRANK k new",
            "ZREMRANGEBYRANK k 0 0",
            "ZPOPMAX k",
            "GEOPOS k a",
            "ZSCAN k 0",
        ],
        _ => &[
            "XLEN k",
            "XRANGE k - +",
            "XREVRANGE k + -",
            "XADD k * f v",
            "XINFO STREAM k FULL",
            "XGROUP CREATE k g 0 MKSTREAM",
            "XGROUP CREATE k new 0",
            "XREADGROUP GROUP g bob COUNT 3 CLAIM 0 STREAMS k >",
            "XREADGROUP GROUP new a COUNT 3 STREAMS k >",
            "XPENDING k g - + 10",
            "XAUTOCLAIM k g eve 0 -",
            "XNACK k new FAIL IDS 1 1-1",
            "XTRIM k ACKED MAXLEN ~ 2",
            "XDELEX k DELREF IDS 2 1-1 1-2",
            "XTRIM k MAXLEN 1",
            "XDEL k 1-1",
        ],
    };
    let known = |line: &str| {
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        shards::commands::FAMILIES.iter().flat_map(|rows| rows.iter()).any(|row| row.name == name)
    };
    for line in lines.iter().filter(|line| known(line)) {
        shard.line(line);
    }
    let copy: Command = crate::support::client::command(&["COPY", "k", "copy"]);
    shard.execute(&copy);
}

//! Loads a keyspace and prints what an operation and a key cost:
//! `cargo run --release -p shards --example table_load -- [keys, millions as 1e6 allowed] [ttl]`.
//! Times are of the processor, per operation. Keys and values have 16 bytes. Memory is the growth of the resident set, with the system's allocator.

use shards::keyspace::{Edit, Keyspace, NewDeadline, StringRef};
use shards::random::Random;
use shards::units::{Db, Deadline, Now};
use std::time::Instant;

const DB: Db = Db(0);
/// Keys whose prefetches are under way together, as in a pipeline.
const BATCH: usize = 16;
const NOW: Now = Now { steady_ms: 1_000_000, wall_ms: 1_000_000 };

fn main() {
    let mut args = std::env::args().skip(1);
    let keys = args.next().map_or(1e6, |text| text.parse::<f64>().expect("a number of keys")) as u64;
    let ttl = args.next().is_some_and(|text| text == "ttl");
    let mut keyspace = Keyspace::new(16, 42);
    keyspace.set_logging(false);
    let resident = resident_bytes();

    measure("load", keys, |number| put(&mut keyspace, number, b"0123456789abcdef", ttl));
    let held = resident_bytes() - resident;
    println!(
        "{keys} keys{}: {:.1} bytes resident per key, {:.1} counted",
        if ttl { " with TTL" } else { "" },
        held as f64 / keys as f64,
        keyspace.bytes_used() as f64 / keys as f64
    );

    // Enough to see, and keeps large runs short.
    let operations = keys.min(2_000_000);
    let mut random = Random::new(7);
    measure("put over", operations, |_| put(&mut keyspace, random.below(keys), b"fedcba9876543210", ttl));
    measure("get", operations, |_| {
        assert!(keyspace.get(DB, &key(random.below(keys)), NOW).is_some());
    });
    measure("get absent", operations, |_| {
        assert!(keyspace.get(DB, &key(keys + random.below(keys)), NOW).is_none());
    });
    measure_batches("get, prefetched", operations, || {
        let batch: [_; BATCH] = std::array::from_fn(|_| key(random.below(keys)));
        let tickets = batch.each_ref().map(|key| keyspace.prefetch_bucket(DB, key.as_slice()));
        tickets.iter().for_each(|&ticket| keyspace.prefetch_entry(DB, ticket));
        assert!(batch.iter().all(|key| keyspace.get(DB, key, NOW).is_some()));
    });
    measure_batches("get, prefetched, hashed once", operations, || {
        let batch: [_; BATCH] = std::array::from_fn(|_| key(random.below(keys)));
        let tickets = batch.each_ref().map(|key| keyspace.prefetch_bucket(DB, key.as_slice()));
        tickets.iter().for_each(|&ticket| keyspace.prefetch_entry(DB, ticket));
        let get = |(key, &ticket): (&[u8; 16], _)| keyspace.get_prefetched(DB, key, ticket, NOW).is_some();
        assert!(batch.iter().zip(&tickets).all(get));
    });
    measure_batches("put over, prefetched", operations, || {
        let batch: [_; BATCH] = std::array::from_fn(|_| random.below(keys));
        let tickets = batch.map(|number| keyspace.prefetch_bucket(DB, &key(number)));
        tickets.iter().for_each(|&ticket| keyspace.prefetch_entry(DB, ticket));
        batch.iter().for_each(|&number| put(&mut keyspace, number, b"0123456789abcdef", ttl));
    });
    keyspace.flush(DB);
    let (mut longest, start) = (0, now());
    loop {
        let step = now();
        let more = keyspace.reclaim(1);
        longest = longest.max(step.elapsed().as_micros());
        if !more {
            break;
        }
    }
    println!("reclaim after flush: {:?}, longest step {longest} us", start.elapsed());
    drop(keyspace);
    replay(keys, ttl);
}

/// Sixteen bytes that look random but are distinct.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"k000000000000000";
    let mut rest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for digit in key.iter_mut().skip(1) {
        *digit = b"0123456789abcdef"[(rest >> 60) as usize];
        rest = rest.rotate_left(4);
    }
    key[0] = b"0123456789abcdef"[(rest >> 60) as usize];
    key
}

fn put(keyspace: &mut Keyspace, number: u64, value: &[u8; 16], ttl: bool) {
    let deadline = deadline(number, ttl).map_or(NewDeadline::None, NewDeadline::At);
    keyspace.put(DB, &key(number), value, deadline);
}

/// Within an hour, in no order.
fn deadline(number: u64, ttl: bool) -> Option<Deadline> {
    let ttl_ms = 1 + number.wrapping_mul(0x2545_f491_4f6c_dd1d) % 3_600_000;
    ttl.then(|| Deadline::after(NOW, ttl_ms))
}

/// Loads a keyspace as a start does, from the edits of a log.
fn replay(keys: u64, ttl: bool) {
    const EDITS_PER_RECORD: u64 = 1000;
    const RECORDS_AT_ONCE: u64 = 100;
    let mut keyspace = Keyspace::new(16, 43);
    let (mut records, mut spent) = (vec![Vec::new(); RECORDS_AT_ONCE as usize], 0);
    for first in (0..keys).step_by((EDITS_PER_RECORD * RECORDS_AT_ONCE) as usize) {
        for (index, record) in records.iter_mut().enumerate() {
            let first = first + index as u64 * EDITS_PER_RECORD;
            record.clear();
            for number in first..keys.min(first + EDITS_PER_RECORD) {
                let deadline = deadline(number, ttl);
                let value = StringRef::Bytes(b"0123456789abcdef");
                Edit::Put { db: DB, key: &key(number), value, deadline }.encode(record);
            }
        }
        let start = cpu_ns();
        records.iter().for_each(|record| keyspace.replay_all(record).expect("edits just made"));
        spent += cpu_ns() - start;
    }
    assert_eq!(keyspace.len(DB) as u64, keys);
    println!("replay: {:.0} ns", spent as f64 / keys as f64);
    replay_in_order(keyspace, keys);
}

/// Walks a keyspace as a snapshot does, and loads another from what comes out.
fn replay_in_order(mut keyspace: Keyspace, keys: u64) {
    let (mut records, mut spent, mut more) = (Vec::new(), 0, true);
    keyspace.freeze();
    while more {
        let buffer = Vec::with_capacity(64 << 10);
        let start = cpu_ns();
        more = keyspace.walk_frozen(3);
        records.push(keyspace.take_frozen(buffer).0);
        spent += cpu_ns() - start;
    }
    println!("walk: {:.0} ns", spent as f64 / keys as f64);
    let mut loaded = Keyspace::new(16, keyspace.seed());
    let start = cpu_ns();
    records.iter().for_each(|record| loaded.replay_all(record).expect("edits of a walk"));
    println!("replay in order: {:.0} ns", (cpu_ns() - start) as f64 / keys as f64);
    assert_eq!(loaded.digest(DB), keyspace.digest(DB));
}

fn measure(what: &str, operations: u64, mut operation: impl FnMut(u64)) {
    let start = cpu_ns();
    (0..operations).for_each(&mut operation);
    println!("{what}: {:.0} ns", (cpu_ns() - start) as f64 / operations as f64);
}

fn measure_batches(what: &str, operations: u64, mut batch: impl FnMut()) {
    let start = cpu_ns();
    (0..operations / BATCH as u64).for_each(|_| batch());
    println!("{what}: {:.0} ns", (cpu_ns() - start) as f64 / operations as f64);
}

/// Time on a processor: what others do on the machine counts less than in wall time.
fn cpu_ns() -> u64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").expect("Linux has /proc");
    times.split(' ').next().and_then(|text| text.parse().ok()).expect("it begins with nanoseconds")
}

#[allow(clippy::disallowed_methods)] // A measurement, not the shard.
fn now() -> Instant {
    Instant::now()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is in it");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes") << 10
}

//! The order of a pipeline, seen from outside. A writer pipelines `SET a i; SET b i` with a and b on different shards;
//! whoever saw b = i must then see a >= i, however it reads. Millions of pairs cost little here, because nothing is
//! recorded.

use super::settings::{Settings, keys_on};
use crate::support::client::{command, encode};
use crate::support::{Client, Resp};
use fastrand::Rng;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a reader gets b and then a.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    RoundTrips,
    OnePipeline,
    TwoConnections,
    /// Both at once: a may be one ahead of b, not more.
    Mget,
}

const READINGS: [Reading; 4] = [Reading::RoundTrips, Reading::OnePipeline, Reading::TwoConnections, Reading::Mget];

#[derive(Default, Debug)]
pub struct Count {
    pub pairs: u64,
    /// Pairs in which b was newer than the reader's last one: only those can show anything.
    pub moved: u64,
    pub violations: u64,
    pub first: Option<String>,
}

impl Count {
    #[track_caller]
    pub fn assert_clean(&self) {
        let Count { pairs, moved, violations, first } = self;
        assert!(first.is_none(), "{violations} of {pairs} pairs, the first: {}", first.clone().unwrap_or_default());
        assert!(*moved > 0, "nothing moved in {pairs} pairs");
    }
}

/// The keys of one writer.
#[derive(Clone)]
struct Pair {
    a: String,
    b: String,
}

pub fn hunt_order(port: u16, settings: &Settings) -> Count {
    // Both directions between two shards, and two more shards to have others in the way.
    let pairs = [(0, 1), (1, 0), (2, 5), (7, 0)].map(|(a, b)| {
        let keys = keys_on(&format!("order:{:x}:{a}{b}", settings.seed), &[a, b], settings.shards);
        Pair { a: keys[0].clone(), b: keys[1].clone() }
    });
    let over = AtomicBool::new(false);
    let mut all = Count::default();
    std::thread::scope(|scope| {
        for (pair, seed) in pairs.iter().zip(settings.seed..) {
            let over = &over;
            scope.spawn(move || write(port, pair, Rng::with_seed(seed), over));
        }
        let pairs = &pairs;
        let readers =
            READINGS.map(|reading| (reading, scope.spawn(move || read(port, reading, pairs, settings.pairs))));
        for (reading, reader) in readers {
            let Ok(count) = reader.join() else {
                over.store(true, Ordering::Relaxed);
                panic!("the reader by {reading:?} panicked");
            };
            println!("{reading:?}: {} pairs, {} moved, {} out of order", count.pairs, count.moved, count.violations);
            all.pairs += count.pairs;
            all.moved += count.moved;
            all.violations += count.violations;
            all.first = all.first.take().or(count.first);
        }
        over.store(true, Ordering::Relaxed);
    });
    all
}

fn write(port: u16, pair: &Pair, mut rng: Rng, over: &AtomicBool) {
    let mut client = Client::connect(port);
    let mut next = 1u64;
    while !over.load(Ordering::Relaxed) {
        let batch = rng.u64(1..6);
        let mut request = Vec::new();
        for value in (next..).take(batch as usize).map(|value| value.to_string()) {
            encode(&["SET", &pair.a, &value], &mut request);
            encode(&["SET", &pair.b, &value], &mut request);
        }
        client.send_raw(&request).expect("the server reads");
        for _ in 0..2 * batch {
            assert_eq!(client.read().expect("the server answers"), Resp::ok());
        }
        next += batch;
    }
}

fn read(port: u16, reading: Reading, pairs: &[Pair], wanted: u64) -> Count {
    let (mut first, mut second) = (Client::connect(port), Client::connect(port));
    let mut seen = vec![(0, 0); pairs.len()];
    let mut count = Count::default();
    while count.pairs < wanted {
        let index = count.pairs as usize % pairs.len();
        let Pair { a: key_a, b: key_b } = &pairs[index];
        let (b, a) = match reading {
            Reading::RoundTrips => (first.call(&["GET", key_b]), first.call(&["GET", key_a])),
            Reading::TwoConnections => (first.call(&["GET", key_b]), second.call(&["GET", key_a])),
            Reading::OnePipeline => {
                let mut request = Vec::new();
                [key_b, key_a].iter().for_each(|key| encode(&command(&["GET", key]), &mut request));
                first.send_raw(&request).expect("the server reads");
                (first.read().expect("the server answers"), first.read().expect("the server answers"))
            }
            Reading::Mget => {
                let both = first.call(&["MGET", key_b, key_a]);
                (both.items()[0].clone(), both.items()[1].clone())
            }
        };
        let (a, b) = (number(&a), number(&b));
        let (last_a, last_b) = seen[index];
        let wrong = a < b || a < last_a || b < last_b || (reading == Reading::Mget && a > b + 1);
        if wrong {
            count.violations += 1;
            let before = format!("before that, a = {last_a}, b = {last_b}");
            count.first.get_or_insert(format!("{reading:?}: b = {b}, then a = {a} ({key_b}, {key_a}; {before})"));
        }
        count.pairs += 1;
        count.moved += u64::from(b > last_b);
        seen[index] = (a.max(last_a), b.max(last_b));
    }
    count
}

fn number(reply: &Resp) -> u64 {
    match reply {
        Resp::Nil => 0,
        other => other.text().parse().unwrap_or_else(|_| panic!("GET of a number: {other}")),
    }
}

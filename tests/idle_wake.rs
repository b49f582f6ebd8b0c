//! Idle and wake: a core that went to sleep must be woken by every message, not found later by a timer.
//! Clients with random gaps, so that cores fall asleep all the time, read and write across shards.
//!
//! `SHARDIS_SOAK_SECONDS=3600` for the long form.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use fastrand::Rng;
use std::time::{Duration, Instant};
use support::{Resp, Server};

/// Far beyond any scheduling delay: a reply that takes this long was forgotten.
const STALL: Duration = Duration::from_secs(2);
const CLIENTS: u64 = 6;

#[test]
fn no_reply_is_forgotten_by_a_sleeping_core() {
    let soak = Duration::from_secs(support::from_env("SHARDIS_SOAK_SECONDS", 5));
    let seed = support::seed("SHARDIS_SOAK_SEED");
    // Parking at once is the harder case; spinning first is the default one.
    for spin in ["0", "50"] {
        let server = Server::shardis(&["--shards", "2", "--spin-us", spin]);
        let results = std::thread::scope(|scope| {
            let client = |id| {
                let port = server.port;
                scope.spawn(move || exchange(port, id, Rng::with_seed(seed ^ id), soak / 2))
            };
            let clients = (0..CLIENTS).map(client).collect::<Vec<_>>();
            clients.into_iter().map(|client| client.join().expect("no client panics")).collect::<Vec<_>>()
        });
        let exchanges: u64 = results.iter().map(|(count, _)| count).sum();
        let slowest = results.iter().map(|(_, slowest)| *slowest).max().expect("several clients");
        println!("spin {spin}: {exchanges} exchanges, slowest {slowest:?}");
        assert!(slowest < STALL, "seed {seed}, spin {spin}: a reply took {slowest:?}");
        if !support::server::subject_is_redis() {
            let stats = server.client().line("INFO stats").text();
            let field = stats.lines().find_map(|line| line.strip_prefix("backstop_found_work:"));
            assert_eq!(field.map(str::trim), Some("0"), "seed {seed}, spin {spin}: a wake was lost:\n{stats}");
        }
    }
}

/// How many exchanges, and the longest one.
fn exchange(port: u16, id: u64, mut rng: Rng, soak: Duration) -> (u64, Duration) {
    let mut client = support::Client::connect(port);
    let (start, mut exchanges, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < soak {
        // Short gaps meet a core about to park, long ones a core asleep.
        let gap = [0, rng.u64(..100), rng.u64(..2_000), rng.u64(..20_000)][rng.usize(..4)];
        std::thread::sleep(Duration::from_micros(gap));
        let key = |n: u32| format!("client{id}:{n}");
        let (a, b, value) = (key(rng.u32(..50)), key(rng.u32(50..100)), rng.u32(..).to_string());
        let sent = Instant::now();
        assert_eq!(client.call(&["SET", &a, &value]), Resp::ok());
        assert_eq!(client.call(&["GET", &a]), Resp::bulk(&value));
        if rng.u32(..4) == 0 {
            assert_eq!(client.call(&["MSET", &a, &value, &b, &value]), Resp::ok());
            let both = Resp::Array(vec![Resp::bulk(&value), Resp::bulk(&value)]);
            assert_eq!(client.call(&["MGET", &a, &b]), both);
        }
        slowest = slowest.max(sent.elapsed());
        exchanges += 1;
    }
    (exchanges, slowest)
}

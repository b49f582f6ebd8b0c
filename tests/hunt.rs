//! The hunt for anomalies: clients that conflict on purpose, their recorded histories, and the question whether any order
//! of all operations, one that keeps to real time, explains every answer (strict serializability). First the proof that
//! the checkers find bugs planted in a simulated store, and find nothing in correct ones, nor in redis-server.
//!
//! `scripts/hunt` for the long form.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod hunt {
    pub mod checker;
    pub mod crash;
    pub mod driver;
    pub mod footprint;
    pub mod history;
    pub mod model;
    pub mod pipelines;
    pub mod report;
    pub mod search;
    pub mod settings;
    pub mod store;
    pub mod workload;
}
mod support;

use hunt::checker::check;
use hunt::crash::{Kept, hunt_sets};
use hunt::history::{Form, History, NIL, Op, Token, Version};
use hunt::model::{Answer, Call};
use hunt::pipelines::hunt_order;
use hunt::report::{STEPS_MAX, hunt_histories, hunt_kills};
use hunt::search::{Verdict, search};
use hunt::settings::Settings;
use hunt::store::{BUGS, Bug, simulate};
use hunt::workload::{Mix, Writes};
use std::path::Path;
use support::Server;

const POLICIES: [&str; 3] = ["always", "everysec", "no"];

// ---- the checkers ----------------------------------------------------------------------------------------

#[test]
fn a_correct_store_is_never_reported() {
    let seed = support::seed("SHARDIS_HUNT_SEED");
    for mix in [Mix::registers(), Mix::lists(), Mix::everything()] {
        for seed in (0..60).map(|n| seed.wrapping_add(n)) {
            let history = simulate(Bug::None, &mix, seed, 6, 300);
            let cycle = check(&history);
            assert!(cycle.is_none(), "{:?} of seed {seed}: {}", mix.writes, cycle.unwrap_or_default());
            match search(&history, STEPS_MAX) {
                Verdict::Explained => {}
                Verdict::Impossible(why) => panic!("{:?} of seed {seed}: {why}", mix.writes),
                Verdict::Undecided => panic!("{:?} of seed {seed} is undecided", mix.writes),
            }
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    const SEEDS: u64 = 20;
    // The same ones every time: not every seed meets its bug, and no run of the tests should fail by bad luck.
    let seed = support::from_env("SHARDIS_HUNT_SEED", 1);
    for bug in BUGS {
        for mix in [Mix::registers(), Mix::lists(), Mix::everything()] {
            let (mut by_cycle, mut by_search) = (0, 0);
            for seed in (0..SEEDS).map(|n| seed.wrapping_add(n)) {
                let history = simulate(bug, &mix, seed, 6, 500);
                let (cycle, verdict) = (check(&history), search(&history, STEPS_MAX / 20));
                // What one finds the other may miss, but never deny.
                assert!(cycle.is_none() || verdict != Verdict::Explained, "{bug:?}, seed {seed}: {}", cycle.unwrap());
                by_cycle += u64::from(cycle.is_some());
                by_search += u64::from(matches!(verdict, Verdict::Impossible(_)));
            }
            println!("{bug:?} in {:?}: {by_cycle} by cycle, {by_search} by search, of {SEEDS}", mix.writes);
            // A few seeds don't meet the bug. Moved values leave gaps that only the search can fill.
            assert!(by_search * 10 >= SEEDS * 8, "{bug:?} in {:?}, from seed {seed}", mix.writes);
            assert!(by_cycle * 10 >= SEEDS * 8 || mix.writes == Writes::Both, "{bug:?}, from seed {seed}");
        }
    }
}

/// Two keys, x and y, and operations given as connection, start, end, calls with their answers. The first writes 1 to both.
fn told(ops: &[ToldOp]) -> History {
    let mut history = History { keys: vec!["x".into(), "y".into()], ..History::default() };
    (0..100).for_each(|number| assert_eq!(history.versions.child(NIL, Token(number)), only(number)));
    let first = (9, 1, 2, &[(Call::Mset(vec![(X, Token(1)), (Y, Token(1))]), Answer::Done)][..]);
    for (session, start, end, calls) in std::iter::once(&first).chain(ops) {
        let certain = calls.iter().all(|(_, answer)| *answer != Answer::Unknown);
        let (session, start, end, calls) = (*session, *start, *end, calls.to_vec());
        history.ops.push(Op { session, start, end, certain, form: Form::Single, calls });
    }
    history
}

type ToldOp<'a> = (u32, u64, u64, &'a [(Call, Answer)]);

const X: u8 = 0;
const Y: u8 = 1;

/// The value that SET of this token makes, in histories that are told.
fn only(number: u32) -> Version {
    Version(number + 1)
}

fn set(key: u8, number: u32) -> (Call, Answer) {
    (Call::Set(key, Token(number)), Answer::Done)
}

fn get(key: u8, number: u32) -> (Call, Answer) {
    (Call::Get(key), Answer::Value(only(number)))
}

#[track_caller]
fn assert_anomaly(history: &History, words: &[&str]) {
    let cycle = check(history).expect("a cycle is found");
    words.iter().for_each(|word| assert!(cycle.contains(word), "{word} is missing: {cycle}"));
    assert!(matches!(search(history, STEPS_MAX), Verdict::Impossible(_)));
}

#[track_caller]
fn assert_fine(history: &History) {
    assert_eq!(check(history), None);
    assert_eq!(search(history, STEPS_MAX), Verdict::Explained);
}

#[test]
fn a_cycle_is_told_with_its_operations_times_and_reasons() {
    let both = |number| [set(X, number), set(Y, number)];
    let torn = told(&[(0, 10, 20, &both(2)), (1, 15, 18, &[get(X, 2), get(Y, 1)])]);
    let words =
        ["connection 1, 0.015us..0.018us: GET x = [2]; GET y = [1]", "SET x 0000002", "not yet what was written"];
    assert_anomaly(&torn, &words);
    assert_fine(&told(&[(0, 10, 20, &both(2)), (1, 15, 18, &[get(X, 2), get(Y, 2)])]));
}

#[test]
fn a_read_is_stale_only_after_the_write_has_returned() {
    assert_anomaly(&told(&[(0, 10, 20, &[set(X, 2)]), (1, 21, 30, &[get(X, 1)])]), &["had returned before"]);
    assert_fine(&told(&[(0, 10, 20, &[set(X, 2)]), (1, 20, 30, &[get(X, 1)])]));
}

#[test]
fn readers_agree_on_the_order_of_concurrent_writes() {
    let writes = [(0, 10, 50, &[set(X, 2)][..]), (1, 10, 50, &[set(X, 3)][..])];
    let one_way = [(2, 20, 21, &[get(X, 2)][..]), (2, 22, 23, &[get(X, 3)][..])];
    let other_way = [(3, 20, 21, &[get(X, 3)][..]), (3, 22, 23, &[get(X, 2)][..])];
    assert_fine(&told(&[&writes[..], &one_way].concat()));
    assert_anomaly(&told(&[&writes[..], &one_way, &other_way].concat()), &["connection 2", "connection 3"]);
}

#[test]
fn a_write_without_a_reply_happened_once_or_never_and_not_after_its_end() {
    let cut_off = (0, 10, 20, &[(Call::Set(X, Token(2)), Answer::Unknown)][..]);
    assert_fine(&told(&[cut_off, (1, 30, 40, &[get(X, 1)]), (1, 50, 60, &[get(X, 1)])]));
    assert_fine(&told(&[cut_off, (1, 30, 40, &[get(X, 2)]), (1, 50, 60, &[get(X, 2)])]));
    assert_anomaly(&told(&[cut_off, (1, 30, 40, &[get(X, 1)]), (1, 50, 60, &[get(X, 2)])]), &["(no reply)"]);
    let any_time = (0, 10, u64::MAX, cut_off.3);
    assert_fine(&told(&[any_time, (1, 30, 40, &[get(X, 1)]), (1, 50, 60, &[get(X, 2)])]));
}

#[test]
fn the_commands_of_one_connection_take_effect_in_the_order_sent() {
    let pipeline = [(0, 10, 50, &[set(X, 2)][..]), (0, 10, 50, &[set(Y, 2)][..])];
    assert_fine(&told(&[&pipeline[..], &[(1, 20, 21, &[get(Y, 1)]), (1, 22, 23, &[get(X, 2)])]].concat()));
    let backwards = [(1, 20, 21, &[get(Y, 2)][..]), (1, 22, 23, &[get(X, 1)][..])];
    assert_anomaly(&told(&[&pipeline[..], &backwards].concat()), &["on the same connection"]);
}

// ---- redis-server, which runs one command after the other -----------------------------------------------

#[test]
fn redis_server_is_never_reported() {
    if support::redis_server().is_none() {
        return;
    }
    let settings = Settings::new();
    let server = Server::redis(&[]);
    for (what, mix) in [("registers", Mix::registers()), ("lists", Mix::lists()), ("everything", Mix::everything())] {
        let report = hunt_histories(&format!("redis-server, {what}"), server.port, &mix, &settings);
        report.assert_clean();
        assert!(report.committed > 0, "nothing was ever written under WATCH");
    }
}

#[test]
fn redis_server_runs_pipelines_in_order() {
    if support::redis_server().is_none() {
        return;
    }
    let settings = Settings::new();
    let count = hunt_order(Server::redis(&[]).port, &settings);
    count.assert_clean();
}

#[test]
fn redis_server_keeps_transactions_whole_over_kill_9() {
    if support::redis_server().is_none() {
        return;
    }
    let settings = Settings::new();
    // The other policies may lose what was acknowledged: a write waits for a sync that is under way.
    hunt_sets(redis_on, "always", Kept::Read, &settings).assert_clean();
    for mix in [Mix::registers(), Mix::lists(), Mix::everything()] {
        hunt_kills(redis_on, "always", Kept::Read, &mix, &settings).assert_clean();
    }
}

fn redis_on(dir: &Path, policy: &str, _settings: &Settings) -> Server {
    let dir = dir.to_str().expect("a path of ours is text");
    Server::redis(&["--dir", dir, "--appendonly", "yes", "--appendfsync", policy])
}

// ---- the server ------------------------------------------------------------------------------------------

fn hunt_in_server(what: &str, mix: &Mix) {
    let settings = Settings::new();
    let server = hunted_server(&settings);
    hunt_histories(what, server.port, mix, &settings).assert_clean();
    delay_lanes(&server, 300);
    hunt_histories(&format!("{what}, lanes delayed"), server.port, mix, &settings).assert_clean();
}

#[test]
fn registers_over_shards_are_strictly_serializable() {
    hunt_in_server("registers", &Mix::registers());
}

#[test]
fn lists_over_shards_are_strictly_serializable() {
    hunt_in_server("lists", &Mix::lists());
}

#[test]
fn all_commands_over_shards_are_strictly_serializable() {
    hunt_in_server("everything", &Mix::everything());
}

#[test]
fn pipelines_over_shards_take_effect_in_order() {
    let settings = Settings::new();
    let server = hunted_server(&settings);
    hunt_order(server.port, &settings).assert_clean();
    delay_lanes(&server, 100);
    // Keys of its own: what the first hunt had under way when its connections closed may still be run.
    let fewer = Settings { pairs: settings.pairs / 10, seed: settings.seed.wrapping_add(1), ..settings.clone() };
    hunt_order(server.port, &fewer).assert_clean();
}

fn hunted_server(settings: &Settings) -> Server {
    Server::shardis(&settings.flags(&["--enable-debug-command", "yes"]))
}

/// What crosses between cores waits for random times, so that orders come up that the machine's own timing never shows.
fn delay_lanes(server: &Server, microseconds: u32) {
    let reply = support::client::Client::connect(server.port).call(&["DEBUG", "LANE-DELAY", &microseconds.to_string()]);
    assert_eq!(reply, support::resp::Resp::ok());
}

#[test]
fn kill_9_tears_no_transaction_over_shards() {
    let settings = Settings::new();
    POLICIES.into_iter().for_each(|policy| hunt_sets(shardis_on, policy, kept(policy), &settings).assert_clean());
}

#[test]
fn histories_over_kill_9_are_strictly_serializable() {
    let settings = Settings::new();
    for policy in POLICIES {
        for mix in [Mix::registers(), Mix::lists(), Mix::everything()] {
            hunt_kills(shardis_on, policy, kept(policy), &mix, &settings).assert_clean();
        }
    }
}

/// Under `always` a client that saw a value finds it, or a later one, after the kill. Under the other policies a read may
/// be ahead of the log (docs/decisions/0003).
fn kept(policy: &str) -> Kept {
    if policy == "always" { Kept::Read } else { Kept::Acknowledged }
}

fn shardis_on(dir: &Path, policy: &str, settings: &Settings) -> Server {
    Server::shardis_in(dir, &settings.flags(&["--appendonly", "yes", "--appendfsync", policy]))
}

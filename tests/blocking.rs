//! Clients that wait for keys: who is served, in which order, and how a wait ends otherwise. Each scene is played on one shard, on three,
//! and on redis-server; then many clients at random, where each element has to reach exactly one of them.
//!
//! `SHARDIS_BLOCKING_ELEMENTS=200000` for the long form of the last, `SHARDIS_BLOCKING_SEED=n` to repeat a choice of commands.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use fastrand::Rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Resp, Server};

/// A server, and a client that never waits.
struct Scene {
    server: Server,
    other: Client,
}

impl Scene {
    fn client(&self) -> Client {
        self.server.client()
    }

    /// Sends a command that is to block, and waits until so many clients do.
    fn block(&mut self, client: &mut Client, line: &str, blocked: usize) {
        send(client, line);
        self.wait_for(blocked);
    }

    fn wait_for(&mut self, blocked: usize) {
        let start = Instant::now();
        while self.blocked() != blocked {
            assert!(start.elapsed() < support::HANG, "{} clients are blocked, not {blocked}", self.blocked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn blocked(&mut self) -> usize {
        let info = self.other.line("INFO clients").text();
        let line =
            info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).expect("INFO counts the blocked");
        line.parse().expect("a number")
    }

    fn does(&mut self, line: &str) -> String {
        self.other.line(line).to_string()
    }
}

fn send(client: &mut Client, line: &str) {
    let words = support::script::split_arguments(line).expect("a well-quoted command");
    let mut request = Vec::new();
    support::client::encode(&words, &mut request);
    client.send_raw(&request).expect("a connection takes a command");
}

fn heard(client: &mut Client) -> String {
    client.read().expect("a reply comes").to_string()
}

/// What a client reads of a list of bulk strings.
fn words(words: &[&str]) -> String {
    Resp::Array(words.iter().map(Resp::bulk).collect()).to_string()
}

fn play(scene: fn(&mut Scene)) {
    let shardis = ["1", "3"].map(|shards| Server::shardis(&["--shards", shards]));
    let redis = support::installed("redis-server").map(|_| Server::redis(&[]));
    for server in shardis.into_iter().chain(redis) {
        let other = server.client();
        scene(&mut Scene { server, other });
    }
}

#[test]
fn clients_of_one_key_are_served_in_the_order_in_which_they_came() {
    play(|scene| {
        let mut clients: Vec<Client> = (0..5).map(|_| scene.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            scene.block(client, ["BLPOP k 0", "BRPOP other k 0", "BLMPOP 0 1 k LEFT"][at % 3], at + 1);
        }
        scene.does("RPUSH k 0 1 2 3 4");
        for (at, client) in clients.iter_mut().enumerate() {
            let reply = heard(client);
            // Those on the right end take from there.
            let element = ["0", "4", "1", "2", "3"][at];
            assert!(reply.contains(&format!("\"{element}\"")), "client {at} got {reply}");
        }
        assert_eq!(scene.does("EXISTS k"), "(integer) 0");
        scene.wait_for(0);
    });
}

#[test]
fn whichever_of_its_keys_comes_serves_a_client_once() {
    play(|scene| {
        let mut client = scene.client();
        for key in ["a", "b", "c", "d"] {
            scene.block(&mut client, "BLPOP a b c d 0", 1);
            scene.does(&format!("RPUSH {key} x y"));
            assert_eq!(heard(&mut client), words(&[key, "x"]));
            assert_eq!(scene.does(&format!("LRANGE {key} 0 -1")), words(&["y"]));
            scene.does(&format!("DEL {key}"));
        }
        scene.wait_for(0);
    });
}

#[test]
fn a_wait_ends_with_its_time_with_null() {
    play(|scene| {
        let mut client = scene.client();
        for line in [
            "BLPOP a b 0.01",
            "BRPOP a 0.01",
            "BLMOVE a b LEFT LEFT 0.01",
            "BRPOPLPUSH a b 0.01",
            "BLMPOP 0.01 2 a b LEFT",
            "BZPOPMIN a b 0.01",
            "BZPOPMAX a 0.01",
            "BZMPOP 0.01 2 a b MIN",
        ] {
            assert_eq!(client.line(line), Resp::NilArray, "{line}");
        }
        assert_eq!(client.line("BLPOP a 0.000001"), Resp::NilArray);
        scene.wait_for(0);
    });
}

#[test]
fn client_unblock_ends_a_wait() {
    play(|scene| {
        let mut client = scene.client();
        let id = client.line("CLIENT ID").integer();
        let mut unblock = |scene: &mut Scene, how: &str| {
            scene.block(&mut client, "BLPOP a b 0", 1);
            assert!(scene.does("CLIENT LIST").contains("flags=b"), "a blocked client is marked");
            assert_eq!(scene.does(&format!("CLIENT UNBLOCK {id} {how}")), "(integer) 1");
            let reply = heard(&mut client);
            assert_eq!(client.line("PING").text(), "PONG");
            reply
        };
        assert_eq!(unblock(scene, "TIMEOUT"), "(nil array)");
        assert_eq!(unblock(scene, "ERROR"), "(error) UNBLOCKED client unblocked via CLIENT UNBLOCK");
        assert_eq!(scene.does(&format!("CLIENT UNBLOCK {id}")), "(integer) 0");
        assert_eq!(scene.does("CLIENT UNBLOCK 123456"), "(integer) 0");
        assert_eq!(scene.does("RPUSH a x"), "(integer) 1");
        assert_eq!(scene.does("LLEN a"), "(integer) 1");
    });
}

#[test]
fn nothing_is_popped_for_a_client_that_has_gone() {
    play(|scene| {
        let (mut gone, mut killed, mut waits) = (scene.client(), scene.client(), scene.client());
        let id = killed.line("CLIENT ID").integer();
        scene.block(&mut gone, "BLPOP a b 0", 1);
        scene.block(&mut killed, "BLPOP a 0", 2);
        scene.block(&mut waits, "BLPOP b a 0", 3);
        drop(gone);
        scene.wait_for(2);
        assert_eq!(scene.does(&format!("CLIENT KILL ID {id}")), "(integer) 1");
        scene.wait_for(1);
        scene.does("RPUSH a 1 2");
        assert_eq!(heard(&mut waits), words(&["a", "1"]));
        assert_eq!(scene.does("LRANGE a 0 -1"), words(&["2"]));
    });
}

#[test]
fn what_follows_a_blocking_command_waits_for_it() {
    play(|scene| {
        let mut client = scene.client();
        send(&mut client, "SET before 1");
        send(&mut client, "BLPOP a b 0");
        send(&mut client, "SET behind 1");
        send(&mut client, "EXISTS before behind");
        scene.wait_for(1);
        assert_eq!(scene.does("EXISTS before behind"), "(integer) 1");
        scene.does("RPUSH b x");
        let replies: Vec<String> = (0..4).map(|_| heard(&mut client)).collect();
        assert_eq!(replies, ["OK", &words(&["b", "x"]), "OK", "(integer) 2"]);
    });
}

#[test]
fn inside_multi_nobody_waits() {
    play(|scene| {
        let mut client = scene.client();
        for line in ["MULTI", "BLPOP a b 0", "BLMOVE a b LEFT LEFT 0", "BZMPOP 0 2 a b MIN", "RPUSH a x", "BLPOP b a 0"]
        {
            client.line(line);
        }
        let replies = client.line("EXEC");
        let replies: Vec<String> = replies.items().iter().map(Resp::to_string).collect();
        assert_eq!(replies, ["(nil array)", "(nil)", "(nil array)", "(integer) 1", &words(&["a", "x"])]);
        assert_eq!(scene.blocked(), 0);
    });
}

#[test]
fn an_element_that_comes_and_goes_in_one_transaction_wakes_nobody() {
    play(|scene| {
        let mut client = scene.client();
        scene.block(&mut client, "BLPOP a b 0", 1);
        for line in ["MULTI", "RPUSH a x", "RPUSH b y", "DEL a b", "EXEC"] {
            scene.does(line);
        }
        scene.does("PING");
        assert_eq!(scene.blocked(), 1);
        for line in ["MULTI", "RPUSH b 1", "RPUSH b 2", "LPOP b", "EXEC"] {
            scene.does(line);
        }
        assert_eq!(heard(&mut client), words(&["b", "2"]));
    });
}

#[test]
fn an_element_is_handed_on_through_a_chain_of_lists() {
    play(|scene| {
        let mut clients: Vec<Client> = (0..4).map(|_| scene.client()).collect();
        let lines = ["BLMOVE a b LEFT RIGHT 0", "BRPOPLPUSH b c 0", "BLMOVE c d RIGHT LEFT 0", "BLPOP d 0"];
        for (at, (client, line)) in clients.iter_mut().zip(lines).enumerate() {
            scene.block(client, line, at + 1);
        }
        scene.does("RPUSH a x");
        let replies: Vec<String> = clients.iter_mut().map(heard).collect();
        assert_eq!(replies, ["\"x\"", "\"x\"", "\"x\"", &words(&["d", "x"])]);
        assert_eq!(scene.does("EXISTS a b c d"), "(integer) 0");
    });
}

#[test]
fn a_value_of_another_type_serves_nobody() {
    play(|scene| {
        let (mut list, mut sorted_set) = (scene.client(), scene.client());
        scene.block(&mut list, "BLPOP k 0", 1);
        scene.block(&mut sorted_set, "BZPOPMIN k 0", 2);
        for line in ["SET k x", "DEL k", "SADD k x", "DEL k", "ZADD k 1 m"] {
            scene.does(line);
        }
        assert_eq!(heard(&mut sorted_set), words(&["k", "m", "1"]));
        assert_eq!(scene.blocked(), 1);
        scene.does("RPUSH k e");
        assert_eq!(heard(&mut list), words(&["k", "e"]));
        scene.does("SET k x");
        assert!(list.line("BLPOP nothing k 0").text().contains("WRONGTYPE"));
        // The source is there: the destination is of another type.
        scene.block(&mut list, "BLMOVE from k LEFT LEFT 0", 1);
        scene.does("RPUSH from e");
        assert!(heard(&mut list).contains("WRONGTYPE"));
        assert_eq!(scene.does("LLEN from"), "(integer) 1");
    });
}

#[test]
fn every_way_in_which_a_list_comes_to_a_key_serves_who_waits_there() {
    play(|scene| {
        let mut client = scene.client();
        let ways: [&[&str]; 7] = [
            &["RPUSH other 1", "RENAME other k"],
            &["RPUSH other 1", "COPY other k", "DEL other"],
            &["RPUSH other 1", "SORT other STORE k", "DEL other"],
            &["RPUSH other 1", "LMOVE other k LEFT LEFT"],
            &["SELECT 1", "RPUSH k 1", "MOVE k 0", "SELECT 0"],
            &["SELECT 1", "RPUSH k 1", "SWAPDB 0 1", "SELECT 0"],
            &["MULTI", "SET other x", "RPUSH k 1", "DEL other", "EXEC"],
        ];
        for way in ways {
            scene.block(&mut client, "BLPOP nothing k 0", 1);
            way.iter().for_each(|line| {
                scene.does(line);
            });
            assert_eq!(heard(&mut client), words(&["k", "1"]), "{way:?}");
            scene.does("FLUSHALL");
        }
    });
}

/// What XREAD and XREADGROUP reply for one stream, of entries with one field `f`.
fn entries(key: &str, found: &[(&str, &str)]) -> String {
    let entry = |(id, value): &(&str, &str)| {
        Resp::Array(vec![Resp::bulk(id), Resp::Array(vec![Resp::bulk("f"), Resp::bulk(value)])])
    };
    let found = Resp::Array(found.iter().map(entry).collect());
    Resp::Array(vec![Resp::Array(vec![Resp::bulk(key), found])]).to_string()
}

#[test]
fn all_who_read_a_stream_get_what_comes() {
    play(|scene| {
        let mut clients: Vec<Client> = (0..3).map(|_| scene.client()).collect();
        scene.does("XADD b 1-1 f old");
        for (at, client) in clients.iter_mut().enumerate() {
            scene.block(client, "XREAD COUNT 2 BLOCK 0 STREAMS a b c $ $ 0", at + 1);
        }
        for line in ["MULTI", "XADD b 2-1 f x", "XADD b 2-2 f y", "XADD b 2-3 f z", "EXEC"] {
            scene.does(line);
        }
        for client in &mut clients {
            assert_eq!(heard(client), entries("b", &[("2-1", "x"), ("2-2", "y")]));
        }
        assert_eq!(clients[0].line("XREAD BLOCK 10 STREAMS a b $ $"), Resp::NilArray);
        // What is there is replied in the order of the keys.
        scene.does("XADD a 1-1 f v");
        let reply = clients[1].line("XREAD BLOCK 0 COUNT 1 STREAMS c b a 0 0 0");
        let names: Vec<String> = reply.items().iter().map(|stream| stream.items()[0].text()).collect();
        assert_eq!(names, ["b", "a"]);
        scene.wait_for(0);
    });
}

#[test]
fn an_entry_goes_to_one_consumer_of_a_group() {
    play(|scene| {
        let mut clients: Vec<Client> = (0..3).map(|_| scene.client()).collect();
        for key in ["a", "b", "c"] {
            scene.does(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            scene.block(client, &format!("XREADGROUP GROUP g c{at} COUNT 1 BLOCK 0 STREAMS a b c > > >"), at + 1);
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let (id, value) = (format!("1-{}", at + 1), format!("v{at}"));
            scene.does(&format!("XADD b {id} f {value}"));
            assert_eq!(heard(client), entries("b", &[(&id, &value)]));
            scene.wait_for(2 - at);
        }
        assert_eq!(scene.does("XLEN b"), "(integer) 3");
        assert!(scene.does("XPENDING b g").starts_with("[\n  (integer) 3"));
    });
}

#[test]
fn a_consumer_whose_group_goes_gets_an_error() {
    play(|scene| {
        let mut client = scene.client();
        let ways = ["DEL a", "SET a x", "XGROUP DESTROY a g", "RENAME a elsewhere", "PEXPIRE a 1", "FLUSHALL"];
        for way in ways {
            scene.does("FLUSHALL");
            scene.does("XGROUP CREATE a g $ MKSTREAM");
            scene.does("XGROUP CREATE b g $ MKSTREAM");
            scene.block(&mut client, "XREADGROUP GROUP g c BLOCK 0 STREAMS b a > >", 1);
            scene.does(way);
            assert!(heard(&mut client).starts_with("(error)"), "{way}");
            scene.wait_for(0);
        }
    });
}

#[test]
fn where_one_of_several_groups_is_missing_nothing_is_delivered() {
    play(|scene| {
        for key in ["a", "b", "c", "d"] {
            scene.does(&format!("XADD {key} 1-1 f v"));
            if key != "d" {
                scene.does(&format!("XGROUP CREATE {key} g 0"));
            }
        }
        let reply = scene.does("XREADGROUP GROUP g c STREAMS a b c d > > > >");
        assert!(reply.starts_with("(error) NOGROUP No such key 'd'"), "{reply}");
        for key in ["a", "b", "c"] {
            assert!(scene.does(&format!("XPENDING {key} g")).starts_with("[\n  (integer) 0"), "{key}");
        }
        for line in
            ["MULTI", "XREADGROUP GROUP g c STREAMS a b d > > >", "XREADGROUP GROUP g c STREAMS a b > >", "SET k v"]
        {
            scene.does(line);
        }
        let reply = scene.other.line("EXEC");
        assert!(reply.items()[0].is_error());
        assert_eq!((reply.items()[1].items().len(), reply.items()[2].to_string()), (2, "OK".into()));
    });
}

#[test]
fn a_stop_does_not_wait_for_those_who_do() {
    for shards in ["1", "3"] {
        let server = Server::shardis(&["--shards", shards]);
        let other = server.client();
        let mut scene = Scene { server, other };
        let mut clients: Vec<Client> = (0..6).map(|_| scene.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            scene.block(client, "BLPOP a b c 0", at + 1);
        }
        let Scene { server, .. } = scene;
        let (status, _) = server.stop();
        assert!(status.success(), "{status}");
        for client in &mut clients {
            assert_eq!(client.read_to_close().expect("the server closes"), b"");
        }
    }
}

// ---- many at random --------------------------------------------------------------------------------------

const KEYS: usize = 6;
const CONSUMERS: usize = 12;
const PRODUCERS: usize = 3;

#[test]
fn each_element_reaches_exactly_one_of_many_clients() {
    let elements = support::from_env("SHARDIS_BLOCKING_ELEMENTS", 6_000) as usize;
    let seed = support::seed("SHARDIS_BLOCKING_SEED");
    for (shards, delay_us) in [("1", "0"), ("3", "0"), ("3", "2000")] {
        let server = Server::shardis(&["--shards", shards, "--enable-debug-command", "local"]);
        let mut other = server.client();
        other.call(&["DEBUG", "LANE-DELAY", delay_us]);
        // With delays each step takes milliseconds.
        let elements = if delay_us == "0" { elements } else { elements / 6 };
        let got = exchange(&server, elements, seed);
        let mut times: HashMap<String, usize> = HashMap::new();
        got.into_iter().for_each(|element| *times.entry(element).or_default() += 1);
        let twice = times.values().filter(|times| **times > 1).count();
        assert_eq!((times.len(), twice), (elements, 0), "{shards} shards, delay {delay_us}, seed {seed}");
    }
}

/// Producers push numbers, consumers wait for them, for short times and for ever, until all have come; what they got.
fn exchange(server: &Server, elements: usize, seed: u64) -> Vec<String> {
    let received = AtomicUsize::new(0);
    let port = server.port;
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let mut rng = Rng::with_seed(seed ^ producer as u64);
            scope.spawn(move || {
                let mut client = Client::connect(port);
                for element in (producer..elements).step_by(PRODUCERS) {
                    produce(&mut client, &mut rng, element);
                }
            });
        }
        let received = &received;
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|consumer| {
                let mut rng = Rng::with_seed(seed ^ 0xc0 ^ consumer as u64);
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    let mut got = Vec::new();
                    let mut last = Instant::now();
                    while received.load(Ordering::Relaxed) < elements {
                        let some = consume(&mut client, &mut rng);
                        if !some.is_empty() {
                            last = Instant::now();
                        }
                        assert!(last.elapsed() < support::HANG, "elements are pushed and nobody is told, seed {seed}");
                        received.fetch_add(some.len(), Ordering::Relaxed);
                        got.extend(some);
                    }
                    got
                })
            })
            .collect();
        consumers.into_iter().flat_map(|consumer| consumer.join().expect("a consumer ends")).collect()
    })
}

fn produce(client: &mut Client, rng: &mut Rng, element: usize) {
    let key = rng.usize(..KEYS);
    match rng.u8(..4) {
        0 => client.line(&format!("ZADD z{key} {element} {element}")),
        1 => {
            client.line("MULTI");
            client.line(&format!("SET s{} x", rng.usize(..KEYS)));
            client.line(&format!("LPUSH l{key} {element}"));
            client.line("EXEC")
        }
        2 => {
            client.line(&format!("RPUSH t{element} {element}"));
            client.line(&format!("LMOVE t{element} l{key} LEFT RIGHT"))
        }
        _ => client.line(&format!("RPUSH l{key} {element}")),
    };
}

/// One blocking command, and the elements that came of it. Its keys are all there are, in any order: whoever waits can be served.
fn consume(client: &mut Client, rng: &mut Rng) -> Vec<String> {
    let sorted = rng.u8(..4) == 0;
    let mut keys: Vec<String> = (0..KEYS).map(|key| format!("{}{key}", if sorted { 'z' } else { 'l' })).collect();
    rng.shuffle(&mut keys);
    let timeout = ["0.003", "0.02", "0.2"][rng.usize(..3)];
    let keys = keys.join(" ");
    let line = match (sorted, rng.u8(..3)) {
        (true, 0) => format!("BZMPOP {timeout} {KEYS} {keys} MIN COUNT 2"),
        (true, 1) => format!("BZPOPMAX {keys} {timeout}"),
        (true, _) => format!("BZPOPMIN {keys} {timeout}"),
        (false, 0) => format!("BLMPOP {timeout} {KEYS} {keys} RIGHT COUNT 3"),
        (false, 1) => format!("BRPOP {keys} {timeout}"),
        (false, _) => format!("BLPOP {keys} {timeout}"),
    };
    let reply = client.line(&line);
    let several = line.starts_with("BZMPOP") || line.starts_with("BLMPOP");
    match reply {
        Resp::NilArray => Vec::new(),
        reply if several => reply.items()[1].items().iter().map(element_of).collect(),
        reply => vec![element_of(&reply.items()[1])],
    }
}

/// A list's element, or the member of a pair with its score.
fn element_of(reply: &Resp) -> String {
    match reply {
        Resp::Array(pair) => pair[0].text(),
        element => element.text(),
    }
}

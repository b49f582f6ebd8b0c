//! Clients that are broken, greedy or hostile: they get an error or are cut off, memory stays bounded, and the other
//! clients don't notice.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Resp, Server, wait_until};

/// A PING of a well-behaved client, while others misbehave. Not a latency figure: a guard against starving.
const PING_MAX: Duration = Duration::from_secs(5);
const MIB: u64 = 1 << 20;

#[test]
fn malformed_requests_get_redis_errors_and_are_closed() {
    let server = Server::shardis(&["--shards", "2"]);
    // One byte more than an inline request may have, and no line end yet: all of it is read before the error.
    let long = vec![b'x'; (64 << 10) + 1];
    let cases: [(&[u8], &str); 14] = [
        (b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
        (b"*1\r\nPING\r\n", "ERR Protocol error: expected '$', got 'P'"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*2147483648\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1 \r\n", "ERR Protocol error: invalid multibulk length"),
        (b"SET \"a\r\n", "ERR Protocol error: unbalanced quotes in request"),
        (b"SET \"a\"b c\r\n", "ERR Protocol error: unbalanced quotes in request"),
        (b"SET 'a\r\n", "ERR Protocol error: unbalanced quotes in request"),
        (&long, "ERR Protocol error: too big inline request"),
    ];
    for (request, error) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        let mut client = server.client();
        client.send_raw(b"*1\r\n$4\r\nPING\r\n").expect("the server listens");
        let _ = client.send_raw(request);
        assert_eq!(client.read().expect("what came before is answered").text(), "PONG", "{shown:?}");
        let reply = client.read().unwrap_or_else(|why| panic!("{shown:?}: {why}"));
        assert_eq!((reply.is_error(), reply.text()), (true, error.to_string()), "{shown:?}");
        let rest = client.read_to_close().unwrap_or_else(|why| panic!("{shown:?} was not closed: {why}"));
        assert!(rest.is_empty(), "{shown:?}: more came after the error");
    }
    assert_alive(&server);
}

#[test]
fn empty_requests_are_ignored() {
    let server = Server::shardis(&["--shards", "2"]);
    let mut client = server.client();
    client.send_raw(b"\r\n*0\r\n*-1\r\n\r\n   \r\nPING\r\nECHO \"a\\x41\"\r\nPING\n").expect("the server listens");
    assert_eq!(client.read().expect("answered").text(), "PONG");
    assert_eq!(client.read().expect("answered"), Resp::bulk("aA"));
    assert_eq!(client.read().expect("answered").text(), "PONG");
}

#[test]
fn a_request_may_come_byte_by_byte_or_stop_in_the_middle() {
    let server = Server::shardis(&["--shards", "2"]);
    // Announcing much and sending nothing must not reserve what was announced.
    let silent = (0..50).map(|n| {
        let mut client = server.client();
        let request: &[u8] = match n % 4 {
            0 => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nxxxx",
            1 => b"*2000000000\r\n$3\r\nDEL\r\n",
            2 => b"*2\r\n$3\r\nGE",
            _ => b"*",
        };
        client.send_raw(request).expect("the server listens");
        client
    });
    let _silent = silent.collect::<Vec<_>>();
    let mut client = server.client();
    for byte in b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$6\r\nvalu\r\n\r\n" {
        client.send_raw(&[*byte]).expect("the server listens");
    }
    assert_eq!(client.read().expect("answered"), Resp::ok());
    assert_eq!(client.line("GET slow"), Resp::bulk("valu\r\n"));
    let resident = server.resident_bytes();
    assert!(resident < 300 * MIB, "{} MiB for half-sent requests", resident / MIB);
    assert_alive(&server);
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_costs_bounded_memory() {
    let server = Server::shardis(&["--shards", "2", "--client-output-buffer-limit", "normal 64mb 0 0"]);
    assert_eq!(server.client().call(&["SET", "big", &"x".repeat(1 << 20)]), Resp::ok());
    let before = server.resident_bytes();
    let mut deaf = server.client();
    deaf.set_timeout(Duration::from_secs(1));
    let requests = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(100);
    let start = Instant::now();
    let mut peak = before;
    let mut blocked = 0;
    // 20,000 replies of 1 MiB are asked for, unless the server stops reading or hangs up.
    for _ in 0..200 {
        match deaf.send_raw(&requests) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => blocked += 1,
            Err(_) => break,
        }
        peak = peak.max(server.resident_bytes());
        if blocked > 3 || start.elapsed() > Duration::from_secs(20) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_alive(&server);
    assert!(peak < before + 1024 * MIB, "grew from {} to {} MiB", before / MIB, peak / MIB);
    drop(deaf);
    // One command may make more than may wait, whatever the server does between commands: it is hung up on.
    let mut greedy = server.client();
    greedy.set_timeout(support::HANG);
    let keys = "$3\r\nbig\r\n".repeat(200);
    greedy.send_raw(format!("*201\r\n$4\r\nMGET\r\n{keys}").as_bytes()).expect("a small request");
    assert!(greedy.read().is_err(), "200 MiB were kept for a client with a limit of 64 MiB");
    drop(greedy);
    wait_until("the memory comes back", support::HANG, || server.resident_bytes() < before + 300 * MIB);
}

#[test]
fn commands_with_a_million_arguments_work() {
    let server = Server::shardis(&["--shards", "3"]);
    let mut client = server.client();
    client.set_timeout(4 * support::HANG);
    let keys = (0..500_000).map(|n| format!("k{n}")).collect::<Vec<_>>();
    let with = |name: &str| std::iter::once(name.to_string()).chain(keys.iter().cloned()).collect::<Vec<_>>();
    let mut mset = vec!["MSET".to_string()];
    keys.iter().for_each(|key| mset.extend([key.clone(), "v".into()]));
    assert_eq!(client.call(&mset), Resp::ok());
    assert_eq!(client.call(&with("EXISTS")), Resp::Integer(500_000));
    let values = client.call(&[with("MGET"), keys.clone()].concat());
    assert_eq!(values.items().len(), 1_000_000);
    assert!(values.items().iter().all(|value| value.bytes() == b"v"));
    assert_eq!(client.line("DBSIZE"), Resp::Integer(500_000));
    let arity = client.call(&[with("ECHO"), keys.clone()].concat());
    assert_eq!(arity.text(), "ERR wrong number of arguments for 'echo' command");
    assert_eq!(client.call(&[with("DEL"), keys.clone()].concat()), Resp::Integer(500_000));
    assert_eq!(client.line("DBSIZE"), Resp::Integer(0));
}

#[test]
fn connections_over_maxclients_are_refused_and_others_are_served() {
    let server = Server::shardis(&["--shards", "2", "--maxclients", "20"]);
    let mut first = server.client();
    assert_eq!(first.line("PING").text(), "PONG");
    let over = AtomicBool::new(false);
    let (slowest, refused) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| slowest_ping(&mut first, &over));
        let floods = (0..4).map(|_| scope.spawn(|| (0..250).map(|_| flood(server.port)).collect::<Vec<_>>()));
        let held = floods.collect::<Vec<_>>().into_iter().map(|flood| flood.join().expect("no panic"));
        let refused = held.map(|held| held.iter().filter(|(_, refused)| *refused).count()).sum::<usize>();
        over.store(true, Ordering::Relaxed);
        (watcher.join().expect("no panic"), refused)
    });
    // All connections of a flood are held until it ends; the accepted ones can't be more than the limit.
    assert!(refused >= 1000 - 20 * 4, "only {refused} of 1000 connections were refused");
    assert!(slowest < PING_MAX, "a PING took {slowest:?} during the flood");
    wait_until("places are free again", support::HANG, || {
        let answer = Client::try_connect(server.port).and_then(|mut client| client.try_call(&["PING"]));
        answer.is_ok_and(|reply| reply.text() == "PONG")
    });
    assert_eq!(first.line("PING").text(), "PONG", "who was there first stays");
}

/// A connection, and whether it was refused with Redis' words.
fn flood(port: u16) -> (Option<Client>, bool) {
    let Ok(mut client) = Client::try_connect(port) else { return (None, false) };
    match client.try_call(&["PING"]) {
        Ok(Resp::Simple(_)) => (Some(client), false),
        Ok(reply) => {
            assert_eq!(reply, Resp::Error(b"ERR max number of clients reached".to_vec()));
            (Some(client), true)
        }
        // Closed before the text could be read: refused as well.
        Err(error) => (None, error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut),
    }
}

#[test]
fn noise_of_every_kind_leaves_the_server_standing() {
    let seed = support::seed("SHARDIS_NOISE_SEED");
    let mut rng = fastrand::Rng::with_seed(seed);
    let server = Server::shardis(&["--shards", "3"]);
    let words: [&[u8]; 12] = [
        b"*",
        b"$",
        b"\r\n",
        b"1",
        b"3",
        b"SET",
        b"GET",
        b"k",
        b"-1",
        b"99999999",
        b"\"",
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    ];
    let mut other = server.client();
    for _ in 0..400 {
        let mut client = server.client();
        let noise = (0..rng.usize(1..60)).flat_map(|_| match rng.u32(..4) {
            0 => vec![rng.u8(..)],
            _ => words[rng.usize(..words.len())].to_vec(),
        });
        let noise = noise.collect::<Vec<_>>();
        let _ = client.send_raw(&noise);
        if rng.bool() {
            client.set_timeout(Duration::from_millis(20));
            let _ = client.read();
        }
        assert_eq!(other.line("PING").text(), "PONG");
    }
    assert!(server.resident_bytes() < 500 * MIB);
    assert_alive(&server);
}

fn slowest_ping(client: &mut Client, over: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        assert_eq!(client.line("PING").text(), "PONG");
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

#[track_caller]
fn assert_alive(server: &Server) {
    let start = Instant::now();
    let mut client = server.client();
    assert_eq!(client.line("SET alive 1"), Resp::ok());
    assert_eq!(client.line("GET alive"), Resp::bulk("1"));
    assert!(start.elapsed() < PING_MAX, "others wait {:?}", start.elapsed());
}

//! The binary as its users meet it: redis-cli and redis-benchmark, kills and restarts, and starts that must fail.
//! No assertion here is about speed; every bound is a guard against hanging.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::command;
use support::server::{bad_start, free_port, subject_is_redis};
use support::{Client, DataDir, Resp, Server};

const POLICIES: [&str; 3] = ["always", "everysec", "no"];

// ---- the tools -------------------------------------------------------------------------------------------

#[test]
fn redis_cli_gets_its_answers() {
    if support::installed("redis-cli").is_none() {
        return;
    }
    let server = Server::shardis(&["--shards", "3"]);
    let cli = |args: &[&str]| run_tool("redis-cli", server.port, args, "");
    assert_eq!(cli(&["PING"]), "PONG\n");
    assert_eq!(cli(&["SET", "k", "two words"]), "OK\n");
    assert_eq!(cli(&["GET", "k"]), "two words\n");
    assert_eq!(cli(&["-3", "GET", "nothing"]), "\n");
    assert_eq!(cli(&["-n", "2", "DBSIZE"]), "0\n");
    assert_eq!(cli(&["INCR", "n"]), "1\n");
    assert!(cli(&["NOSUCH"]).starts_with("ERR unknown command 'NOSUCH'"));
    assert!(cli(&["INFO", "server"]).contains("redis_version:7."));

    let lines = (0..1000).map(|n| format!("SET key:{n} {n}\n")).collect::<String>();
    assert_eq!(run_tool("redis-cli", server.port, &[], &lines), "OK\n".repeat(1000));
    let scanned = cli(&["--scan", "--pattern", "key:*"]);
    assert_eq!(scanned.lines().collect::<std::collections::HashSet<_>>().len(), 1000);
    let biggest = cli(&["--bigkeys"]);
    assert!(biggest.contains("Biggest string found"), "{biggest}");

    let mut resp = Vec::new();
    (0..1000).for_each(|n| support::client::encode(&["SET", &format!("pipe:{n}"), "v"], &mut resp));
    let piped = run_tool("redis-cli", server.port, &["--pipe"], &String::from_utf8(resp).expect("ASCII"));
    assert!(piped.contains("errors: 0, replies: 1000"), "{piped}");
}

#[test]
fn redis_benchmark_runs_through() {
    if support::installed("redis-benchmark").is_none() {
        return;
    }
    let server = Server::shardis(&["--shards", "2"]);
    for extra in [&[][..], &["-3"], &["--threads", "2"], &["-r", "1000", "-d", "100"]] {
        let args = [&["-t", "ping,set,get,incr,mset", "-P", "16", "-n", "20000", "-q"], extra].concat();
        let report = run_tool("redis-benchmark", server.port, &args, "");
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
            let line = format!("{test}: ");
            assert!(report.contains(&line) && report.contains("requests per second"), "{extra:?}: {report}");
        }
        assert!(!report.contains("ERR"), "{extra:?}: {report}");
    }
}

/// Its standard output; standard error too when it fails.
fn run_tool(program: &str, port: u16, args: &[&str], input: &str) -> String {
    let mut child = std::process::Command::new(program)
        .args(["-p", &port.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let pid = child.id();
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.as_bytes().to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let waiter = std::thread::spawn(move || child.wait_with_output());
    let start = Instant::now();
    while !waiter.is_finished() {
        if start.elapsed() > 2 * support::HANG {
            // SAFETY: kill(2) takes plain integers; the pid is our own child's, whose waiter has not returned.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            panic!("{program} {args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = writer.join();
    let Output { status, stdout, stderr } = waiter.join().expect("waiting doesn't panic").expect("it was started");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() || stdout.starts_with("ERR"), "{program} {args:?}: {status}\n{stdout}{stderr}");
    stdout.replace('\r', "\n")
}

// ---- kills and restarts ----------------------------------------------------------------------------------

#[test]
fn an_acknowledged_write_survives_kill_9_under_every_policy() {
    for policy in POLICIES {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--appendfsync", policy, "--shards", "2"];
        let server = Server::shardis_in(dir.path(), &flags);
        let acknowledged = write_until(server.port, Duration::from_secs(2), || server.kill());
        let server = Server::shardis_in(dir.path(), &flags);
        assert_holds(&server, &acknowledged, policy);
    }
}

#[test]
fn everything_survives_a_restart_with_another_number_of_shards() {
    let dir = DataDir::new();
    let flags = |shards| ["--appendonly", "yes", "--appendfsync", "everysec", "--shards", shards];
    let server = Server::shardis_in(dir.path(), &flags("1"));
    fill(&mut server.client());
    let before = content(&mut server.client());
    server.kill();
    for shards in ["3", "2", "2", "1"] {
        let server = Server::shardis_in(dir.path(), &flags(shards));
        let mut client = server.client();
        assert_eq!(content(&mut client), before, "after the start with {shards} shards");
        assert_eq!(client.line("SET again 1"), Resp::ok());
        assert_eq!(client.line("DEL again"), Resp::Integer(1));
        let (status, _) = server.stop();
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn sigterm_ends_with_0_and_keeps_everything() {
    for policy in POLICIES {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--appendfsync", policy, "--shards", "2"];
        let server = Server::shardis_in(dir.path(), &flags);
        fill(&mut server.client());
        let before = content(&mut server.client());
        // An idle client must not hold it up.
        let _idle = server.client();
        let (status, took) = server.stop();
        assert_eq!(status.code(), Some(0), "{policy}");
        assert!(took < Duration::from_secs(10), "{policy}: {took:?}");
        let server = Server::shardis_in(dir.path(), &flags);
        assert_eq!(content(&mut server.client()), before, "{policy}");
    }
}

#[test]
fn sigterm_under_load_ends_with_0_and_keeps_what_was_acknowledged() {
    let dir = DataDir::new();
    let flags = ["--appendonly", "yes", "--appendfsync", "always", "--shards", "2"];
    let server = Server::shardis_in(dir.path(), &flags);
    let mut end = None;
    let acknowledged = write_until(server.port, Duration::from_secs(1), || end = Some(server.stop()));
    let (status, took) = end.expect("it was stopped");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let server = Server::shardis_in(dir.path(), &flags);
    assert_holds(&server, &acknowledged, "SIGTERM");
}

#[test]
fn sixty_four_shards_start_serve_and_stop() {
    let dir = DataDir::new();
    let flags = ["--appendonly", "yes", "--appendfsync", "everysec", "--shards", "64"];
    let server = Server::shardis_in(dir.path(), &flags);
    let mut client = server.client();
    fill(&mut client);
    let before = content(&mut client);
    let keys = (0..200).map(|n| format!("many:{n}")).collect::<Vec<_>>();
    let mut mset = vec!["MSET".to_string()];
    keys.iter().for_each(|key| mset.extend([key.clone(), key.clone()]));
    assert_eq!(client.call(&mset), Resp::ok());
    let mget = [vec!["MGET".to_string()], keys.clone()].concat();
    assert_eq!(client.call(&mget), Resp::Array(keys.iter().map(Resp::bulk).collect()));
    let del = [vec!["DEL".to_string()], keys].concat();
    assert_eq!(client.call(&del), Resp::Integer(200));
    let (status, took) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let server = Server::shardis_in(dir.path(), &flags);
    assert_eq!(content(&mut server.client()), before);
}

/// Highest value acknowledged per key, and the highest ever sent.
type Counters = HashMap<String, (u64, u64)>;

/// Eight clients, half of them pipelining, count their own keys up until `end` takes the server away.
fn write_until(port: u16, load: Duration, end: impl FnOnce()) -> Counters {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = (0..8).map(|id| {
            let over = &over;
            scope.spawn(move || count_up(port, id, if id % 2 == 0 { 1 } else { 16 }, over))
        });
        let clients = clients.collect::<Vec<_>>();
        std::thread::sleep(load);
        end();
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("a client ends with its server")).collect()
    })
}

fn count_up(port: u16, id: usize, depth: usize, over: &AtomicBool) -> Counters {
    let mut counters = Counters::new();
    let Ok(mut client) = Client::try_connect(port) else { return counters };
    for round in 0u64.. {
        let batch = (0..depth as u64).map(|n| (format!("c{id}:{}", n % 5), round * depth as u64 + n + 1));
        let batch = batch.collect::<Vec<_>>();
        let commands = batch.iter().map(|(key, value)| command(&["SET", key, &value.to_string()])).collect::<Vec<_>>();
        let mut request = Vec::new();
        commands.iter().for_each(|args| support::client::encode(args, &mut request));
        for (key, value) in &batch {
            counters.entry(key.clone()).or_insert((0, 0)).1 = *value;
        }
        if client.send_raw(&request).is_err() || over.load(Ordering::Relaxed) {
            break;
        }
        for (key, value) in batch {
            // Whatever was acknowledged before the end counts, also in the middle of a pipeline.
            match client.read() {
                Ok(reply) if reply == Resp::ok() => counters.get_mut(&key).expect("it was sent").0 = value,
                _ => return counters,
            }
        }
    }
    counters
}

fn assert_holds(server: &Server, acknowledged: &Counters, what: &str) {
    let mut client = server.client();
    let mut writes = 0;
    for (key, (acknowledged, sent)) in acknowledged {
        let stored = client.call(&["GET", key]).text().parse::<u64>().unwrap_or(0);
        assert!(stored >= *acknowledged, "{what}: {key} is {stored}, but {acknowledged} was acknowledged");
        assert!(stored <= *sent, "{what}: {key} is {stored}, but only {sent} was sent");
        writes += acknowledged;
    }
    assert!(writes > 100, "{what}: the load was too small to show anything: {writes} writes");
    println!("{what}: {writes} acknowledged writes, none lost");
}

/// Some of every kind, in three databases.
fn fill(client: &mut Client) {
    for db in 0..3 {
        client.call(&["SELECT", &db.to_string()]);
        let mut commands = Vec::new();
        for n in 0..500 {
            commands.push(command(&["SET", &format!("key:{n}"), &format!("value {db} {n}")]));
        }
        for n in 0..100 {
            commands.push(command(&["SET", &format!("ttl:{n}"), &n.to_string(), "EX", "100000"]));
            commands.push(command(&["INCRBY", &format!("key:n{}", n % 10), &n.to_string()]));
            commands.push(command(&["APPEND", &format!("log:{}", n % 10), &format!("{n};")]));
            commands.push(command(&["DEL", &format!("key:{n}")]));
            commands.push(command(&["EXPIREAT", &format!("key:{}", n + 200), "9999999999"]));
        }
        commands.push(command(&["RENAME", "key:300", "renamed"]));
        commands.push(command(&["COPY", "key:301", "copied"]));
        commands.push(command(&["SETBIT", "bits", "100000", "1"]));
        commands.push(command(&["SET", "big", &"x".repeat(300_000)]));
        commands.push(command(&["MSET", "m1", "a", "m2", "b", "m3", "c"]));
        // Collections: small ones, and a large one of each type, which is more than one edit in a snapshot or a new epoch.
        for n in 0..5_000 {
            let (is_small, element) = (n % 10 == 0, format!("element {n} of some length"));
            let key = |kind: &str| if is_small { format!("{kind}:{}", n % 70) } else { format!("{kind}:large") };
            commands.push(command(&["HSET", &key("hash"), &element, &n.to_string()]));
            commands.push(command(&["RPUSH", &key("list"), &element]));
            commands.push(command(&["SADD", &key("set"), &element]));
            commands.push(command(&["ZADD", &key("sorted"), &format!("{n}.5"), &element]));
        }
        commands.push(command(&["SADD", "numbers", "1", "-5", "70000"]));
        commands.push(command(&["COPY", "list:large", "list:copied"]));
        commands.push(command(&["LTRIM", "list:copied", "1000", "-1"]));
        commands.push(command(&["ZPOPMIN", "sorted:large", "100"]));
        let replies = client.pipeline(&commands).expect("it is answered");
        let failed = replies.iter().position(Resp::is_error);
        assert!(failed.is_none(), "{:?}: {}", commands[failed.unwrap()], replies[failed.unwrap()]);
    }
    client.call(&["SELECT", "0"]);
    client.call(&["SWAPDB", "1", "2"]);
}

/// Every key with its value and whether it expires, by database.
fn content(client: &mut Client) -> Vec<(usize, Vec<u8>, Resp, Resp)> {
    let mut all = Vec::new();
    for db in 0..3 {
        client.call(&["SELECT", &db.to_string()]);
        let keys = client.call(&["KEYS", "*"]);
        assert_eq!(client.call(&["DBSIZE"]), Resp::Integer(keys.items().len() as i64));
        for key in keys.items() {
            let value = value(client, key.bytes());
            // An absolute deadline is kept to the second; of a relative one, that there is one.
            let deadline = match client.call(&[b"EXPIRETIME", key.bytes()]) {
                Resp::Integer(9_999_999_999) => Resp::Integer(9_999_999_999),
                Resp::Integer(at) => Resp::Integer(at.min(1)),
                other => other,
            };
            all.push((db, key.bytes().to_vec(), value, deadline));
        }
    }
    assert!(all.len() > 1000, "only {} keys", all.len());
    all.sort();
    all
}

/// Whatever a key holds; without an order where it has none.
fn value(client: &mut Client, key: &[u8]) -> Resp {
    let kind = client.call(&[b"TYPE", key]);
    let reply = match kind.text().as_str() {
        "hash" => client.call(&[b"HGETALL", key]),
        "list" => client.call(&[b"LRANGE", key, b"0", b"-1"]),
        "set" => client.call(&[b"SMEMBERS", key]),
        "zset" => client.call(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        _ => return client.call(&[b"GET", key]),
    };
    let Resp::Array(mut elements) = reply else { panic!("{kind}: {reply}") };
    match kind.text().as_str() {
        "hash" => {
            let mut pairs: Vec<Vec<Resp>> = elements.chunks(2).map(<[Resp]>::to_vec).collect();
            pairs.sort();
            elements = pairs.concat();
        }
        "set" => elements.sort(),
        _ => {}
    }
    Resp::Array(elements)
}

// ---- starts that must fail -------------------------------------------------------------------------------

#[test]
fn a_bad_start_exits_with_1_and_says_why_in_one_line() {
    if subject_is_redis() {
        println!("SKIPPED: how redis-server fails to start is its own affair");
        return;
    }
    let dir = DataDir::new();
    let here = dir.path();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of the system's choice");
    let busy_port = busy.local_addr().expect("it is bound").port();
    assert_fails_to_start(busy_port, here, &[], &busy_port.to_string());

    let file = here.join("file");
    std::fs::write(&file, "not a directory").expect("the directory is ours");
    assert_fails_to_start(free_port(), &file.join("data"), &["--appendonly", "yes"], "file");

    let fresh = here.join("fresh");
    assert_fails_to_start(free_port(), &fresh, &["--appendfsync", "sometimes"], "appendfsync");
    assert_fails_to_start(free_port(), &fresh, &["--maxclients", "many"], "maxclients");
    assert_fails_to_start(free_port(), &fresh, &["--shards", "5000"], "shards");
    assert_fails_to_start(free_port(), &fresh, &["--cores", "9-2"], "cores");
    assert_fails_to_start(free_port(), &fresh, &["--config", "/nonexistent/shardis.conf"], "/nonexistent/shardis.conf");

    let first = Server::shardis_in(&fresh, &["--appendonly", "yes", "--shards", "1"]);
    assert_fails_to_start(free_port(), &fresh, &["--appendonly", "yes"], "fresh");
    assert_eq!(first.client().line("PING"), Resp::Simple(b"PONG".to_vec()), "the first server goes on");
}

#[track_caller]
fn assert_fails_to_start(port: u16, dir: &Path, args: &[&str], names: &str) {
    let end = bad_start(port, dir, args);
    let said = end.stderr.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
    assert_eq!(end.code, Some(1), "{args:?}: {}", end.stderr);
    assert_eq!(said.len(), 1, "{args:?} should give one line: {}", end.stderr);
    assert!(said[0].contains(names), "{args:?}: the line should name {names}: {}", said[0]);
}

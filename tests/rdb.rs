//! RDB against redis-server in both directions: payloads of DUMP, files of SAVE, files that `shardis export` writes. Every key's
//! value and deadline are compared.

mod support;

use std::path::Path;
use std::process::Output;
use support::{Client, Command, DataDir, Resp, Server, from_env, redis_server, seed};

/// `SHARDIS_RDB_KEYS=1000000` for the long form.
const KEYS: u64 = 20_000;
const BATCH: usize = 500;

fn word(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(..5) {
        0 => (random.i64(..) >> random.u32(..64)).to_string().into_bytes(),
        1 => vec![b'x'; random.usize(..200)],
        2 => (0..random.usize(..100)).map(|_| random.u8(..)).collect(),
        _ => format!("word:{}", random.u32(..1000)).into_bytes(),
    }
}

/// A command that makes a key of some type and size.
fn making(key: &str, random: &mut fastrand::Rng) -> Command {
    let len = if random.u8(..50) == 0 { random.usize(100..700) } else { random.usize(1..8) };
    let name = ["SET", "RPUSH", "SADD", "HSET", "ZADD"][random.usize(..5)];
    let mut command: Command = vec![name.into(), key.into()];
    for _ in 0..if name == "SET" { 1 } else { len } {
        if name == "ZADD" {
            let scores = ["1", "2.5", "inf", "-inf", "-1e300", "0.1", "17179869184"];
            command.push(scores[random.usize(..scores.len())].into());
        }
        if name == "SADD" && len % 2 == 0 {
            command.push(random.i64(..).to_string().into_bytes());
            continue;
        }
        command.push(word(random));
        if name == "HSET" {
            command.push(word(random));
        }
    }
    command
}

/// Commands that make a stream with a group, which has read some of it.
fn stream(key: &str, random: &mut fastrand::Rng) -> Vec<Command> {
    let line = |words: &[&str]| support::client::command(words);
    let mut commands = Vec::new();
    for n in 1..random.usize(2..8) {
        let mut command = line(&["XADD", key, &format!("{n}-{}", random.u32(..3)), "field"]);
        command.push(word(random));
        commands.push(command);
    }
    commands.push(line(&["XGROUP", "CREATE", key, "group", "0"]));
    commands.push(line(&["XREADGROUP", "GROUP", "group", "consumer", "COUNT", "2", "STREAMS", key, ">"]));
    commands
}

fn key(number: u64) -> String {
    format!("key:{number}")
}

fn fill(client: &mut Client, keys: u64, random: &mut fastrand::Rng) {
    let far = 4_000_000_000_000u64;
    let mut commands = Vec::new();
    for number in 0..keys {
        if number % 6 >= 4 {
            commands.extend(stream(&key(number), random));
        } else {
            commands.push(making(&key(number), random));
        }
        if number % 7 == 0 {
            commands.push(support::client::command(&["PEXPIREAT", &key(number), &(far + number).to_string()]));
        }
        if commands.len() >= BATCH || number + 1 == keys {
            client.pipeline(&commands).expect("the server answers");
            commands.clear();
        }
    }
}

/// What DUMP of redis-server says can't be compared (order of sets and hashes); the elements can.
fn contents(client: &mut Client, keys: std::ops::Range<u64>) -> Vec<String> {
    let types: Vec<Command> = keys.clone().map(|number| support::client::command(&["TYPE", &key(number)])).collect();
    let types = client.pipeline(&types).expect("the server answers");
    let mut commands = Vec::new();
    for (number, kind) in keys.zip(&types) {
        let key = key(number);
        commands.push(support::client::command(&match kind.text().as_str() {
            "string" => vec!["GET", &key],
            "list" => vec!["LRANGE", &key, "0", "-1"],
            "set" => vec!["SMEMBERS", &key],
            "hash" => vec!["HGETALL", &key],
            "zset" => vec!["ZRANGE", &key, "0", "-1", "WITHSCORES"],
            "stream" if number % 2 == 0 => vec!["XPENDING", &key, "group"],
            "stream" => vec!["XRANGE", &key, "-", "+"],
            _ => vec!["GET", &key],
        }));
        commands.push(support::client::command(&["PEXPIRETIME", &key]));
    }
    let replies = client.pipeline(&commands).expect("the server answers");
    let shown = |(kind, reply): (&Resp, &[Resp])| {
        let mut elements = match &reply[0] {
            Resp::Array(elements) => elements.iter().map(|element| format!("{element:?}")).collect(),
            other => vec![format!("{other:?}")],
        };
        match kind.text().as_str() {
            "set" => elements.sort(),
            "hash" => {
                elements = elements.chunks(2).map(|pair| pair.concat()).collect();
                elements.sort();
            }
            _ => {}
        }
        format!("{kind:?} {elements:?} {:?}", reply[1])
    };
    types.iter().zip(replies.chunks(2)).map(shown).collect()
}

fn assert_same(a: &mut Client, b: &mut Client, keys: u64) {
    for from in (0..keys).step_by(BATCH) {
        let range = from..keys.min(from + BATCH as u64);
        for (number, (a, b)) in range.clone().zip(contents(a, range.clone()).into_iter().zip(contents(b, range))) {
            assert_eq!(a, b, "{}", key(number));
        }
    }
}

fn shardis(args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shardis"));
    command.args(args).output().expect("our own program can be run")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

#[test]
fn files_of_redis_are_imported_and_exported_ones_loaded() {
    if redis_server().is_none() {
        return;
    }
    let keys = from_env("SHARDIS_RDB_KEYS", KEYS);
    let mut random = fastrand::Rng::with_seed(seed("SHARDIS_RDB_SEED"));
    let (files, data) = (DataDir::new(), DataDir::new());
    let redis = Server::redis(&["--dbfilename", "made.rdb", "--dir", text(files.path())]);
    let mut oracle = redis.client();
    fill(&mut oracle, keys, &mut random);
    oracle.set_timeout(std::time::Duration::from_secs(300));
    assert_eq!(oracle.line("SAVE").text(), "OK");

    let server = Server::shardis_in(data.path(), &["--shards", "2"]);
    let (made, port) = (files.path().join("made.rdb"), server.port.to_string());
    let imported = shardis(&["import", text(&made), "--port", &port]);
    assert!(imported.status.success(), "{imported:?}");
    assert_same(&mut oracle, &mut server.client(), keys);
    let again = shardis(&["import", text(&made), "--port", &port]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(shardis(&["import", text(&made), "--port", &port, "--replace"]).status.success());

    assert!(server.stop().0.success());
    let exported = files.path().join("exported.rdb");
    let export = shardis(&["export", text(data.path()), text(&exported)]);
    assert!(export.status.success(), "{export:?}");
    let loaded = Server::redis(&["--dbfilename", "exported.rdb", "--dir", text(files.path())]);
    assert_same(&mut oracle, &mut loaded.client(), keys);
}

#[test]
fn deadlines_of_fields_are_exported_only_where_they_may_be_dropped() {
    let (files, data) = (DataDir::new(), DataDir::new());
    let server = Server::shardis_in(data.path(), &["--shards", "2"]);
    let mut client = server.client();
    for number in 0..30 {
        client.line(&format!("HSET h{number} a 1 b 2"));
        client.line(&format!("HEXPIRE h{number} 1000 FIELDS 1 a"));
    }
    client.line("HSET lasting a 1");
    assert!(server.stop().0.success());
    let exported = files.path().join("exported.rdb");
    let export = shardis(&["export", text(data.path()), text(&exported)]);
    assert_eq!(export.status.code(), Some(2), "{export:?}");
    let said = String::from_utf8_lossy(&export.stderr);
    assert!(said.contains("the fields of 30 hashes") && said.contains("and 10 more"), "{said}");
    assert!(said.contains("\n\"h1") && !said.contains("lasting") && !exported.exists(), "{said}");
    let export = shardis(&["export", text(data.path()), text(&exported), "--drop-field-ttl"]);
    assert!(export.status.success(), "{export:?}");
    if redis_server().is_some() {
        let loaded = Server::redis(&["--dbfilename", "exported.rdb", "--dir", text(files.path())]);
        let mut loaded = loaded.client();
        assert_eq!(loaded.line("DBSIZE"), Resp::Integer(31));
        assert_eq!(loaded.line("HGET h7 a").text(), "1");
    }
}

#[test]
fn payloads_go_both_ways() {
    if redis_server().is_none() {
        return;
    }
    const PAYLOADS: u64 = 2_000;
    let mut random = fastrand::Rng::with_seed(seed("SHARDIS_RDB_SEED"));
    let (redis, server) = (Server::redis(&[]), Server::shardis(&[]));
    let back = Server::redis(&[]);
    let (mut oracle, mut ours, mut back) = (redis.client(), server.client(), back.client());
    fill(&mut oracle, PAYLOADS, &mut random);
    for number in 0..PAYLOADS {
        let key = key(number);
        let deadline = oracle.call(&["PEXPIRETIME", &key]).integer().max(0).to_string();
        let carry = |from: &mut Client, to: &mut Client| {
            let payload = from.call(&["DUMP", &key]);
            let Resp::Bulk(payload) = payload else { panic!("{key}: {payload:?}") };
            let restore: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), deadline.as_bytes(), &payload, b"ABSTTL"];
            assert_eq!(to.call(&restore).text(), "OK", "{key}");
        };
        carry(&mut oracle, &mut ours);
        carry(&mut ours, &mut back);
    }
    assert_same(&mut oracle, &mut ours, PAYLOADS);
    assert_same(&mut oracle, &mut back, PAYLOADS);
}

//! Where a core's work meets its edges: connections that end in the middle of things, shutdown with replies outstanding,
//! cores that wait for each other, a full disk, and the fsync policy changed under load.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::client::{command, encode};
use support::{Client, DataDir, Resp, Server};

const ALWAYS: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--shards", "2"];

fn requests(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        encode(&line.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    bytes
}

// ---- the ends of connections -----------------------------------------------------------------------------

#[test]
fn what_a_client_sent_before_it_closed_its_side_is_run_and_answered() {
    let server = Server::shardis(&["--shards", "3"]);
    let mut client = server.client();
    client.line("MSET a 1 b 2 c 3 d 4 e 5 f 6");
    // Each RENAME over shards holds back what follows it.
    let renames = "abcdef".chars().map(|key| format!("RENAME {key} {key}2"));
    let rest = (0..100).map(|n| format!("SET late:{n} {n}"));
    client.send_raw(&requests(renames.chain(rest))).expect("sent");
    client.stream().shutdown(Shutdown::Write).expect("our side can be closed");
    let replies = client.read_to_close().expect("closed once all is answered");
    assert_eq!(String::from_utf8_lossy(&replies), "+OK\r\n".repeat(106));
    assert_eq!(server.client().line("GET late:99"), Resp::bulk("99"));
}

#[test]
fn a_shutdown_answers_what_was_received() {
    for policy in ["always", "everysec"] {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--appendfsync", policy, "--shards", "2"];
        let mut server = Server::shardis_in(dir.path(), &flags);
        let mut client = server.client();
        let mut bytes = requests((0..300).map(|n| format!("SET key:{n} {n}")));
        bytes.extend(requests((0..300).map(|n| format!("RENAME key:{n} new:{n}"))));
        client.send_raw(&bytes).expect("sent");
        // The first reply shows that the server has begun with them; the others are still to come.
        assert_eq!(client.read().expect("a reply"), Resp::ok());
        server.terminate();
        let replies = client.read_to_close().expect("closed in the end");
        assert_eq!(replies.len(), 599 * "+OK\r\n".len(), "{policy}: replies were dropped");
        support::wait_until("it ends", Duration::from_secs(10), || !server.is_running());
    }
}

// ---- pipelines ------------------------------------------------------------------------------------------

#[test]
fn skipped_replies_stay_skipped_when_a_command_has_to_wait_for_another_core() {
    let dir = DataDir::new();
    let server = Server::shardis_in(dir.path(), &ALWAYS);
    let mut client = server.client();
    for first in 0..2 {
        let skip = |n| ["CLIENT REPLY SKIP".to_string(), format!("SET {first}:{} {n}", n % 50)];
        let bytes = requests((0..20_000).flat_map(skip).chain([format!("ECHO done{first}")]));
        client.send_raw(&bytes).expect("sent");
        assert_eq!(client.read().expect("a reply"), Resp::bulk(format!("done{first}")));
    }
}

/// Both cores wait for credits of the other, while the little that each has to log is not enough to fill a batch.
#[test]
fn two_cores_with_long_pipelines_to_each_other_do_not_wait_forever() {
    let dir = DataDir::new();
    let server = Server::shardis_in(dir.path(), &ALWAYS);
    std::thread::scope(|scope| {
        for id in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                client.set_timeout(Duration::from_secs(10));
                let key = if id % 2 == 0 { "a" } else { "b" };
                let round = (0..2_000).map(|n| if n == 0 { format!("SET {key} v") } else { format!("GET {key}") });
                let commands = round.map(|line| command(&line.split(' ').collect::<Vec<_>>())).collect::<Vec<_>>();
                let commands = std::iter::repeat_n(commands, 15).flatten().collect::<Vec<_>>();
                client.pipeline(&commands).expect("all of it is answered");
            });
        }
    });
}

#[test]
fn a_write_is_answered_while_reads_keep_its_core_busy() {
    let dir = DataDir::new();
    let server = Server::shardis_in(dir.path(), &["--appendonly", "yes", "--appendfsync", "no", "--shards", "1"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = server.client();
                let gets = requests((0..2_000).map(|n| format!("GET key:{n}")));
                let mut writer = client.stream().try_clone().expect("a stream can be cloned");
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) && std::io::Write::write_all(&mut writer, &gets).is_ok() {}
                    let _ = writer.shutdown(Shutdown::Write);
                });
                while client.read().is_ok() {}
            });
        }
        let mut client = server.client();
        std::thread::sleep(Duration::from_millis(300));
        // A write that starves runs into the client's time limit.
        (0..20).for_each(|n| assert_eq!(client.line(&format!("SET k {n}")), Resp::ok()));
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_large_argument_in_small_pieces_arrives_whole() {
    let server = Server::shardis(&["--shards", "1"]);
    let mut client = server.client();
    let value = vec![b'x'; 200 << 20];
    assert_eq!(client.call(&[&b"SET"[..], b"k", &value]), Resp::ok());
    assert_eq!(client.line("STRLEN k"), Resp::Integer(200 << 20));
}

// ---- the disk -------------------------------------------------------------------------------------------

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_heals_by_itself() {
    for policy in ["always", "everysec", "no"] {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--appendfsync", policy, "--shards", "1"];
        let mut server = Server::shardis_in(dir.path(), &flags);
        let mut client = server.client();
        assert_eq!(client.line("SET before 1"), Resp::ok());
        server.limit_files(4 << 20);
        let value = "v".repeat(50_000);
        let mut written = 0;
        let start = Instant::now();
        // One segment of 4 MiB is there; the next can't be made.
        let refused = loop {
            client.set_timeout(Duration::from_secs(3));
            match client.try_call(&["SET", &format!("key:{written}"), &value]) {
                Ok(reply) if reply == Resp::ok() => written += 1,
                Ok(error) => break Some(error),
                // This write found no segment: it waits for one. The next is to be refused.
                Err(_) => {
                    client = server.client();
                    break (start.elapsed() < support::HANG).then(|| client.line("SET next 1"));
                }
            }
            assert!(written < 1_000, "{policy}: the limit does nothing");
        };
        let refused = refused.expect("not forever");
        assert!(refused.text().starts_with("MISCONF"), "{policy}: {refused}");
        assert_eq!(client.line("GET before"), Resp::bulk("1"));
        // The obstacle is seen all the time, not only between two attempts.
        for _ in 0..50 {
            assert!(client.line("SET during 1").text().starts_with("MISCONF"), "{policy}");
            std::thread::sleep(Duration::from_millis(7));
        }
        server.limit_files(libc::RLIM_INFINITY);
        support::wait_until("writes resume", Duration::from_secs(5), || client.line("SET after 1") == Resp::ok());
        assert!(server.is_running());
        server.kill();
        let server = Server::shardis_in(dir.path(), &flags);
        let mut client = server.client();
        assert_eq!(client.line("GET after"), Resp::bulk("1"));
        for n in 0..written {
            assert_eq!(client.line(&format!("STRLEN key:{n}")), Resp::Integer(50_000), "{policy}: key:{n}");
        }
    }
}

#[test]
fn one_large_value_on_its_way_to_the_log_refuses_nobody() {
    for policy in ["always", "everysec"] {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--appendfsync", policy, "--shards", "2"];
        let server = Server::shardis_in(dir.path(), &flags);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let value = vec![b'x'; 70 << 20];
                assert_eq!(server.client().call(&[&b"SET"[..], b"big", &value]), Resp::ok());
                over.store(true, Ordering::Relaxed);
            });
            let mut client = server.client();
            while !over.load(Ordering::Relaxed) {
                for n in 0..20 {
                    assert_eq!(client.line(&format!("SET small:{n} 1")), Resp::ok(), "{policy}");
                }
            }
        });
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_policy_changes_under_load() {
    for seed in 0..2u64 {
        let dir = DataDir::new();
        let flags = ["--appendonly", "yes", "--shards", "2", "--wal-segment-size", "1mb"];
        let server = Server::shardis_in(dir.path(), &flags);
        let port = server.port;
        let acknowledged = (0..4).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            for (id, acknowledged) in acknowledged.iter().enumerate() {
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    for n in 1u64.. {
                        let lines = (0..8).map(|part| format!("SET {id}:{part} {n}"));
                        if client.send_raw(&requests(lines)).is_err() {
                            return;
                        }
                        for _ in 0..8 {
                            match client.read() {
                                Ok(reply) => assert_eq!(reply, Resp::ok()),
                                Err(_) => return,
                            }
                        }
                        acknowledged.store(n, Ordering::Relaxed);
                    }
                });
            }
            let mut client = server.client();
            let policies = ["always", "no", "always", "everysec", "no", "everysec"];
            let start = Instant::now();
            let mut pause = fastrand::Rng::with_seed(seed);
            while start.elapsed() < Duration::from_secs(2) {
                for policy in policies {
                    assert_eq!(client.line(&format!("CONFIG SET appendfsync {policy}")), Resp::ok());
                    std::thread::sleep(Duration::from_millis(pause.u64(0..60)));
                }
            }
            server.kill();
        });
        let server = Server::shardis_in(dir.path(), &flags);
        let mut client = server.client();
        for (id, acknowledged) in acknowledged.iter().enumerate() {
            let acknowledged = acknowledged.load(Ordering::Relaxed);
            assert!(acknowledged > 20, "the load was too small to show anything: {acknowledged}");
            for part in 0..8 {
                let stored = client.line(&format!("GET {id}:{part}")).text().parse::<u64>().expect("a number");
                assert!(stored >= acknowledged, "seed {seed}: {id}:{part} is {stored}, {acknowledged} acknowledged");
            }
        }
    }
}

// ---- never half alive ------------------------------------------------------------------------------------

#[test]
fn a_server_whose_cores_cannot_all_start_ends_instead_of_serving_without_them() {
    let dir = DataDir::new();
    let mut failures = 0;
    // Somewhere in this range the descriptors end in the middle of the cores' starts.
    for files in (60..220).step_by(40) {
        let port = support::server::free_port();
        let shell = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        let mut child = std::process::Command::new("sh")
            .args(["-c", &shell, env!("CARGO_BIN_EXE_shardis"), "--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--appendonly", "yes", "--shards", "16", "--dir"])
            .arg(dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("there is a shell");
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().expect("our own child can be waited for") {
                break Some(status);
            }
            // One that serves must serve on all its shards.
            let served = Client::try_connect(port).and_then(|mut client| {
                client.set_timeout(Duration::from_secs(2));
                client.try_call(&["DBSIZE"])
            });
            if served.is_ok() || start.elapsed() > Duration::from_secs(15) {
                assert!(served.is_ok(), "with {files} descriptors it neither serves nor ends: {served:?}");
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
        failures += ended.is_some_and(|status| !status.success()) as u32;
    }
    assert!(failures > 0, "the limits were too generous to show anything");
}

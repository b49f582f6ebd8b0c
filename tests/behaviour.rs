//! Runs every script of tests/commands on three subjects: a shard by itself, the server over TCP, and redis-server.
//! What a command must do is written in the scripts; this file only brings them there.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use std::time::{Duration, Instant};
use support::script::{Script, Subject, Target};
use support::shard::Shard;
use support::{Client, Command, Resp, Server};

/// All sleeping of the scripts together, and the server's answers.
const RUN_MAX: Duration = Duration::from_secs(120);

#[test]
fn scripts_hold_in_a_shard() {
    run_all(&mut Shard::new(1));
}

#[test]
fn scripts_hold_over_tcp() {
    let server = Server::shardis(&["--shards", "3", "--enable-debug-command", "yes"]);
    let subject = if support::server::subject_is_redis() { Subject::Redis } else { Subject::Shardis };
    run_all(&mut Connection::to(&server, subject));
}

#[test]
fn scripts_hold_for_redis_itself() {
    if support::redis_server().is_none() {
        return;
    }
    let server = Server::redis(&["--enable-debug-command", "yes"]);
    run_all(&mut Connection::to(&server, Subject::Redis));
}

#[test]
fn a_script_that_expects_something_else_fails() {
    let wrong = Script::parse("wrong.txt", "> SELECT 1\n(integer) 1\n> SELECT 99\nOK\n> SELECT 2\nOK\n");
    let failures = wrong.expect("it is well-formed").run(&mut Shard::new(1));
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures[1].contains("wrong.txt:3 on Shard\n> SELECT 99\nexpected:\nOK\ngot:\n(error) ERR DB index"));
    for bad in [
        "> GET \"a\n(nil)",
        "> GET a",
        "> GET a\n[\n(nil)",
        "! tcp",
        "! end",
        "! what",
        "! other\n! fresh\n! end",
        "(nil)",
        "> GET a\n(what)",
    ] {
        assert!(Script::parse("bad.txt", bad).is_err(), "{bad:?} was taken for a script");
    }
}

fn run_all(target: &mut dyn Target) {
    let start = Instant::now();
    let (mut failures, mut commands) = (Vec::new(), 0);
    for script in scripts() {
        failures.extend(script.run(target));
        commands += script.commands(target.subject());
        assert!(start.elapsed() < RUN_MAX, "the scripts take too long: at {} after {RUN_MAX:?}", script.name);
    }
    println!("{commands} commands on {:?}", target.subject());
    let shown = failures.iter().take(40).map(|failure| format!("{failure}\n\n")).collect::<String>();
    assert!(failures.is_empty(), "{} of {commands} commands failed:\n\n{shown}", failures.len());
}

/// `SHARDIS_SCRIPT=strings` runs only those with that in their name.
fn scripts() -> Vec<Script> {
    let only = std::env::var("SHARDIS_SCRIPT").unwrap_or_default();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands");
    let files = std::fs::read_dir(dir).expect("the scripts are there").map(|file| file.expect("readable").path());
    let mut paths = files.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect::<Vec<_>>();
    paths.sort();
    let name = |path: &std::path::Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.retain(|path| name(path).contains(&only));
    assert!(!paths.is_empty(), "no scripts in {dir}");
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).expect("a script is UTF-8 text");
    paths.iter().map(|path| Script::parse(&name(path), &read(path)).unwrap_or_else(|why| panic!("{why}"))).collect()
}

struct Connection {
    client: Client,
    /// That of `! other`, from its first use on.
    other: Option<Client>,
    port: u16,
    subject: Subject,
}

impl Connection {
    fn to(server: &Server, subject: Subject) -> Connection {
        Connection { client: server.client(), other: None, port: server.port, subject }
    }
}

/// Deadlines are whole milliseconds and servers read their clock once per turn.
const CLOCK_MARGIN_MS: u64 = 15;

impl Target for Connection {
    fn subject(&self) -> Subject {
        self.subject
    }
    fn call(&mut self, args: &[Vec<u8>]) -> Result<Resp, String> {
        self.client.try_call(args).map_err(|error| {
            self.client = Client::connect(self.port);
            format!("no reply: {error}")
        })
    }
    fn send(&mut self, args: &[Vec<u8>]) -> Result<(), String> {
        let mut request = Vec::new();
        support::client::encode(args, &mut request);
        self.client.send_raw(&request).map_err(|error| error.to_string())
    }
    fn closed(&mut self) -> Result<(), String> {
        let rest = self.client.read_to_close().map_err(|error| format!("not closed: {error}"));
        self.client = Client::connect(self.port);
        match rest? {
            rest if rest.is_empty() => Ok(()),
            rest => Err(format!("before closing came {:?}", String::from_utf8_lossy(&rest))),
        }
    }
    fn set_protocol(&mut self, version: u8) {
        self.client.call(&["HELLO".to_string(), version.to_string()]);
    }
    fn advance(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms + CLOCK_MARGIN_MS));
    }
    fn step_wall_clock(&mut self, _ms: i64) {
        unreachable!("sections with a stepping wall clock run in a shard only")
    }
    fn fresh(&mut self) {
        (self.client, self.other) = (Client::connect(self.port), None);
        assert_eq!(self.client.call(&["FLUSHALL"]), Resp::ok());
    }
    fn switch(&mut self) {
        let other = self.other.take().unwrap_or_else(|| Client::connect(self.port));
        self.other = Some(std::mem::replace(&mut self.client, other));
    }
}

#[test]
fn replies_are_printed_as_they_are_written_in_scripts() {
    let text = b"*3\r\n$4\r\na\"\x00b\r\n*1\r\n:-3\r\n-ERR no\r\n";
    let reply = Resp::read(&mut &text[..]).expect("well-formed");
    let printed = format!("> PING\n{reply}\n");
    assert_eq!(printed, "> PING\n[\n  \"a\\\"\\x00b\"\n  [\n    (integer) -3\n  ]\n  (error) ERR no\n]\n");
    let command: Command = support::client::command(&["SET", "a b", ""]);
    assert_eq!(support::resp::command_line(&command), "SET \"a b\" \"\"");
}

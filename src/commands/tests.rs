//! Server commands through whole cores, with the lanes between them carried by hand.

use crate::config::Settings;
use crate::core::{Core, CoreOptions, Input};
use crate::router::batch::{CallBatch, ConnectionId, ReplyBatch, Work};
use crate::session::{Closing, Peer};
use shards::slot::{SlotMap, slot_of};
use shards::units::{Db, Now, Offset, ShardId};
use std::cell::Cell;

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(1) };
}

/// Every reading is a little later, so that no two things happen at the same time.
fn ticks() -> u64 {
    TICKS.replace(TICKS.get() + 1_000)
}

/// Cores, and clients on them.
struct Stage {
    cores: Vec<Core>,
}

#[derive(Clone, Copy)]
struct Client {
    core: usize,
    connection: ConnectionId,
}

impl Stage {
    fn new(shards: u16) -> Self {
        let core = |shard| {
            let mut core = Core::new(CoreOptions {
                shard: ShardId(shard),
                shards,
                settings: Settings::default(),
                config_file: None,
                seed: 1,
                ticks,
                run_id: "0".repeat(40),
            });
            core.begin(Now::at(1_000_000));
            core
        };
        Stage { cores: (0..shards).map(core).collect() }
    }

    fn connect(&mut self, core: usize) -> Client {
        let port = 1000 + self.cores.iter().map(Core::session_count).sum::<usize>();
        let address = format!("127.0.0.1:{port}");
        let peer = Peer { address, local_address: "127.0.0.1:6379".into(), fd: 9, local: true };
        Client { core, connection: self.cores[core].connect(peer) }
    }

    /// The client's request arrives; other cores don't hear of it yet.
    fn send(&mut self, client: Client, line: &str) {
        let bytes = format!("{line}\r\n");
        self.cores[client.core].receive(&[Input { connection: client.connection, bytes: bytes.as_bytes() }]);
    }

    /// Carries batches until there are none left.
    fn carry(&mut self) {
        loop {
            let mut carried = false;
            for from in 0..self.cores.len() {
                for to in (0..self.cores.len()).filter(|to| *to != from) {
                    let (shard, peer) = (ShardId(to as u16), ShardId(from as u16));
                    if let Some(calls) = self.cores[from].take_calls(shard, CallBatch::default) {
                        self.cores[to].on_calls(peer, &calls);
                        carried = true;
                    }
                    if let Some(replies) = self.cores[from].take_replies(shard, ReplyBatch::default) {
                        self.cores[to].on_replies(peer, &replies);
                        carried = true;
                    }
                }
            }
            if !carried {
                return;
            }
        }
    }

    fn received(&mut self, client: Client) -> String {
        let session = self.cores[client.core].session_mut(client.connection).expect("a session lives until told");
        String::from_utf8(std::mem::take(&mut session.replies.out)).expect("replies in tests are text")
    }

    fn run(&mut self, client: Client, line: &str) -> String {
        self.send(client, line);
        self.carry();
        self.received(client)
    }

    fn closing(&self, client: Client) -> Closing {
        self.cores[client.core].session(client.connection).expect("a session lives until told").closing
    }
}

#[test]
fn a_setting_changes_on_all_cores() {
    let mut stage = Stage::new(3);
    let (here, there) = (stage.connect(0), stage.connect(2));
    assert_eq!(stage.run(here, "CONFIG SET maxmemory 100mb hz 20"), "+OK\r\n");
    assert_eq!(stage.run(there, "CONFIG GET maxmemory"), "*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n");
    assert!(stage.cores.iter().all(|core| core.config.hz == 20));
    assert!(stage.run(here, "CONFIG SET hz 30 nope 1").starts_with("-ERR Unknown option"));
    assert!(stage.cores.iter().all(|core| core.config.hz == 20), "all or nothing");
    assert_eq!(stage.run(here, "CONFIG REWRITE"), "-ERR The server is running without a config file\r\n");
}

#[test]
fn a_rewrite_keeps_what_was_set_since() {
    let mut stage = Stage::new(2);
    let directory = tempfile::tempdir().expect("a directory for the test");
    let file = directory.path().join("shardis.conf");
    std::fs::write(&file, "# ours\nhz 15\n").expect("written");
    stage.cores[1].config_file = Some(file.clone());
    let (here, there) = (stage.connect(0), stage.connect(1));
    stage.run(here, "CONFIG SET hz 20 maxclients 77");
    assert_eq!(stage.run(there, "CONFIG REWRITE"), "+OK\r\n");
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(text.starts_with("# ours\nhz 20\n") && text.contains("maxclients 77\n"), "{text}");
    stage.cores[1].config_file = Some(directory.path().join("no").join("such.conf"));
    assert!(stage.run(there, "CONFIG REWRITE").starts_with("-ERR Rewriting config file: "));
}

#[test]
fn cores_agree_on_a_setting_that_two_clients_change_at_once() {
    let mut stage = Stage::new(2);
    let (one, other) = (stage.connect(0), stage.connect(1));
    stage.send(one, "CONFIG SET hz 20");
    stage.send(other, "CONFIG SET hz 30");
    stage.carry();
    assert_eq!(stage.cores.iter().map(|core| core.config.hz).collect::<Vec<_>>(), [30, 30]);
    assert_eq!((stage.received(one), stage.received(other)), ("+OK\r\n".into(), "+OK\r\n".into()));
}

#[test]
fn a_new_password_is_asked_of_new_clients_only() {
    let mut stage = Stage::new(2);
    let old = stage.connect(0);
    assert!(stage.run(old, "AUTH x").starts_with("-ERR AUTH <password> called without any password"));
    assert_eq!(stage.run(old, "AUTH default x"), "+OK\r\n");
    assert_eq!(stage.run(old, "CONFIG SET requirepass secret"), "+OK\r\n");
    assert_eq!(stage.run(old, "PING"), "+PONG\r\n");
    let new = stage.connect(1);
    assert_eq!(stage.run(new, "PING"), "-NOAUTH Authentication required.\r\n");
    assert!(stage.run(new, "HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for attempt in ["AUTH nope", "AUTH secre", "AUTH default nope", "AUTH root secret", "HELLO 3 AUTH default nope"] {
        assert_eq!(stage.run(new, attempt), wrong, "{attempt}");
    }
    assert!(stage.run(new, "HELLO 3 AUTH default secret SETNAME me").starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis"));
    assert_eq!(stage.run(new, "CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(stage.run(new, "RESET"), "+RESET\r\n");
    assert_eq!(stage.run(new, "PING"), "-NOAUTH Authentication required.\r\n");
}

#[test]
fn a_refused_hello_changes_nothing() {
    let mut stage = Stage::new(1);
    let client = stage.connect(0);
    for (line, error) in [
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 3 SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
    ] {
        assert_eq!(stage.run(client, line), error, "{line}");
        assert_eq!(stage.run(client, "CLIENT GETNAME"), "$-1\r\n", "still RESP2, still no name");
    }
    assert!(stage.run(client, "HELLO").starts_with("*14\r\n"));
    assert!(stage.run(client, "HELLO 3").ends_with("$7\r\nmodules\r\n*0\r\n"));
    assert_eq!(stage.run(client, "CLIENT GETNAME"), "_\r\n");
}

#[test]
fn a_reply_of_all_cores_keeps_the_protocol_it_was_asked_in() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    let replies = stage.run(client, "INFO cluster\r\nHELLO 3\r\nINFO cluster");
    let text = "# Cluster\r\ncluster_enabled:0\r\n";
    assert!(replies.starts_with(&format!("$30\r\n{text}\r\n%7\r\n")), "{replies}");
    assert!(replies.ends_with(&format!("=34\r\ntxt:{text}\r\n")), "{replies}");
}

#[test]
fn clients_of_all_cores_are_listed_and_killed() {
    let mut stage = Stage::new(2);
    let clients = [stage.connect(0), stage.connect(1), stage.connect(1)];
    stage.run(clients[1], "CLIENT SETNAME other");
    let list = stage.run(clients[0], "CLIENT LIST");
    assert_eq!(list.lines().filter(|line| line.starts_with("id=")).count(), 3);
    assert!(list.contains(" name=other "));
    let id = stage.run(clients[1], "CLIENT ID").trim_start_matches(':').trim_end().to_string();
    assert!(stage.run(clients[0], &format!("CLIENT LIST ID {id} 999")).contains(&format!("\r\nid={id} ")));
    assert_eq!(stage.run(clients[0], &format!("CLIENT KILL ID {id}")), ":1\r\n");
    assert_eq!(stage.closing(clients[1]), Closing::Now);
    assert_eq!(stage.closing(clients[2]), Closing::Open);
    assert_eq!(stage.run(clients[0], &format!("CLIENT KILL ID {id}")), ":0\r\n", "killed already");
    assert_eq!(stage.run(clients[0], "CLIENT KILL 1.1.1.1:1"), "-ERR No such client\r\n");
}

#[test]
fn the_killer_reads_its_reply_before_it_goes() {
    let mut stage = Stage::new(2);
    let (caller, other) = (stage.connect(0), stage.connect(1));
    assert_eq!(stage.run(caller, "CLIENT KILL TYPE normal"), ":1\r\n");
    assert_eq!((stage.closing(caller), stage.closing(other)), (Closing::Open, Closing::Now));
    assert_eq!(stage.run(caller, "CLIENT KILL TYPE normal SKIPME no"), ":1\r\n");
    assert_eq!(stage.closing(caller), Closing::AfterReplies);
}

#[test]
fn replies_can_be_turned_off_or_skipped() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    assert_eq!(stage.run(client, "CLIENT REPLY OFF\r\nPING\r\nCLIENT LIST\r\nGET k\r\nPING"), "");
    assert_eq!(stage.run(client, "CLIENT REPLY ON"), "+OK\r\n");
    assert_eq!(stage.run(client, "CLIENT REPLY SKIP\r\nINFO\r\nECHO hi"), "$2\r\nhi\r\n");
}

#[test]
fn requests_are_counted_over_all_cores_until_reset() {
    let mut stage = Stage::new(2);
    let (one, other) = (stage.connect(0), stage.connect(1));
    for client in [one, other, other] {
        stage.run(client, "PING");
    }
    stage.run(one, "AUTH a b c");
    let info = stage.run(one, "INFO commandstats errorstats clients");
    assert!(info.contains("cmdstat_ping:calls=3,"), "{info}");
    assert!(info.contains("errorstat_ERR:count=1\r\n") && info.contains("connected_clients:2\r\n"), "{info}");
    assert!(stage.run(other, "LATENCY HISTOGRAM ping").starts_with("*2\r\n$4\r\nping\r\n*4\r\n$5\r\ncalls\r\n:3\r\n"));
    assert_eq!(stage.run(other, "LATENCY RESET ping"), ":0\r\n");
    assert_eq!(stage.run(other, "LATENCY HISTOGRAM ping"), "*0\r\n");
    assert_eq!(stage.run(other, "CONFIG RESETSTAT"), "+OK\r\n");
    assert!(!stage.run(one, "INFO commandstats").contains("cmdstat_ping"));
}

#[test]
fn time_spent_before_a_reset_is_not_charged_to_the_next_command() {
    let mut stage = Stage::new(1);
    let client = stage.connect(0);
    TICKS.set(60_000_000_000);
    stage.run(client, "CONFIG RESETSTAT\r\nPING");
    let info = stage.run(client, "INFO commandstats");
    let usec = info.split("cmdstat_ping:calls=1,usec=").nth(1).and_then(|rest| rest.split(',').next());
    assert!(usec.and_then(|usec| usec.parse::<u64>().ok()).is_some_and(|usec| usec < 1_000), "{info}");
}

#[test]
fn debug_is_refused_unless_allowed() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    for line in ["DEBUG SLEEP 1", "DEBUG DIGEST", "DEBUG OBJECT k", "DEBUG HELP"] {
        assert!(stage.run(client, line).starts_with("-ERR DEBUG command not allowed."), "{line}");
    }
    assert!(stage.cores.iter().all(|core| core.sleep.is_none()));
    for core in &mut stage.cores {
        core.settings.set("enable-debug-command", b"local").expect("a setting");
        core.apply_config();
    }
    assert_eq!(stage.run(client, "DEBUG SLEEP 1"), "+OK\r\n");
    assert!(stage.cores.iter().all(|core| core.sleep.is_some()));
    assert_eq!(stage.run(client, "DEBUG SET-ACTIVE-EXPIRE 0"), "+OK\r\n");
    assert!(stage.cores.iter().all(|core| !core.active_expire));
}

fn allow_debug(stage: &mut Stage) {
    for core in &mut stage.cores {
        core.settings.set("enable-debug-command", b"yes").expect("a setting");
        core.apply_config();
    }
}

#[test]
fn a_reload_keeps_all_data_of_all_cores_and_gives_values_their_form() {
    let mut stage = Stage::new(3);
    allow_debug(&mut stage);
    let client = stage.connect(1);
    for number in 0..50 {
        stage.run(client, &format!("SET s{number} v{number} PX 60000"));
        stage.run(client, &format!("RPUSH l{number} a b c"));
        stage.run(client, &format!("APPEND t{number} 12"));
        stage.run(client, &format!("HSET h{number} f v g w"));
    }
    for line in ["SELECT 3", "ZADD z 1 a 2 b", "XADD x 1-1 f v", "SELECT 0"] {
        stage.run(client, line);
    }
    let digest = stage.run(client, "DEBUG DIGEST");
    let edits = |stage: &Stage| stage.cores.iter().map(|core| core.owner.keyspace.edit_count()).collect::<Vec<_>>();
    let before = edits(&stage);
    stage.run(client, "CONFIG SET hash-max-listpack-entries 1");
    for options in ["", " NOSAVE", " noflush merge"] {
        assert_eq!(stage.run(client, &format!("DEBUG RELOAD{options}")), "+OK\r\n");
    }
    assert_eq!((stage.run(client, "DEBUG DIGEST"), edits(&stage)), (digest, before));
    assert_eq!(stage.run(client, "OBJECT ENCODING t7"), "$3\r\nint\r\n");
    assert_eq!(stage.run(client, "OBJECT ENCODING h7"), "$9\r\nhashtable\r\n");
    assert_eq!(stage.run(client, "PTTL s7"), ":60000\r\n");
    let refusal = "-ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.\r\n";
    assert_eq!(stage.run(client, "DEBUG RELOAD NOSAVE NOW"), refusal);
}

#[test]
fn digests_of_values_come_in_the_order_of_keys_wherever_they_are() {
    let digests = |shards| {
        let mut stage = Stage::new(shards);
        allow_debug(&mut stage);
        let client = stage.connect(0);
        assert_eq!(stage.run(client, "DEBUG DIGEST-VALUE"), "*0\r\n");
        stage.run(
            client,
            "MSET a same b same c other\r\nSADD s 1 2 3\r\nSET d same PX 60000\r\nSADD s2 3 2 1 x\r\nSREM s2 x",
        );
        stage.run(client, "DEBUG DIGEST-VALUE a nope b c s d s2")
    };
    let one = digests(1);
    let lines: Vec<&str> = one.split("\r\n").collect();
    let [count, a, nope, b, c, s, d, s2, ""] = lines[..] else { panic!("{one}") };
    assert_eq!((count, nope), ("*7", &*format!("+{}", "0".repeat(40))));
    assert!(a == b && s == s2 && a.len() == 41, "{one}");
    assert!(a != c && a != s && a != d && a != nope, "{one}");
    assert_eq!(digests(3), one);
}

#[test]
fn a_shutdown_is_requested_once_its_options_make_sense() {
    let mut stage = Stage::new(1);
    let client = stage.connect(0);
    for wrong in ["SHUTDOWN FOO", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW"] {
        assert_eq!(stage.run(client, wrong), "-ERR syntax error\r\n", "{wrong}");
    }
    assert_eq!(stage.run(client, "SHUTDOWN ABORT"), "-ERR No shutdown in progress.\r\n");
    assert!(!stage.cores[0].shutdown_requested);
    assert_eq!(stage.run(client, "SHUTDOWN NOSAVE NOW FORCE"), "");
    assert!(stage.cores[0].shutdown_requested);
}

#[test]
fn keys_are_found_in_requests() {
    let mut stage = Stage::new(1);
    let client = stage.connect(0);
    for (line, reply) in [
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS OBJECT ENCODING k", "*1\r\n$1\r\nk\r\n"),
        ("COMMAND GETKEYS NOPE k", "-ERR Invalid command specified\r\n"),
        ("COMMAND GETKEYS PING k", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS GET k k", "-ERR Invalid number of arguments specified for command\r\n"),
        ("COMMAND GETKEYSANDFLAGS GET k", "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+RO\r\n+access\r\n"),
        ("COMMAND INFO nope", "*1\r\n$-1\r\n"),
        ("COMMAND LIST FILTERBY ACLCAT nope", "*0\r\n"),
        ("COMMAND LIST FILTERBY PATTERN ECH?", "*1\r\n$4\r\necho\r\n"),
        ("COMMAND DOCS nope", "*0\r\n"),
    ] {
        assert_eq!(stage.run(client, line), reply, "{line}");
    }
}

// ---- transactions ----------------------------------------------------------------------------------------

/// The `n`th key of a shard.
fn key_on(shards: u16, shard: u16, n: usize) -> String {
    let slots = SlotMap::new(shards);
    let keys = (0..).map(|number| format!("k{number}"));
    keys.filter(|key| slots.shard_of(slot_of(key.as_bytes())) == ShardId(shard)).nth(n).expect("endless")
}

impl Stage {
    /// One way from one core to another: calls and replies that are ready.
    fn carry_from(&mut self, from: usize, to: usize) {
        let (shard, peer) = (ShardId(to as u16), ShardId(from as u16));
        if let Some(calls) = self.cores[from].take_calls(shard, CallBatch::default) {
            self.cores[to].on_calls(peer, &calls);
        }
        if let Some(replies) = self.cores[from].take_replies(shard, ReplyBatch::default) {
            self.cores[to].on_replies(peer, &replies);
        }
    }

    /// Carries batches and runs what had to wait, until nothing is left to do.
    fn run_all(&mut self, client: Client, lines: &str) -> String {
        self.send(client, lines);
        self.finish();
        self.received(client)
    }

    fn finish(&mut self) {
        self.carry();
        while self.cores.iter().any(Core::has_resumable) {
            self.cores.iter_mut().for_each(Core::resume);
            self.carry();
        }
    }

    fn keep_logs(&mut self) {
        self.cores.iter_mut().for_each(|core| core.log.persistent = true);
    }
}

#[test]
fn every_command_of_a_pipeline_is_answered_though_a_shard_takes_no_writes() {
    for blocked in 0..2 {
        let mut stage = Stage::new(2);
        let client = stage.connect(0);
        let (taken, refused) = (key_on(2, 1 - blocked, 0), key_on(2, blocked, 0));
        stage.cores[blocked as usize].log.persistent = true;
        stage.cores[blocked as usize].log.blocked = Some("full".into());
        let replies =
            stage.run_all(client, &format!("SET {taken} v\r\nSET {refused} v\r\nGET {taken}\r\nGET {refused}"));
        let (first, rest) = replies.split_at("+OK\r\n-MISCONF".len());
        assert_eq!(first, "+OK\r\n-MISCONF", "{blocked}");
        assert!(rest.ends_with("full\r\n$1\r\nv\r\n$-1\r\n"), "{blocked}: only the write is refused: {rest}");
        // What is all or nothing takes the pipeline with it.
        let replies = stage.run_all(client, &format!("MSET {taken} v {refused} v\r\nGET {taken}\r\nGET {refused}"));
        assert_eq!(replies.matches("-MISCONF").count(), 3, "{blocked}: {replies}");
    }
}

#[test]
fn a_watch_that_broke_on_one_shard_is_forgotten_on_all() {
    let mut stage = Stage::new(2);
    let (client, other) = (stage.connect(0), stage.connect(0));
    let (here, there) = (key_on(2, 0, 0), key_on(2, 1, 0));
    stage.run_all(client, &format!("WATCH {here} {there}\r\nMULTI\r\nSET {here} mine"));
    stage.run_all(other, &format!("SET {here} other\r\nSET {there} other"));
    assert_eq!(stage.run_all(client, "EXEC"), "*-1\r\n");
    stage.run_all(client, &format!("WATCH {there}\r\nMULTI\r\nSET {there} mine"));
    assert_eq!(stage.run_all(client, "EXEC"), "*1\r\n+OK\r\n", "nobody has written it since");
}

#[test]
fn input_behind_an_exec_is_run_though_the_client_has_ended_its_side() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    let (here, there) = (key_on(2, 0, 0), key_on(2, 1, 0));
    stage.send(client, &format!("MSET {here} 1 {there} 2\r\nMULTI\r\nSET {here} 3\r\nEXEC\r\nGET {here}"));
    stage.cores[0].end_input(client.connection);
    stage.finish();
    assert_eq!(stage.received(client), "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n3\r\n");
    assert_eq!(stage.closing(client), Closing::AfterReplies);
}

#[test]
fn a_client_that_wants_no_replies_is_closed_after_its_transaction() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    let (here, there) = (key_on(2, 0, 0), key_on(2, 1, 0));
    stage.send(client, &format!("CLIENT REPLY OFF\r\nMSET {here} 1 {there} 2\r\n*1\r\n+garbage"));
    assert_eq!(stage.closing(client), Closing::AfterReplies);
    let mut dirty = Vec::new();
    stage.cores[0].take_dirty(&mut dirty);
    stage.finish();
    stage.cores[0].take_dirty(&mut dirty);
    assert_eq!(dirty, [client.connection], "the runtime is told when it is time to close");
}

#[test]
fn nobody_waits_for_a_log_that_has_failed() {
    let mut stage = Stage::new(2);
    for core in &mut stage.cores {
        core.settings.set("appendfsync", b"always").expect("a setting");
        core.apply_config();
    }
    stage.keep_logs();
    let (client, piped, other) = (stage.connect(0), stage.connect(0), stage.connect(0));
    let (here, there) = (key_on(2, 0, 0), key_on(2, 1, 0));
    assert_eq!(stage.run_all(client, &format!("SET {here} 1")), "");
    assert_eq!(stage.run_all(client, &format!("SET {there} 1")), "");
    assert_eq!(stage.run_all(piped, &format!("SET {here} 1\r\nSET {there} 1")), "");
    stage.cores[0].fail_log("gone");
    assert_eq!(stage.closing(client), Closing::Now);
    // The other shard's log goes on; what its reply is sent with is lost all the same.
    let batch = stage.cores[1].take_edits(Vec::new()).expect("edits");
    stage.cores[1].release(Offset(batch.start.0 + batch.edits.len() as u64));
    stage.finish();
    assert_eq!(stage.closing(piped), Closing::Now);
    // What nobody will find after a restart is not shown.
    let lost = "-MISCONF This would show what the failed log of shard 0 lacks; restart to recover\r\n";
    assert_eq!(stage.run_all(other, &format!("GET {here}")), lost);
    let remote = stage.connect(1);
    assert_eq!(stage.run_all(remote, &format!("GET {here}")), lost);
}

#[test]
fn a_part_that_runs_after_its_log_has_failed_keeps_no_intents() {
    let mut stage = Stage::new(3);
    stage.keep_logs();
    let (client, other) = (stage.connect(0), stage.connect(2));
    let keys: Vec<String> = (0..3).map(|shard| key_on(3, shard, 0)).collect();
    stage.send(client, &format!("MSET {} 1 {} 2 {} 3", keys[0], keys[1], keys[2]));
    // Both others have granted when the log of one fails; then they are told to run.
    stage.carry_from(0, 1);
    stage.carry_from(0, 2);
    stage.cores[2].fail_log("gone");
    stage.finish();
    for key in &keys {
        let reply = stage.run_all(other, &format!("GET {key}"));
        assert!(!reply.is_empty(), "{key} is kept from readers for ever");
    }
}

#[test]
fn a_transaction_that_was_granted_is_run_whole_though_a_log_is_blocked_meanwhile() {
    let mut stage = Stage::new(3);
    stage.keep_logs();
    let client = stage.connect(0);
    let keys: Vec<String> = (0..3).map(|shard| key_on(3, shard, 0)).collect();
    stage.send(client, &format!("MSET {} 1 {} 2 {} 3", keys[0], keys[1], keys[2]));
    stage.carry_from(0, 1);
    stage.carry_from(0, 2);
    stage.cores[2].log.blocked = Some("full".into());
    stage.finish();
    assert!(stage.cores.iter().all(|core| core.owner.keyspace.len(Db(0)) == 1));
}

#[test]
fn what_an_unanswered_scan_holds_waits_for_its_own_reply() {
    let mut stage = Stage::new(3);
    let client = stage.connect(0);
    let (here, next, far) = (key_on(3, 0, 0), key_on(3, 1, 0), key_on(3, 2, 0));
    stage.send(client, &format!("GET {next}"));
    stage.carry_from(0, 1);
    stage.send(client, &format!("SCAN 1\r\nMSET {here} 1 {far} 2\r\nSET {} 3", key_on(3, 0, 1)));
    // The replies of the GET and of the SCAN come one after the other, that of the MSET doesn't.
    for _ in 0..2 {
        stage.carry_from(1, 0);
        stage.cores[0].resume();
        stage.carry_from(0, 1);
    }
    stage.carry_from(1, 0);
    stage.cores[0].resume();
    assert_eq!(stage.cores[0].owner.keyspace.len(Db(0)), 0, "the SET has run before the MSET");
    stage.finish();
    assert!(stage.received(client).ends_with("+OK\r\n+OK\r\n"));
}

#[test]
fn credits_bound_what_a_client_asks_of_all_cores() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    stage.send(client, &vec!["CONFIG RESETSTAT"; 50_000].join("\r\n"));
    let batch = stage.cores[0].take_calls(ShardId(1), CallBatch::default).expect("calls");
    assert!(batch.len() < 10_000, "{} calls", batch.len());
    stage.cores[1].on_calls(ShardId(0), &batch);
    stage.finish();
    assert_eq!(stage.received(client), "+OK\r\n".repeat(50_000));
}

#[test]
fn an_entry_for_the_scratch_keyspace_is_fetched_once() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    let (here, there) = (key_on(2, 0, 0), key_on(2, 1, 0));
    let lengths = format!("STRLEN {there}\r\n").repeat(100);
    stage.run_all(client, &format!("SET {there} value\r\nMULTI\r\n{lengths}COPY {there} {here}"));
    stage.send(client, "EXEC");
    stage.carry_from(0, 1);
    stage.carry_from(1, 0);
    let step = stage.cores[0].take_calls(ShardId(1), CallBatch::default).expect("a step");
    let fetches = step.calls().iter().filter(|call| matches!(call.work, Work::Fetch { .. })).count();
    assert_eq!(fetches, 1);
}

#[test]
fn a_key_that_is_watched_again_is_remembered_once() {
    let mut stage = Stage::new(2);
    let client = stage.connect(0);
    stage.run_all(client, &format!("WATCH{}", " k".repeat(10)));
    stage.run_all(client, "WATCH k");
    assert_eq!(stage.cores[0].session(client.connection).expect("connected").watched.len(), 1);
}

#[test]
fn an_exec_over_three_shards_ends_the_watch_on_all() {
    let mut stage = Stage::new(3);
    let client = stage.connect(0);
    let keys = [0, 1, 2].map(|shard| key_on(3, shard, 0)).join(" ");
    for _ in 0..2 {
        let sets = keys.split(' ').map(|key| format!("SET {key} v\r\n")).collect::<String>();
        stage.run_all(client, &format!("WATCH {keys}\r\nMULTI\r\n{sets}PING"));
        assert_eq!(stage.run_all(client, "EXEC"), "*4\r\n+OK\r\n+OK\r\n+OK\r\n+PONG\r\n");
    }
}

/// The other shard sends what they need of a large value, not all of it: nobody may see the difference.
#[test]
fn commands_that_fetch_ends_and_single_elements_see_what_one_shard_would() {
    let keys = |name: &str| [0, 1].map(|shard| format!("{name}{{{}}}", key_on(2, shard, 0)));
    let ([list, other], [set, target], [sorted, last]) = (keys("l"), keys("s"), keys("z"));
    let long = |n: usize| format!("{n:0>40}");
    let numbers = |from: usize, to: usize| (from..to).map(long).collect::<Vec<_>>().join(" ");
    let scored = |from: usize, to: usize| (from..to).map(|n| format!("{n} {}", long(n))).collect::<Vec<_>>().join(" ");
    let mut lines = vec![
        format!("RPUSH {list} {}", numbers(0, 900)),
        format!("RPUSH {other} {}", numbers(900, 1_500)),
        format!("SADD {set} {}", numbers(0, 900)),
        format!("SADD {target} {}", numbers(600, 1_500)),
        format!("ZADD {sorted} {}", scored(0, 900)),
    ];
    for n in [0, 1, 7, 300, 299, 295, 1_000] {
        lines.extend([
            format!("LMPOP 2 {list} {other} LEFT COUNT {}", n.max(1)),
            format!("BLMPOP 0.001 2 {other} {list} RIGHT COUNT {}", n.max(1)),
            format!("LMOVE {list} {other} LEFT RIGHT"),
            format!("RPOPLPUSH {other} {list}"),
            format!("BLMOVE {list} {other} RIGHT LEFT 0.001"),
            format!("LRANGE {list} 0 -1"),
            format!("LRANGE {other} 0 -1"),
            format!("SMOVE {set} {target} {}", long(n)),
            format!("SMOVE {target} {set} {}", long(n)),
            format!("SMOVE {target} {set} {}", long(n + 600)),
            format!("SCARD {set}"),
            format!("SCARD {target}"),
            format!("SISMEMBER {set} {}", long(n + 600)),
            format!("ZMPOP 2 {last} {sorted} MIN COUNT {}", n.max(1)),
            format!("BZMPOP 0.001 2 {last} {sorted} MAX COUNT {}", n.max(1)),
            format!("ZRANGE {sorted} 0 -1"),
            format!("EXISTS {list} {other} {set} {target} {sorted} {last}"),
        ]);
    }
    let (mut one, mut two) = (Stage::new(1), Stage::new(2));
    let (alone, client) = (one.connect(0), two.connect(0));
    for line in lines {
        let reply = two.run_all(client, &line);
        // The last of all: one that would wait, and there the time stands still.
        if reply.is_empty() {
            break;
        }
        assert_eq!(reply, one.run_all(alone, &line), "{}", &line[..line.len().min(60)]);
    }
}

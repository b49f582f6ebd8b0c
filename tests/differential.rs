//! Seeded random commands into our server and into redis-server: every reply must be the same.
//! Whatever Redis does is right here, except what depends on time, chance or the order of a hash table.
//!
//! `SHARDIS_DIFF_COMMANDS=1000000` for the long form, `SHARDIS_DIFF_SEED=n` to repeat a run.
#![allow(clippy::disallowed_methods, reason = "shrinking a difference is bounded in real time")]

mod differential {
    pub mod groups;
}
mod support;

use fastrand::Rng;
use shards::units::Now;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};
use support::client::{Client, Command, command};
use support::resp::command_line;
use support::script::Target;
use support::shard::Shard;
use support::{Resp, Server};

const BATCH: usize = 200;
/// How long a difference may be shrunk.
const SHRINK_MAX: Duration = Duration::from_secs(20);

/// Without connections, routing and log in between: what differs here is the handlers' own.
#[test]
fn a_shard_by_itself_answers_as_redis_does() {
    compare(|| Subject::Shard, commands_wanted()).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn one_shard_answers_as_redis_does() {
    let one = || Subject::Server(Server::shardis(&["--shards", "1"]));
    compare(one, commands_wanted()).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn three_shards_answer_as_redis_does() {
    let three = || Subject::Server(Server::shardis(&["--shards", "3"]));
    compare(three, commands_wanted()).unwrap_or_else(|found| panic!("{found}"));
}

/// The harness itself: nothing that it compares may differ between two equal servers.
#[test]
fn redis_answers_as_redis_does() {
    compare(|| Subject::Server(Server::redis(&[])), 3_000).unwrap_or_else(|found| panic!("{found}"));
}

/// The harness itself: a server that differs in one reply is found out, and the way there is short.
#[test]
fn a_planted_difference_is_found_and_shrunk() {
    let other = || Subject::Server(Server::redis(&["--maxmemory-policy", "allkeys-lfu"]));
    let found = compare(other, 20_000);
    if let Err(found) = found {
        assert!(found.contains("OBJECT"), "{found}");
        let commands = found.lines().filter(|line| line.starts_with("> ")).count();
        assert!(commands <= 8, "{commands} commands are left:\n{found}");
    } else if support::redis_server().is_some() {
        panic!("OBJECT FREQ and IDLETIME under another policy went unnoticed");
    }
}

fn commands_wanted() -> usize {
    support::from_env("SHARDIS_DIFF_COMMANDS", 20_000) as usize
}

/// `Err`: the first difference, with few of the commands that lead to it.
fn compare(start: impl Fn() -> Subject, wanted: usize) -> Result<(), String> {
    if support::redis_server().is_none() {
        return Ok(());
    }
    let seed = support::seed("SHARDIS_DIFF_SEED");
    let mut pair = Pair::new(start(), Server::redis(&[]));
    let mut generator = Generator { rng: Rng::with_seed(seed), stream_ms: 0, transactions: pair.has_connections() };
    let mut history: Vec<Command> = Vec::new();
    while history.len() < wanted {
        let first = history.len();
        while history.len() < first + BATCH {
            generator.some(&mut history);
        }
        if let Some(difference) = pair.run(&history[first..]) {
            let at = first + difference.at;
            let shortest = shrink(&mut pair, &history[..=at]);
            let lines = shortest.iter().map(|args| format!("> {}\n", command_line(args))).collect::<String>();
            let Difference { ours, oracle, .. } = difference;
            return Err(format!(
                "replies differ at command {at} of seed {seed}:\n{lines}ours:\n{ours}\nredis:\n{oracle}\n"
            ));
        }
    }
    println!("{} commands, no difference", history.len());
    Ok(())
}

/// What is compared with the oracle.
enum Subject {
    Server(Server),
    Shard,
}

/// A way to run commands.
enum Runner {
    Connection(Client),
    Shard(Box<Shard>),
}

impl Runner {
    fn new(subject: &Subject) -> Runner {
        match subject {
            Subject::Server(server) => Runner::Connection(server.client()),
            Subject::Shard => Runner::Shard(Box::new(Shard::new(fastrand::u64(..)))),
        }
    }
    fn run(&mut self, commands: &[Command]) -> Vec<Resp> {
        match self {
            Runner::Connection(client) => client.pipeline(commands).expect("a server answers"),
            Runner::Shard(shard) => {
                // The oracle's clock is the machine's.
                let since = SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
                shard.now = Now::at(since.as_millis() as u64);
                commands.iter().map(|args| shard.call(args).expect("a shard always answers")).collect()
            }
        }
    }
}

/// Ours and the oracle, fed alike.
struct Pair {
    servers: (Subject, Server),
    ours: Runner,
    oracle: Runner,
}

struct Difference {
    at: usize,
    ours: Resp,
    oracle: Resp,
}

impl Pair {
    fn new(ours: Subject, oracle: Server) -> Pair {
        let runners = (Runner::new(&ours), Runner::Connection(oracle.client()));
        Pair { servers: (ours, oracle), ours: runners.0, oracle: runners.1 }
    }

    /// Runs commands on both, with a full SCAN wherever one stands, up to the first difference.
    fn run(&mut self, commands: &[Command]) -> Option<Difference> {
        let mut start = 0;
        while start < commands.len() {
            let len = commands[start..].iter().position(is_scan).unwrap_or(commands.len() - start);
            let part = &commands[start..start + len];
            let (ours, oracle) = (self.ours.run(part), self.oracle.run(part));
            for (index, (ours, oracle)) in ours.into_iter().zip(oracle).enumerate() {
                if !alike(&part[..=index], &ours, &oracle) {
                    return Some(Difference { at: start + index, ours, oracle });
                }
            }
            start += len;
            if let Some(scan) = commands.get(start) {
                let (ours, oracle) = (full_scan(&mut self.ours, scan), full_scan(&mut self.oracle, scan));
                if ours != oracle {
                    return Some(Difference { at: start, ours, oracle });
                }
                start += 1;
            }
        }
        None
    }

    /// MULTI and its kin are no commands of a shard by itself.
    fn has_connections(&self) -> bool {
        matches!(self.servers.0, Subject::Server(_))
    }

    /// Empties both and connects anew.
    fn reset(&mut self) {
        self.ours = Runner::new(&self.servers.0);
        self.oracle = Runner::Connection(self.servers.1.client());
        let empty = [command(&["FLUSHALL"])];
        self.ours.run(&empty);
        self.oracle.run(&empty);
    }
}

/// Takes commands away as long as the last one still differs: halves, then smaller and smaller runs.
fn shrink(pair: &mut Pair, failing: &[Command]) -> Vec<Command> {
    let start = Instant::now();
    let mut commands = failing.to_vec();
    let mut differs = |commands: &[Command]| {
        pair.reset();
        pair.run(commands).is_some_and(|difference| difference.at + 1 == commands.len())
    };
    if !differs(&commands) {
        return commands.split_off(commands.len().saturating_sub(50));
    }
    let mut chunk = commands.len() / 2;
    while chunk > 0 && start.elapsed() < SHRINK_MAX {
        let mut end = commands.len() - 1;
        while end > 0 && start.elapsed() < SHRINK_MAX {
            let from = end.saturating_sub(chunk);
            let mut fewer = commands.clone();
            fewer.drain(from..end);
            if differs(&fewer) {
                commands = fewer;
            }
            end = from;
        }
        chunk /= 2;
    }
    let shown = commands.len().min(60);
    commands.split_off(commands.len() - shown)
}

fn is_scan(args: &Command) -> bool {
    args[0].eq_ignore_ascii_case(b"SCAN") && args.get(1).is_some_and(|cursor| cursor == b"0")
}

/// All keys of a whole iteration, as a set; or the first error.
fn full_scan(runner: &mut Runner, args: &Command) -> Resp {
    let (mut args, mut keys) = (args.clone(), BTreeSet::new());
    for _ in 0..100_000 {
        let reply = runner.run(std::slice::from_ref(&args)).remove(0);
        let Resp::Array(parts) = &reply else { return reply };
        keys.extend(parts[1].items().iter().cloned());
        args[1] = parts[0].bytes().to_vec();
        if args[1] == b"0" {
            return Resp::Array(keys.into_iter().collect());
        }
    }
    panic!("SCAN does not come to an end");
}

/// Whether two replies to the last of these commands mean the same.
fn alike(commands: &[Command], ours: &Resp, oracle: &Resp) -> bool {
    let (args, before) = commands.split_last().expect("replies are to a command");
    match (ours, oracle) {
        _ if ours == oracle => true,
        (Resp::Array(ours), Resp::Array(oracle)) if args[0] == b"EXEC" && ours.len() == oracle.len() => {
            // From MULTI on all was queued, but for what is refused there without spoiling the rest.
            let since = before.rsplit(|args| matches!(&args[0][..], b"EXEC" | b"DISCARD")).next().unwrap_or_default();
            let begun = since.iter().skip_while(|args| args[0] != b"MULTI");
            let queued = begun.filter(|args| !matches!(&args[0][..], b"MULTI" | b"WATCH")).collect::<Vec<_>>();
            let mut replies = queued.iter().zip(ours.iter().zip(oracle));
            queued.len() == ours.len() && replies.all(|(args, (ours, oracle))| alike_alone(args, ours, oracle))
        }
        _ => alike_alone(args, ours, oracle),
    }
}

fn alike_alone(args: &Command, ours: &Resp, oracle: &Resp) -> bool {
    if ours == oracle {
        return true;
    }
    let readable = args.iter().flatten().all(|byte| (b' '..=b'~').contains(byte));
    if !readable && ours.is_error() && oracle.is_error() {
        // Errors that repeat bytes which are no text: Redis cuts them at a NUL, ours are UTF-8. The code must agree.
        return ours.text().split(' ').next() == oracle.text().split(' ').next();
    }
    // Which of the two zeros a score is depends on the form it has been kept in, and when that changed (docs/compatibility.md).
    let one_zero = |reply: &Resp| reply.to_string().replace("\"-0\"", "\"0\"");
    if args[0].first().is_some_and(|first| first.eq_ignore_ascii_case(&b'Z')) && one_zero(ours) == one_zero(oracle) {
        return true;
    }
    let near = |tolerance: i64| match (ours, oracle) {
        (Resp::Integer(a), Resp::Integer(b)) => *a > 0 && *b > 0 && (a - b).abs() <= tolerance,
        _ => false,
    };
    match String::from_utf8_lossy(&args[0]).to_ascii_uppercase().as_str() {
        "TTL" | "EXPIRETIME" => near(3),
        "PTTL" | "PEXPIRETIME" => near(3_000),
        "KEYS" => match (ours, oracle) {
            (Resp::Array(a), Resp::Array(b)) => a.len() == b.len() && BTreeSet::from_iter(a) == BTreeSet::from_iter(b),
            _ => false,
        },
        "HGETALL" | "HKEYS" | "HVALS" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" | "SPOP" => match (ours, oracle) {
            (Resp::Array(a), Resp::Array(b)) => a.len() == b.len() && BTreeSet::from_iter(a) == BTreeSet::from_iter(b),
            _ => false,
        },
        // The nodes of Redis' tree are its own affair; and it may keep nodes that have lost all their entries.
        name if name.starts_with('X') => differential::groups::alike(ours, oracle),
        // Four arguments are too many in 7.0; the fourth is an option from 7.2 on.
        "ZRANK" | "ZREVRANK" => args.len() == 4 && ours.is_error() && oracle.is_error(),
        "RANDOMKEY" => matches!((ours, oracle), (Resp::Bulk(_), Resp::Bulk(_))),
        "OBJECT" => {
            args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"IDLETIME")) && {
                matches!((ours, oracle), (Resp::Integer(_), Resp::Integer(_)))
            }
        }
        _ => false,
    }
}

/// Random commands: mostly valid, over few keys, so that they meet; some mangled.
struct Generator {
    rng: Rng,
    /// Ids of streams go up with it, slowly.
    stream_ms: u64,
    transactions: bool,
}

impl Generator {
    /// A command, or a whole transaction, now and then with a watch before it.
    fn some(&mut self, out: &mut Vec<Command>) {
        if !self.transactions || self.rng.u32(..12) > 0 {
            return out.push(self.command());
        }
        if self.rng.u32(..3) == 0 {
            out.push(self.several("WATCH"));
            for _ in 0..self.rng.usize(..3) {
                // A BITFIELD that fails may make a key of which Redis tells no watcher.
                let command = self.command();
                out.extend((!is_scan(&command) && command[0] != b"BITFIELD").then_some(command));
            }
            if self.rng.u32(..10) == 0 {
                out.push(words(["UNWATCH"], []));
            }
        }
        out.push(words(["MULTI"], []));
        for _ in 0..self.rng.usize(..12) {
            // A full iteration takes several calls, and one mangled command spoils all the others.
            let command = if self.rng.u32(..40) == 0 { self.command() } else { self.valid() };
            out.extend((!is_scan(&command)).then_some(command));
        }
        if self.rng.u32(..40) == 0 {
            out.push(words([self.pick(["MULTI", "WATCH"]), "k1"], []));
        }
        out.push(words([self.pick(["EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD"])], []));
    }

    fn command(&mut self) -> Command {
        let mut args = self.valid();
        if self.rng.u32(..100) < 3 {
            self.mangle(&mut args);
        }
        args
    }

    /// The family first, so that a family with few commands is as well covered as one with many.
    fn valid(&mut self) -> Command {
        match self.rng.u32(..100) {
            0..14 => self.strings_write(),
            14..21 => self.strings_read(),
            21..30 => self.bitmaps(),
            30..41 => self.keys(),
            41..52 => self.deadlines(),
            52..62 => self.hashes(),
            62..73 => self.lists(),
            73..81 => self.sets(),
            81..92 => self.sorted_sets(),
            92..95 => self.streams(),
            95..98 => self.groups(),
            _ => self.whole(),
        }
    }

    fn strings_write(&mut self) -> Command {
        let (key, value) = (self.key(), self.value());
        match self.rng.u32(..19) {
            0..4 => self.set(key, value),
            4 => words(["SETNX"], [key, value]),
            5 => words([self.pick(["SETEX", "PSETEX"])], [key, self.ttl(), value]),
            6 => words(["GETSET"], [key, value]),
            7 => words(["GETDEL"], [key]),
            8 => {
                let mut args = words(["GETEX"], [key]);
                self.expire_option(&mut args, &["PERSIST"]);
                args
            }
            9 => self.pairs("MSET"),
            10 => self.pairs("MSETNX"),
            11 | 12 => words(["APPEND"], [key, value]),
            13 | 14 => words(["SETRANGE"], [key, self.offset(), value]),
            15 => words([self.pick(["INCR", "DECR"])], [key]),
            16 | 17 => words([self.pick(["INCRBY", "DECRBY"])], [key, self.integer()]),
            _ => words(["INCRBYFLOAT"], [key, self.float()]),
        }
    }

    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Command {
        let mut args = words(["SET"], [key, value]);
        if self.rng.u32(..4) == 0 {
            args.push(self.pick(["NX", "XX", "nx"]).into());
        }
        if self.rng.u32(..5) == 0 {
            args.push(b"GET".to_vec());
        }
        if self.rng.u32(..3) == 0 {
            self.expire_option(&mut args, &["KEEPTTL"]);
        }
        args
    }

    fn strings_read(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..9) {
            0..3 => words(["GET"], [key]),
            3 => self.several("MGET"),
            4 => words(["STRLEN"], [key]),
            5 | 6 => words([self.pick(["GETRANGE", "SUBSTR"])], [key, self.index(), self.index()]),
            7 => words(["GET"], [self.key()]),
            _ => self.lcs(key),
        }
    }

    fn lcs(&mut self, key: Vec<u8>) -> Command {
        let mut args = words(["LCS"], [key, self.key()]);
        if self.rng.bool() {
            args.push(self.pick(["LEN", "IDX"]).into());
        }
        if self.rng.u32(..3) == 0 {
            args.extend(words(["MINMATCHLEN"], [self.small()]));
        }
        if self.rng.u32(..3) == 0 {
            args.push(b"WITHMATCHLEN".to_vec());
        }
        args
    }

    fn bitmaps(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..12) {
            0 | 1 => words(["SETBIT"], [key, self.bit_offset(), self.pick(["0", "1", "1", "2"]).into()]),
            2 => words(["GETBIT"], [key, self.bit_offset()]),
            3 | 4 => {
                let mut args = words(["BITCOUNT"], [key]);
                self.bit_range(&mut args);
                args
            }
            5 | 6 => {
                let mut args = words(["BITPOS"], [key, self.pick(["0", "1", "0", "1", "2"]).into()]);
                match self.rng.u32(..3) {
                    0 => args.push(self.index()),
                    _ => self.bit_range(&mut args),
                }
                args
            }
            7 | 8 => {
                let operation = self.pick(["AND", "OR", "XOR", "NOT", "NOT", "and", "NAND"]);
                let mut args = words(["BITOP", operation], [key]);
                let sources = if operation == "NOT" { 1 } else { self.rng.usize(1..4) };
                args.extend((0..sources).map(|_| self.key()).collect::<Vec<_>>());
                args
            }
            9 => self.bitfield("BITFIELD_RO", true),
            _ => self.bitfield("BITFIELD", false),
        }
    }

    fn bit_range(&mut self, args: &mut Command) {
        if self.rng.u32(..3) > 0 {
            args.extend([self.index(), self.index()]);
            if self.rng.bool() {
                args.push(self.pick(["BYTE", "BIT", "bit", "BITS"]).into());
            }
        }
    }

    fn bitfield(&mut self, name: &str, read_only: bool) -> Command {
        let mut args = words([name], [self.key()]);
        for _ in 0..self.rng.usize(..4) {
            let sign = if self.rng.bool() { 'i' } else { 'u' };
            let odd = self.rng.u32(..20) == 0;
            let kind = format!("{sign}{}", self.rng.u32(if odd { 0..70 } else { 1..64 }));
            let hash = if self.rng.u32(..3) == 0 { "#" } else { "" };
            let at = format!("{hash}{}", self.rng.u32(..100));
            match self.rng.u32(..if read_only { 10 } else { 30 }) {
                0..9 => args.extend(words(["GET", &kind, &at], [])),
                9..20 => args.extend(words(["SET", &kind, &at], [self.integer()])),
                20..26 => args.extend(words(["INCRBY", &kind, &at], [self.integer()])),
                _ => args.extend(words(["OVERFLOW", self.pick(["WRAP", "SAT", "FAIL", "NONE"])], [])),
            }
        }
        args
    }

    fn keys(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..20) {
            0..5 => {
                let name = self.pick(["DEL", "UNLINK", "DEL", "EXISTS", "TOUCH"]);
                self.several(name)
            }
            5 => words(["TYPE"], [key]),
            6..9 => words([self.pick(["RENAME", "RENAMENX"])], [key, self.key()]),
            9..12 => {
                let mut args = words(["COPY"], [key, self.key()]);
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["DB"], [self.db()]));
                }
                if self.rng.bool() {
                    args.push(b"REPLACE".to_vec());
                }
                args
            }
            12 | 13 => words(["MOVE"], [key, self.db()]),
            14 => words(["OBJECT", self.pick(["ENCODING", "ENCODING", "ENCODING", "IDLETIME", "FREQ", "WHAT"])], [key]),
            15 | 16 => words(["OBJECT", "ENCODING"], [key]),
            17 => words(
                ["KEYS", self.pick(["*", "k?", "k[0-3]", "k[^0-3]", "k1*", "\\k1", "nothing*", "**1", "[k-l]1"])],
                [],
            ),
            18 => {
                let mut args = words(["SCAN", "0"], []);
                if self.rng.bool() {
                    args.extend(words(["MATCH", self.pick(["*", "k1*", "*[12]", "k?"])], []));
                }
                if self.rng.bool() {
                    args.extend(words(["COUNT", self.pick(["1", "5", "1000", "0", "-1", "x"])], []));
                }
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["TYPE", self.pick(["string", "STRING", "list", "hash", "set", "zset"])], []));
                }
                args
            }
            _ => words(["RANDOMKEY"], []),
        }
    }

    fn deadlines(&mut self) -> Command {
        let key = self.key();
        match self.rng.u32(..12) {
            0..5 => {
                let name = self.pick(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]);
                let time = if name.ends_with("AT") { self.point_in_time(name) } else { self.ttl() };
                let mut args = words([name], [key, time]);
                for _ in 0..[0, 0, 1, 1, 1, 2][self.rng.usize(..6)] {
                    args.push(self.pick(["NX", "XX", "GT", "LT", "gt", "ZZ"]).into());
                }
                args
            }
            5..10 => words([self.pick(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])], [key]),
            _ => words(["PERSIST"], [key]),
        }
    }

    fn hashes(&mut self) -> Command {
        let key = self.key_of("h");
        let field = self.element();
        match self.rng.u32(..18) {
            0..5 => {
                let mut args = words([self.pick(["HSET", "HSET", "HMSET"])], [key]);
                for _ in 0..self.rng.usize(1..5) {
                    args.extend([self.element(), self.value()]);
                }
                args
            }
            5 => words(["HSETNX"], [key, field, self.value()]),
            6 => words([self.pick(["HGET", "HEXISTS", "HSTRLEN"])], [key, field]),
            7 => words(["HMGET"], [key, field, self.element()]),
            8 => words([self.pick(["HGETALL", "HKEYS", "HVALS", "HLEN"])], [key]),
            9 | 10 => words(["HDEL"], [key, field, self.element()]),
            11 | 12 => words(["HINCRBY"], [key, field, self.integer()]),
            13 => words(["HINCRBYFLOAT"], [key, field, self.float()]),
            14 => words(["HRANDFIELD"], [key, b"0".to_vec()]),
            15 => words(["OBJECT", "ENCODING"], [key]),
            16 => words(["HLEN"], [key]),
            _ => words(["HDEL"], [key, field]),
        }
    }

    fn lists(&mut self) -> Command {
        let key = self.key_of("l");
        let side = |rng: &mut Rng| if rng.bool() { b"LEFT".to_vec() } else { b"right".to_vec() };
        match self.rng.u32(..24) {
            0..6 => {
                let mut args = words([self.pick(["LPUSH", "RPUSH", "LPUSH", "RPUSH", "LPUSHX", "RPUSHX"])], [key]);
                let count = self.rng.usize(1..6);
                args.extend((0..count).map(|_| self.element()).collect::<Vec<_>>());
                args
            }
            6..8 => words([self.pick(["LPOP", "RPOP"])], [key]),
            8 => words([self.pick(["LPOP", "RPOP"])], [key, self.small()]),
            9 => words(["LLEN"], [key]),
            10 => words(["LINDEX"], [key, self.index()]),
            11..14 => words(["LRANGE"], [key, self.index(), self.index()]),
            14 => words(["LSET"], [key, self.index(), self.value()]),
            15 => {
                let place = self.pick(["BEFORE", "AFTER", "after", "AT"]).into();
                words(["LINSERT"], [key, place, self.element(), self.value()])
            }
            16 => words(["LREM"], [key, self.small(), self.element()]),
            17 => words(["LTRIM"], [key, self.index(), self.index()]),
            18 => {
                let mut args = words(["LPOS"], [key, self.element()]);
                for name in ["RANK", "COUNT", "MAXLEN"] {
                    if self.rng.u32(..3) == 0 {
                        args.extend(words([name], [self.rng.i32(-3..5).to_string().into_bytes()]));
                    }
                }
                args
            }
            19 | 20 => {
                let (from, to) = (side(&mut self.rng), side(&mut self.rng));
                words(["LMOVE"], [key, self.key_of("l"), from, to])
            }
            21 => words(["RPOPLPUSH"], [key, self.key_of("l")]),
            22 => {
                let side = side(&mut self.rng);
                let mut args = words(["LMPOP", "2"], [key, self.key_of("l"), side]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    fn sets(&mut self) -> Command {
        let key = self.key_of("s");
        match self.rng.u32(..18) {
            0..6 => {
                let mut args = words(["SADD"], [key]);
                let count = self.rng.usize(1..6);
                args.extend((0..count).map(|_| self.element()).collect::<Vec<_>>());
                args
            }
            6 | 7 => words(["SREM"], [key, self.element(), self.element()]),
            8 => words(["SISMEMBER"], [key, self.element()]),
            9 => words(["SMISMEMBER"], [key, self.element(), self.element()]),
            10 => words([self.pick(["SCARD", "SMEMBERS", "SMEMBERS"])], [key]),
            11 => words(["SPOP", self.pick(["0", "100000", "-1"])], [key]),
            12 => words(["SMOVE"], [key, self.key_of("s"), self.element()]),
            13 => words([self.pick(["SINTER", "SUNION", "SDIFF"])], [key, self.key_of("s")]),
            14 | 15 => {
                let name = self.pick(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                words([name], [key, self.key_of("s"), self.key_of("s")])
            }
            16 => {
                let mut args = words(["SINTERCARD", "2"], [key, self.key_of("s")]);
                if self.rng.bool() {
                    args.extend(words(["LIMIT"], [self.small()]));
                }
                args
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    fn sorted_sets(&mut self) -> Command {
        let key = self.key_of("z");
        match self.rng.u32(..34) {
            0..7 => {
                let mut args = words(["ZADD"], [key]);
                for option in ["NX", "XX", "GT", "LT", "CH", "INCR"] {
                    if self.rng.u32(..8) == 0 {
                        args.push(option.into());
                    }
                }
                for _ in 0..self.rng.usize(1..5) {
                    args.extend([self.score(), self.element()]);
                }
                args
            }
            7 | 8 => words(["ZINCRBY"], [key, self.score(), self.element()]),
            9 | 10 => words(["ZREM"], [key, self.element(), self.element()]),
            11 => words([self.pick(["ZSCORE", "ZRANK", "ZREVRANK"])], [key, self.element()]),
            12 => words(["ZMSCORE"], [key, self.element(), self.element()]),
            13 => words([self.pick(["ZCOUNT", "ZREMRANGEBYSCORE"])], [key, self.score_limit(), self.score_limit()]),
            14..17 => {
                let mut args = words([self.pick(["ZRANGE", "ZREVRANGE"])], [key, self.index(), self.index()]);
                if self.rng.bool() {
                    args.push(b"WITHSCORES".to_vec());
                }
                args
            }
            17..20 => {
                let name = self.pick(["ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGE", "ZRANGESTORE"]);
                let mut args = words([name], [key]);
                if name == "ZRANGESTORE" {
                    args.push(self.key_of("z"));
                }
                args.extend([self.score_limit(), self.score_limit()]);
                if name.ends_with("GE") || name.ends_with("STORE") {
                    args.push(b"BYSCORE".to_vec());
                    args.extend(self.rng.bool().then(|| b"REV".to_vec()));
                }
                if self.rng.u32(..3) == 0 {
                    args.push(b"withscores".to_vec());
                }
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["LIMIT"], [self.small(), self.small()]));
                }
                args
            }
            20 => words(["ZREMRANGEBYRANK"], [key, self.index(), self.index()]),
            21 => {
                let mut args = words([self.pick(["ZPOPMIN", "ZPOPMAX"])], [key]);
                if self.rng.bool() {
                    args.push(self.small());
                }
                args
            }
            22 => {
                let mut args = words(["ZMPOP", "2"], [key, self.key_of("z"), self.pick(["MIN", "max"]).into()]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            23 => words(["ZCARD"], [key]),
            24..29 => self.sorted_set_algebra(key),
            // Ranges by member mean something only where all scores are the same.
            29 | 30 => {
                words(["ZADD"], [self.key_of("y"), b"0".to_vec(), self.element(), b"0".to_vec(), self.element()])
            }
            31 => {
                let name = self.pick(["ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZLEXCOUNT", "ZREMRANGEBYLEX"]);
                words([name], [self.key_of("y"), self.member_limit(), self.member_limit()])
            }
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }

    fn sorted_set_algebra(&mut self, key: Vec<u8>) -> Command {
        let name = self.pick([
            "ZUNION",
            "ZINTER",
            "ZDIFF",
            "ZUNIONSTORE",
            "ZINTERSTORE",
            "ZDIFFSTORE",
            "ZINTERCARD",
            "ZUNION",
        ]);
        let mut args = words([name], []);
        if name.ends_with("STORE") {
            args.push(key);
        }
        args.push(b"2".to_vec());
        args.push(self.key_of("z"));
        args.push(if self.rng.u32(..4) == 0 { self.key_of("s") } else { self.key_of("z") });
        if self.rng.u32(..3) == 0 {
            args.extend(words(["WEIGHTS"], [self.score(), self.score()]));
        }
        if self.rng.u32(..3) == 0 {
            args.extend(words(["AGGREGATE", self.pick(["SUM", "MIN", "max", "AVG"])], []));
        }
        if self.rng.u32(..2) == 0 {
            args.push(b"WITHSCORES".to_vec());
        }
        args
    }

    /// Explicit ids only: the others are of a clock.
    fn streams(&mut self) -> Command {
        let key = self.key_of("x");
        match self.rng.u32(..30) {
            0..14 => self.stream_entry(key),
            14..17 => {
                let mut args = words(["XDEL"], [key]);
                args.extend((0..self.rng.usize(1..4)).map(|_| self.stream_id()).collect::<Vec<_>>());
                args
            }
            17 | 18 => {
                let mut args = words(["XTRIM"], [key]);
                self.trim_options(&mut args);
                args
            }
            19..23 => {
                let mut args =
                    words([self.pick(["XRANGE", "XREVRANGE"])], [key, self.stream_limit(), self.stream_limit()]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            23 | 24 => words(["XLEN"], [key]),
            25 => {
                let mut args = words(["XREAD"], []);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args.extend(words(["STREAMS"], [key, self.key_of("x"), self.stream_id(), self.stream_id()]));
                // An id of 7.4.
                args.iter_mut().filter(|arg| *arg == b"+").for_each(|arg| *arg = b"1".to_vec());
                args
            }
            26 => {
                let mut args = words(["XSETID"], [key, self.stream_id()]);
                if self.rng.bool() {
                    args.extend(words(["ENTRIESADDED"], [self.index(), b"MAXDELETEDID".to_vec(), self.stream_id()]));
                }
                args
            }
            27 => words(["XINFO", "STREAM"], [key]),
            28 => words(["XINFO", "STREAM"], [key, b"FULL".to_vec()]),
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }
    fn stream_entry(&mut self, key: Vec<u8>) -> Command {
        let mut args = words(["XADD"], [key]);
        if self.rng.u32(..6) == 0 {
            self.trim_options(&mut args);
        }
        if self.rng.u32(..10) == 0 {
            args.push(b"NOMKSTREAM".to_vec());
        }
        let id = self.stream_id();
        args.push(if self.rng.u32(..3) > 0 { format!("{}-*", self.stream_ms).into_bytes() } else { id });
        let names = self.pick(["f", "f", "f", "fg", "fg", "gfh"]);
        for name in names.bytes() {
            args.extend([vec![name], self.element()]);
        }
        args
    }
    fn trim_options(&mut self, args: &mut Command) {
        let (name, threshold) = match self.rng.u32(..4) {
            0 => (self.pick(["MINID", "minid"]), self.stream_id()),
            1 => ("MAXLEN", self.index()),
            _ => ("maxlen", self.rng.u32(..200).to_string().into_bytes()),
        };
        args.push(name.into());
        let precision = self.pick(["", "=", "~", "~", "~"]);
        args.extend((!precision.is_empty()).then(|| precision.as_bytes().to_vec()));
        args.push(threshold);
        if self.rng.u32(..4) == 0 {
            args.extend(words(["LIMIT"], [self.rng.i32(-1..300).to_string().into_bytes()]));
        }
    }
    /// Around what has been reached, which goes up slowly.
    fn stream_id(&mut self) -> Vec<u8> {
        self.stream_ms += self.rng.u64(..3);
        let old = self.rng.u64(..self.stream_ms + 1);
        match self.rng.u32(..60) {
            0 => self.pick(["0", "0-0", "-", "+", "$", "x", "5-x", "5-*", "(3", "18446744073709551616"]).into(),
            1..10 => old.to_string().into_bytes(),
            10..30 => format!("{old}-{}", self.rng.u32(..3)).into_bytes(),
            30..40 => format!("{}-{}", self.stream_ms, self.rng.u32(..5)).into_bytes(),
            _ => self.stream_ms.to_string().into_bytes(),
        }
    }
    fn stream_limit(&mut self) -> Vec<u8> {
        match self.rng.u32(..8) {
            0..2 => b"-".to_vec(),
            2..4 => b"+".to_vec(),
            4 => [b"(".to_vec(), self.stream_id()].concat(),
            _ => self.stream_id(),
        }
    }

    fn whole(&mut self) -> Command {
        match self.rng.u32(..40) {
            0..10 => words(["SELECT"], [self.db()]),
            10..20 => words(["DBSIZE"], []),
            20..24 => words(["SWAPDB"], [self.db(), self.db()]),
            24 => words(["FLUSHDB"], []),
            25 => words(["FLUSHALL", self.pick(["SYNC", "ASYNC", "LATER"])], []),
            _ => words(["SELECT", "0"], []),
        }
    }

    /// EX, PX, EXAT, PXAT or one of `others`, now and then two of them.
    fn expire_option(&mut self, args: &mut Command, others: &[&str]) {
        for _ in 0..if self.rng.u32(..15) == 0 { 2 } else { 1 } {
            match self.rng.u32(..6) {
                0 | 1 => args.extend(words([self.pick(["EX", "PX", "ex"])], [self.ttl()])),
                2 | 3 => {
                    let name = self.pick(["EXAT", "PXAT"]);
                    args.extend(words([name], [self.future(name)]));
                }
                _ => args.push(self.rng.choice(others).expect("at least one").as_bytes().to_vec()),
            }
        }
    }

    fn mangle(&mut self, args: &mut Command) {
        let at = self.rng.usize(..args.len());
        if args[0] == b"SCAN" && at <= 1 {
            // Any number is a cursor to somewhere: nothing to compare.
            return;
        }
        if args[0] == b"XREAD" || args[0] == b"XADD" && at > 1 {
            // `+` is of 7.4, and some options of XADD are newer too; `*` is of the clock.
            return;
        }
        if matches!(&args[0][..], b"SPOP" | b"HRANDFIELD") {
            // With another count, or none, the reply is chance.
            return;
        }
        match self.rng.u32(..4) {
            0 if args.len() > 1 => {
                args.remove(at.max(1));
            }
            1 => args.insert(at + 1, self.value()),
            // Not by a number, which could be a time so near that the two servers disagree on it.
            2 if at > 0 => args[at] = self.pick(["", "x", "1.5", "k1", "NX", "PX", "9223372036854775808"]).into(),
            _ => args.push(self.pick(["GET", "NX", "EX", "REPLACE", "1"]).into()),
        }
    }

    fn several(&mut self, name: &str) -> Command {
        let count = self.rng.usize(1..5);
        let mut args = words([name], []);
        args.extend((0..count).map(|_| self.key()).collect::<Vec<_>>());
        args
    }

    fn pairs(&mut self, name: &str) -> Command {
        let count = self.rng.usize(1..4);
        let mut args = words([name], []);
        for _ in 0..count {
            args.extend([self.key(), self.value()]);
        }
        args
    }

    fn pick<'t, const N: usize>(&mut self, of: [&'t str; N]) -> &'t str {
        of[self.rng.usize(..N)]
    }
    fn key(&mut self) -> Vec<u8> {
        match self.rng.u32(..60) {
            0 => Vec::new(),
            1 => b"bin\x00\r\n\xff".to_vec(),
            _ => format!("k{}", self.rng.u32(..20)).into_bytes(),
        }
    }
    /// A key that mostly holds one type.
    fn key_of(&mut self, prefix: &str) -> Vec<u8> {
        if self.rng.u32(..25) == 0 { self.key() } else { format!("{prefix}{}", self.rng.u32(..4)).into_bytes() }
    }
    /// A field or member: few, so that they meet; numbers and texts.
    fn element(&mut self) -> Vec<u8> {
        match self.rng.u32(..40) {
            0 => self.value(),
            1 => vec![b'e'; self.rng.usize(60..70)],
            2 => (self.rng.i64(-3..3) * 100_000).to_string().into_bytes(),
            3..20 => format!("m{}", self.rng.u32(..12)).into_bytes(),
            _ => self.rng.u32(..30).to_string().into_bytes(),
        }
    }
    /// Of a few digits: 7.0 prints doubles with 17.
    fn score(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["inf", "-inf", "nan", "x", "1e2", "2e1"]).into(),
            1..4 => format!("{}.5", self.rng.i32(-9..9)).into_bytes(),
            _ => self.rng.i32(-20..20).to_string().into_bytes(),
        }
    }
    fn score_limit(&mut self) -> Vec<u8> {
        let mut limit = if self.rng.u32(..4) == 0 { b"(".to_vec() } else { Vec::new() };
        match self.rng.u32(..6) {
            0 => limit.extend(b"-inf"),
            1 => limit.extend(b"+inf"),
            _ => limit.extend(self.score()),
        }
        limit
    }
    fn member_limit(&mut self) -> Vec<u8> {
        match self.rng.u32(..8) {
            0 => b"-".to_vec(),
            1 => b"+".to_vec(),
            2 => self.element(),
            3..5 => [b"(".to_vec(), self.element()].concat(),
            _ => [b"[".to_vec(), self.element()].concat(),
        }
    }
    fn db(&mut self) -> Vec<u8> {
        self.pick(["0", "0", "1", "2", "3", "0", "1", "15", "16", "-1", "x"]).into()
    }
    fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(..9) {
            0 | 1 => self.integer(),
            2 => self.float(),
            3 => Vec::new(),
            4 => (0..self.rng.usize(..60)).map(|_| self.rng.u8(..)).collect(),
            5 => vec![b'x'; self.rng.usize(40..50)],
            6 => self.pick(["0x10", " 1", "1 ", "+1", "01", "-0", "1e3", "nan", "inf", "1_0"]).into(),
            _ => (0..self.rng.usize(..20)).map(|_| self.rng.u8(b'a'..b'e')).collect(),
        }
    }
    fn integer(&mut self) -> Vec<u8> {
        match self.rng.u32(..10) {
            0 => self.pick(["9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.0", ""]).into(),
            1 => self.rng.i64(..).to_string().into_bytes(),
            _ => self.rng.i64(-300..300).to_string().into_bytes(),
        }
    }
    fn float(&mut self) -> Vec<u8> {
        match self.rng.u32(..12) {
            0 => self.pick(["1e400", "-inf", "nan", "abc", "0x1p3", "1.5e2", "3.0e3", "-0"]).into(),
            1 => self.rng.i64(-1000..1000).to_string().into_bytes(),
            _ => format!("{}.{:02}", self.rng.i64(-99..99), self.rng.u32(..100)).into_bytes(),
        }
    }
    fn small(&mut self) -> Vec<u8> {
        self.rng.i32(-1..6).to_string().into_bytes()
    }
    fn index(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["9223372036854775807", "-9223372036854775808", "x", "1.5"]).into(),
            _ => self.rng.i32(-30..60).to_string().into_bytes(),
        }
    }
    fn offset(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["-1", "536870912", "9223372036854775807", "x"]).into(),
            _ => self.rng.u32(..70).to_string().into_bytes(),
        }
    }
    fn bit_offset(&mut self) -> Vec<u8> {
        match self.rng.u32(..25) {
            0 => self.pick(["-1", "4294967296", "x", "", "4294967295000"]).into(),
            _ => self.rng.u32(..500).to_string().into_bytes(),
        }
    }
    /// Far enough away that no key expires while the two are compared, and rarely twice the same; or in the past.
    fn ttl(&mut self) -> Vec<u8> {
        match self.rng.u32(..12) {
            0 => self
                .pick(["0", "-1", "-1000", "9223372036854775807", "9223372036854775", "-9223372036854775808", "x"])
                .into(),
            _ => self.rng.u64(10_000_000..100_000_000).to_string().into_bytes(),
        }
    }
    /// For EXPIREAT and its kin, which remove a key at once when the time is past.
    fn point_in_time(&mut self, name: &str) -> Vec<u8> {
        if self.rng.u32(..12) == 0 { b"1000".to_vec() } else { self.future(name) }
    }
    /// For options of SET and GETEX: Redis may or may not have removed by itself what they let expire in the past.
    fn future(&mut self, name: &str) -> Vec<u8> {
        let ms = if name.starts_with('P') { 1000 } else { 1 };
        match self.rng.u32(..12) {
            0 => self.pick(["0", "-1", "x", "", "1.5", "-9223372036854775808", "9223372036854775808"]).into(),
            _ => (self.rng.u64(4_000_000_000..8_000_000_000) * ms).to_string().into_bytes(),
        }
    }
}

fn words<const N: usize, const M: usize>(first: [&str; N], then: [Vec<u8>; M]) -> Command {
    first.iter().map(|word| word.as_bytes().to_vec()).chain(then).collect()
}

//! Seeded random commands into our server and into redis-server: every reply must be the same.
//! Whatever Redis does is right here, except what depends on time, chance or the order of a hash table.
//!
//! `SHARDIS_DIFF_COMMANDS=1000000` for the long form, `SHARDIS_DIFF_SEED=n` to repeat a run.
#![allow(clippy::disallowed_methods, reason = "shrinking a difference is bounded in real time")]

mod support;

use shards::units::Now;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};
use support::client::{Client, Command, command};
use support::commands::{Generator, carry, groups, is_carry, is_scan};
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
    let mut generator = Generator::new(seed, pair.has_connections());
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

    /// Runs commands on both, with a full SCAN wherever one stands, and CARRY done, up to the first difference.
    fn run(&mut self, commands: &[Command]) -> Option<Difference> {
        let mut start = 0;
        while start < commands.len() {
            let len = commands[start..].iter().position(is_several).unwrap_or(commands.len() - start);
            let part = &commands[start..start + len];
            let (ours, oracle) = (self.ours.run(part), self.oracle.run(part));
            for (index, (ours, oracle)) in ours.into_iter().zip(oracle).enumerate() {
                if !alike(&part[..=index], &ours, &oracle) {
                    return Some(Difference { at: start + index, ours, oracle });
                }
            }
            start += len;
            if let Some(several) = commands.get(start) {
                let ours = run_several(&mut self.ours, several);
                let oracle = run_several(&mut self.oracle, several);
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

/// Whether it stands for several, each of which depends on a reply.
fn is_several(args: &Command) -> bool {
    is_scan(args) || is_carry(args)
}

fn run_several(runner: &mut Runner, args: &Command) -> Resp {
    if is_carry(args) { carry(args, |args| runner.run(&[args]).remove(0)) } else { full_scan(runner, args) }
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
        // Without an order, or with one that tells not all apart; a limit would choose by it.
        "SORT" | "SORT_RO" if args.iter().any(|arg| arg == b"BY") => match (ours, oracle) {
            (Resp::Array(a), Resp::Array(b)) => {
                let bag = |replies: &[Resp]| {
                    let mut bag = replies.to_vec();
                    bag.sort();
                    bag
                };
                let has_ties = args.iter().any(|arg| arg == b"ALPHA" || arg == b"nosort");
                has_ties && bag(a) == bag(b)
            }
            _ => false,
        },
        "HGETALL" | "HKEYS" | "HVALS" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" | "SPOP" => match (ours, oracle) {
            (Resp::Array(a), Resp::Array(b)) => a.len() == b.len() && BTreeSet::from_iter(a) == BTreeSet::from_iter(b),
            _ => false,
        },
        // The nodes of Redis' tree are its own affair; and it may keep nodes that have lost all their entries.
        name if name.starts_with('X') => groups::alike(args, ours, oracle),
        // Four arguments are too many in 7.0; the fourth is an option from 7.2 on.
        "ZRANK" | "ZREVRANK" => args.len() == 4 && ours.is_error() && oracle.is_error(),
        "RANDOMKEY" => matches!((ours, oracle), (Resp::Bulk(_), Resp::Bulk(_))),
        // SORT has made a sorted set large.
        "OBJECT" if (ours.bytes(), oracle.bytes()) == (b"listpack", b"skiplist") => !args[2].starts_with(b"z"),
        "OBJECT" => {
            args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"IDLETIME")) && {
                matches!((ours, oracle), (Resp::Integer(_), Resp::Integer(_)))
            }
        }
        _ => false,
    }
}

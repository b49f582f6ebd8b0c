//! Commands with any arguments: drawn for their rows, made of valid ones, or of those that showed something new.
//!
//! Also checked: a command looks at no keys but those that its row names, so on a keyspace with these alone it replies the same.

use super::corpus::{self, short_hash};
use super::dictionary::{self, PREPARED};
use super::without_panic;
use crate::support::commands::{Generator, carry, is_carry};
use crate::support::resp::command_line;
use crate::support::script::Target;
use crate::support::shard::Shard;
use crate::support::{Command, Resp};
use fastrand::Rng;
use shards::call::{Args, Sight, Span};
use shards::commands::FAMILIES;
use shards::keyspace::Keyspace;
use shards::row::{Keys, Route, Row, Traits};
use shards::types::Thresholds;
use shards::units::Db;
use std::collections::{BTreeMap, BTreeSet};

/// Commands on one shard, before another is begun: what breaks is then not far from its cause.
const AT_ONCE: usize = 150;
/// The longest string that a command may make.
const STRING_BYTES_MAX: u64 = 1 << 20;
const KEYSPACE_BYTES_MAX: usize = 512 << 20;
const REPLY_BYTES_MAX: usize = 64 << 20;
const ARGUMENTS_MAX: usize = 16;

pub struct Arguments {
    generator: Generator,
    rows: Vec<&'static Row>,
    kept: Vec<Command>,
    /// By the group of commands, as they are kept in files.
    files: BTreeMap<String, Vec<Command>>,
    seen: BTreeSet<String>,
    tried: u64,
    answered: u64,
}

impl Arguments {
    pub fn new(seed: u64) -> Arguments {
        // DEBUG and MEMORY are of the server, in front of these.
        let top = FAMILIES.iter().flat_map(|rows| rows.iter()).filter(|row| !row.name.contains('|'));
        let rows = top.flat_map(|row| std::iter::once(row).chain(row.subcommands)).collect();
        let generator = Generator::new(seed, false).with_newer();
        Arguments {
            generator,
            rows,
            kept: Vec::new(),
            files: BTreeMap::new(),
            seen: BTreeSet::new(),
            tried: 0,
            answered: 0,
        }
    }

    /// Everything that was kept.
    pub fn replay(&mut self) {
        for (name, commands) in corpus::commands() {
            self.run(&commands, name.starts_with("found-"));
            self.kept.extend(commands);
        }
    }

    pub fn some(&mut self) {
        let commands: Vec<Command> = (0..AT_ONCE).map(|_| self.command()).collect();
        self.run(&commands, false);
    }

    /// Also writes down what was new.
    pub fn report(&self) {
        println!("{} commands, {} not refused, {} outcomes", self.tried, self.answered, self.seen.len());
        if corpus::keeps() {
            self.files.iter().for_each(|(group, commands)| corpus::keep_commands(group, commands));
        }
    }

    fn run(&mut self, commands: &[Command], is_known: bool) {
        let seed = self.generator.rng.u64(..);
        let mut outcomes = Vec::new();
        if let Err(why) = without_panic(|| run_all(commands, seed, &mut outcomes)) {
            let fewer = shrink(commands, seed);
            let lines: String = fewer.iter().map(|args| command_line(args) + "\n").collect();
            let name = format!("found-{}", short_hash(lines.as_bytes()));
            if !is_known {
                corpus::keep_commands(&name, &fewer);
            }
            panic!("tests/corpora/commands/{name}.txt, seed {seed}: {why}\n{lines}");
        }
        for (args, outcome) in commands.iter().zip(outcomes) {
            self.tried += 1;
            self.answered += u64::from(!outcome.contains("error"));
            if self.seen.insert(outcome) {
                self.kept.push(args.clone());
                let group = group_of(&args[0]);
                self.files.entry(group).or_default().push(args.clone());
            }
        }
    }

    fn command(&mut self) -> Command {
        let rng = &mut self.generator.rng;
        let mut args = match rng.u32(..10) {
            0..4 => return self.drawn(),
            4..8 => self.generator.command(),
            _ if self.kept.is_empty() => return self.drawn(),
            _ => self.kept[rng.usize(..self.kept.len())].clone(),
        };
        for _ in 0..self.generator.rng.usize(..3) {
            self.mutate(&mut args);
        }
        args
    }

    /// For a row: keys where it has them, mostly, and anything else.
    fn drawn(&mut self) -> Command {
        let rng = &mut self.generator.rng;
        let row = self.rows[rng.usize(..self.rows.len())];
        let mut args: Command = row.name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        let least = row.arity.unsigned_abs() as usize;
        let more = if row.arity < 0 || rng.u32(..20) == 0 { rng.usize(..ARGUMENTS_MAX / 2) } else { 0 };
        while args.len() < least + more {
            let is_key = match row.keys {
                Keys::None => false,
                Keys::Range { first, last, step, .. } => {
                    let last = if last < 0 { isize::MAX } else { last as isize };
                    let at = args.len() as isize - first as isize;
                    at >= 0 && args.len() as isize <= last && at % step as isize == 0
                }
                Keys::Two { first, rest } => args.len() == first.0 as usize || args.len() >= rest.0 as usize,
                Keys::Find { .. } => args.len() < 3,
            };
            let is_key = is_key && rng.u32(..12) > 0;
            args.push(if is_key { dictionary::key(rng) } else { dictionary::argument(rng) });
        }
        args
    }

    fn mutate(&mut self, args: &mut Command) {
        let rng = &mut self.generator.rng;
        let at = rng.usize(1..=args.len());
        let other = |rng: &mut Rng, kept: &[Command]| {
            let args = &kept[rng.usize(..kept.len())];
            args[rng.usize(..args.len())].clone()
        };
        match rng.u32(..8) {
            _ if is_carry(args) => {}
            0 if at < args.len() => drop(args.remove(at)),
            1 if args.len() < ARGUMENTS_MAX => args.insert(at, dictionary::argument(rng)),
            2 if !self.kept.is_empty() && at < args.len() => args[at] = other(rng, &self.kept),
            3 if at < args.len() => {
                let with = rng.usize(1..args.len());
                args.swap(at, with);
            }
            4 if at < args.len() && args.len() < ARGUMENTS_MAX => args.insert(at, args[at].clone()),
            5 if at < args.len() && !args[at].is_empty() => {
                let byte = rng.usize(..args[at].len());
                args[at][byte] = rng.u8(..);
            }
            _ if at < args.len() => args[at] = dictionary::argument(rng),
            _ => {}
        }
    }
}

/// The file for what commands like this showed.
fn group_of(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).to_lowercase();
    let row = FAMILIES.iter().flat_map(|rows| rows.iter()).find(|row| row.name == name);
    row.map_or("unknown".into(), |row| row.docs.group.to_string())
}

/// Takes commands away as long as the rest still breaks something.
fn shrink(commands: &[Command], seed: u64) -> Vec<Command> {
    let breaks = |commands: &[Command]| without_panic(|| run_all(commands, seed, &mut Vec::new())).is_err();
    let mut fewer = commands.to_vec();
    let mut at = fewer.len();
    while at > 0 {
        at -= 1;
        let taken = fewer.remove(at);
        if !breaks(&fewer) {
            fewer.insert(at, taken);
        }
    }
    fewer
}

/// Runs them on a new shard with keys of every type, and tells what became of each.
fn run_all(commands: &[Command], seed: u64, outcomes: &mut Vec<String>) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let mut shard = prepared(&mut rng);
    for args in commands {
        if rng.u32(..20) == 0 {
            shard.now.steady_ms += rng.u64(..50_000);
        }
        shard.set_protocol(rng.u8(2..4));
        let outcome = if is_carry(args) {
            carry(args, |args| shard.execute(&args))
        } else if args[0].eq_ignore_ascii_case(b"select") {
            shard.call(args)?
        } else {
            let expected = if rng.bool() { on_named_keys(&shard, args)? } else { None };
            let reply = shard.execute(args);
            if let Some(expected) = expected.filter(|expected| words(expected) != words(&reply)) {
                return Err(format!("on the keys that it names: {expected}\nbeside all others: {reply}"));
            }
            reply
        };
        let bytes = shard.owner.keyspace.bytes_used();
        if bytes > KEYSPACE_BYTES_MAX || words(&outcome).iter().map(String::len).sum::<usize>() > REPLY_BYTES_MAX {
            return Err(format!("{bytes} bytes in the keyspace, or a reply of too many: {}", command_line(args)));
        }
        outcomes.push(kind_of(args, &outcome));
    }
    same_elsewhere(&shard, seed)
}

fn prepared(rng: &mut Rng) -> Shard {
    let mut shard = Shard::new(rng.u64(..));
    shard.owner.limits.string_bytes_max = STRING_BYTES_MAX;
    if rng.bool() {
        shard.owner.keyspace.set_thresholds(few());
    }
    for line in PREPARED {
        let reply = shard.line(line);
        assert!(!reply.is_error(), "{line}: {reply}");
    }
    for [name, key] in [["RPUSH", "L"], ["SADD", "S"], ["HSET", "H"], ["ZADD", "Z"]] {
        let mut args: Command = vec![name.into(), key.into()];
        for number in 0..150 {
            args.extend((name == "ZADD").then(|| number.to_string().into_bytes()));
            args.push(format!("m{number}").into_bytes());
            args.extend((name == "HSET").then(|| number.to_string().into_bytes()));
        }
        shard.execute(&args);
    }
    large_stream(&mut shard);
    large_deadlines(&mut shard);
    shard.now.steady_ms += 10;
    shard
}

/// Many nodes, with two groups that are somewhere in it, and consumers with much and little pending.
fn large_stream(shard: &mut Shard) {
    for number in 0..150 {
        shard.line(&format!("XADD X {number}-1 f {number} {} v", ["g", "h"][number % 2]));
    }
    for line in [
        "XGROUP CREATE X g 0",
        "XGROUP CREATE X h 70-1",
        "XREADGROUP GROUP g a COUNT 100 STREAMS X >",
        "XREADGROUP GROUP g b COUNT 5 STREAMS X >",
        "XREADGROUP GROUP h b COUNT 30 STREAMS X >",
        "XACK X g 3-1 4-1 50-1",
        "XDEL X 5-1 6-1 149-1",
        "XTRIM X MINID 2",
    ] {
        let reply = shard.line(line);
        assert!(!reply.is_error(), "{line}: {reply}");
    }
}

/// Of fields that expire one after the other, some before anybody looks.
fn large_deadlines(shard: &mut Shard) {
    for number in 0..150 {
        shard.line(&format!("HSET E m{number} {number}"));
        if number % 3 > 0 {
            shard.line(&format!("HPEXPIRE E {} FIELDS 1 m{number}", 2 + number * number));
        }
    }
}

fn few() -> Thresholds {
    Thresholds {
        stream_node_entries: 2,
        hash_entries: 2,
        list_node: 2,
        set_integers: 2,
        sorted_set_entries: 2,
        sorted_set_value_bytes: 8,
        ..Thresholds::default()
    }
}

/// All edits since the start make the same where the thresholds are others.
fn same_elsewhere(shard: &Shard, seed: u64) -> Result<(), String> {
    let keyspace = &shard.owner.keyspace;
    keyspace.check_invariants();
    let mut other = Keyspace::new(keyspace.databases(), seed ^ 1);
    if seed.is_multiple_of(2) {
        other.set_thresholds(few());
    }
    other.replay_all(keyspace.edits()).map_err(|error| format!("edits that can't be read: {error}"))?;
    other.check_invariants();
    match (0..keyspace.databases()).map(Db).find(|db| keyspace.digest(*db) != other.digest(*db)) {
        Some(db) => Err(format!("the edits make something else of {db:?}")),
        None => Ok(()),
    }
}

/// What a command replies where there are the keys that it names and no others. `None` where that may be something else.
fn on_named_keys(shard: &Shard, args: &Command) -> Result<Option<Resp>, String> {
    let name = String::from_utf8_lossy(&args[0]).to_lowercase();
    let Some(row) = FAMILIES.iter().flat_map(|rows| rows.iter()).find(|row| row.name == name) else { return Ok(None) };
    let is_fixed = !name.contains("rand") && !name.contains("scan") && !name.starts_with("sort") && name != "spop";
    if !row.accepts(args.len()) || !row.subcommands.is_empty() {
        return Ok(None);
    }
    let mut named = Vec::new();
    let is_found = find_keys(row, args, &mut named)?;
    let is_keyed = row.route == Route::Keyed || matches!(row.route, Route::Split(_));
    if !is_found || !is_fixed || !is_keyed || matches!(row.keys, Keys::None) {
        return Ok(None);
    }
    let (here, seed) = (&shard.owner.keyspace, shard.owner.keyspace.seed());
    let mut alone = Shard::new(seed);
    (alone.now, alone.db, alone.protocol) = (shard.now, shard.db, shard.protocol);
    (alone.owner.limits, alone.owner.random) = (shard.owner.limits.clone(), shards::random::Random::new(seed));
    alone.owner.limits.sight = Sight::Named;
    let has_others = row.traits.has(Traits::OTHER_DATABASES);
    for db in (0..here.databases()).map(Db).filter(|db| has_others || *db == shard.db) {
        for key in &named {
            let entry = here.peek(db, &args[*key], shard.now).and_then(|_| here.export(db, &args[*key]));
            if let Some(edits) = entry {
                alone.owner.keyspace.replay_all(&edits).map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(Some(alone.execute(args)))
}

fn find_keys(row: &Row, args: &Command, named: &mut Vec<usize>) -> Result<bool, String> {
    let mut spans = Vec::new();
    let mut start = 0;
    for arg in args {
        spans.push(Span { start, len: arg.len() as u32 });
        start += arg.len() as u32;
    }
    let is_found = row.find_keys(&Args::new(&args.concat(), &spans), named);
    match named.iter().find(|at| **at == 0 || **at >= args.len()) {
        Some(at) => Err(format!("{} has no key at {at}", command_line(args))),
        None => Ok(is_found),
    }
}

/// All there is in a reply, in no order: that of large sets and hashes is each keyspace's own.
fn words(reply: &Resp) -> Vec<String> {
    let mut words = Vec::new();
    collect(reply, &mut words);
    words.sort();
    words
}

fn collect(reply: &Resp, words: &mut Vec<String>) {
    match reply {
        Resp::Array(items) | Resp::Set(items) | Resp::Push(items) => items.iter().for_each(|item| collect(item, words)),
        Resp::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            collect(key, words);
            collect(value, words);
        }),
        other => words.push(other.to_string()),
    }
}

/// The command, and the shape of its reply: an error's text without what it repeats.
fn kind_of(args: &Command, reply: &Resp) -> String {
    let name = String::from_utf8_lossy(&args[0]).to_lowercase();
    let shape = match reply {
        Resp::Error(_) => {
            let text = reply.text();
            let unquoted = text.split(['\'', '"', '`']).step_by(2).collect::<String>();
            let repeated = |word: &str| args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
            let is_plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic() || b",.-".contains(&byte));
            let kept = unquoted.split(' ').filter(|word| is_plain(word) && !repeated(word));
            format!("error {}", kept.take(7).collect::<Vec<_>>().join(" "))
        }
        Resp::Integer(number) => format!("integer {}", number.signum()),
        Resp::Array(items) => format!("array {}", items.len().min(3)),
        Resp::Set(items) => format!("set {}", items.len().min(3)),
        Resp::Map(pairs) => format!("map {}", pairs.len().min(3)),
        Resp::Bulk(text) => format!("text {}", text.len().min(1)),
        Resp::Simple(_) => "word".into(),
        Resp::Nil | Resp::NilArray => "nil".into(),
        Resp::Double(_) | Resp::Boolean(_) | Resp::BigNumber(_) | Resp::Verbatim(_) | Resp::Push(_) => "other".into(),
    };
    format!("{name}: {shape}")
}

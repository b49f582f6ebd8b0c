//! HyperLogLogs: strings that `types::hyperloglog` reads and changes; here is how they get into the keyspace.
//!
//! A change is logged as the bytes that differ, so one to a dense HyperLogLog is an edit of two bytes.
//!
//! PFCOUNT is a read and keeps no count: Redis notes the count it found in the value, and tells its replicas. Here
//! that would be an edit made by a read, which then would wait for the log and be refused by a full disk; kept outside of the
//! log, values would differ from what a restart brings back. A count that is there (from a Redis, by SET) is used.

use super::strings::make_raw;
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult};
use crate::keyspace::{Encoding as StringEncoding, Entry, NewDeadline, StringRef};
use crate::row::{KeyUse, Keys, Route, Row, Traits};
use crate::types::hyperloglog::{
    Draft, Encoding, INVALID_AT, INVALID_BIT, Mark, NOT_A_HYPERLOGLOG, REGISTERS, Registers, Sketch,
};
use std::ops::Range;

const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);
const GROWS_FAST: Traits = GROWS.and(Traits::FAST);

const ALL_READ: Keys = Keys::Range { first: 1, last: -1, step: 1, usage: KeyUse::Read };
/// The destination, which is a source too, then the sources.
const MERGED: Keys = Keys::Two { first: (1, KeyUse::ReadWrite), rest: (2, -1, KeyUse::Read) };
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1, usage: KeyUse::ReadWrite };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("pfadd", -2, GROWS_FAST, pfadd).key(KeyUse::Write)
        .docs("hyperloglog", "2.8.9", "O(1) for each element", "Adds elements to a HyperLogLog; makes the key when it doesn't exist."),
    <Row>::new("pfcount", -2, Traits::READ, pfcount).keys(ALL_READ)
        .docs("hyperloglog", "2.8.9", "O(N) in the number of keys, with large constant times", "Estimates how many distinct elements were added to HyperLogLogs."),
    <Row>::new("pfdebug", 3, GROWS.and(Traits::ADMIN), pfdebug).keys(SECOND)
        .docs("hyperloglog", "2.8.9", "O(1), with large constant times", "Shows how a HyperLogLog is kept, for those who debug it."),
    <Row>::new("pfmerge", -2, GROWS, pfmerge).keys(MERGED)
        .docs("hyperloglog", "2.8.9", "O(N) in the number of keys, with large constant times", "Merges HyperLogLogs into the first one."),
    <Row>::new("pfselftest", 1, Traits::ADMIN, pfselftest).route(Route::Any)
        .docs("hyperloglog", "2.8.9", "O(1), with large constant times", "Tests the representations of HyperLogLogs against each other."),
];

/// The HyperLogLog that an entry holds, or the error for what else it holds.
fn sketch<'a>(entry: &Entry<'a>) -> Result<Sketch<'a>, CommandError> {
    match entry.string()? {
        StringRef::Integer(_) => Err(NOT_A_HYPERLOGLOG),
        StringRef::Bytes(bytes) | StringRef::Raw(bytes) => Sketch::open(bytes),
    }
}

/// What is to be written so that a string at a key becomes another.
enum Change {
    Nothing,
    /// A part of the new string, at its own offset.
    Part(Range<usize>),
    /// All of it: it is shorter, or has become dense. A dense one never grows, so it gets no room to grow into, as it would
    /// from a splice.
    Whole,
}

impl Change {
    fn between(sketch: Sketch<'_>, draft: &Draft) -> Change {
        let (old, new) = (sketch.bytes(), draft.bytes());
        let same = |(old, new): &(&u8, &u8)| old == new;
        let start = old.iter().zip(new).take_while(same).count();
        if new.len() < old.len() || draft.sketch().encoding() != sketch.encoding() {
            Change::Whole
        } else if new.len() > old.len() {
            Change::Part(start..new.len())
        } else if start == new.len() {
            Change::Nothing
        } else {
            let behind = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
            Change::Part(start..new.len() - behind)
        }
    }
    /// Whether there was anything to write.
    fn write(self, call: &mut Call<'_>, key: &[u8], new: &[u8]) -> bool {
        match self {
            Change::Nothing => return false,
            Change::Part(range) => call.keyspace.splice(call.db, key, range.start, &new[range]),
            Change::Whole => call.keyspace.put_raw(call.db, key, new, NewDeadline::Keep),
        }
        true
    }
}

/// PFADD key [element ...]
fn pfadd(call: &mut Call<'_>) -> CommandResult {
    let (key, elements) = (call.args.at(1), call.args.from(2));
    let Some(entry) = call.keyspace.get_to_write(call.db, key, call.now) else {
        let mut draft = Draft::default();
        add_all(&mut draft, elements, call.limits.sparse_sketch_bytes_max)?;
        call.keyspace.put_raw(call.db, key, draft.bytes(), NewDeadline::None);
        call.reply.integer(1);
        return Ok(());
    };
    let shows_raw = entry.encoding() == StringEncoding::Raw;
    let sketch = sketch(&entry)?;
    let is_changed = match first_lacked(sketch, elements)? {
        None => false,
        Some(at) => {
            match sketch.encoding() {
                Encoding::Dense => add_to_dense(call, key, elements.from(at)),
                Encoding::Sparse => add_to_sparse(call, key, elements.from(at))?,
            }
            true
        }
    };
    if !is_changed && !shows_raw {
        make_raw(call);
    }
    call.reply.integer(is_changed as i64);
    Ok(())
}

/// Where the first element is that changes a register.
fn first_lacked(sketch: Sketch<'_>, elements: Args<'_>) -> Result<Option<usize>, CommandError> {
    for (at, element) in elements.iter().enumerate() {
        if sketch.lacks(Mark::of(element))? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn add_all(draft: &mut Draft, elements: Args<'_>, sparse_bytes_max: u64) -> CommandResult {
    for element in elements.iter() {
        draft.add(Mark::of(element), sparse_bytes_max)?;
    }
    draft.invalidate();
    Ok(())
}

/// The HyperLogLog that was found at `key` before in this very call.
fn found<'c>(call: &'c Call<'_>, key: &[u8]) -> Sketch<'c> {
    let entry = call.keyspace.peek(call.db, key, call.now).expect("time stands still during a call");
    sketch(&entry).expect("a change leaves a HyperLogLog")
}

/// Writes register by register: few elements change one.
fn add_to_dense(call: &mut Call<'_>, key: &[u8], elements: Args<'_>) {
    let mut marks = elements.iter().map(Mark::of);
    loop {
        let sketch = found(call, key);
        let Some(mark) = marks.find(|mark| sketch.lacks(*mark) == Ok(true)) else { return };
        let (at, bytes) = sketch.dense_change(mark);
        let count = sketch.cached_count();
        call.keyspace.splice(call.db, key, at, &bytes);
        if let Some(count) = count {
            call.keyspace.splice(call.db, key, INVALID_AT, &[(count >> 56) as u8 | INVALID_BIT]);
        }
    }
}

/// Changes a copy, as runs move when one is split.
fn add_to_sparse(call: &mut Call<'_>, key: &[u8], elements: Args<'_>) -> CommandResult {
    let sketch = found(call, key);
    let mut draft = Draft::of(sketch);
    add_all(&mut draft, elements, call.limits.sparse_sketch_bytes_max)?;
    Change::between(sketch, &draft).write(call, key, draft.bytes());
    Ok(())
}

/// PFCOUNT key [key ...]
fn pfcount(call: &mut Call<'_>) -> CommandResult {
    let count = match call.args.len() {
        2 => match call.keyspace.get(call.db, call.args.at(1), call.now) {
            None => 0,
            Some(entry) => {
                let sketch = sketch(&entry)?;
                sketch.cached_count().map_or_else(|| sketch.count(), Ok)?
            }
        },
        _ => union(call)?.0.count(),
    };
    call.reply.integer(count as i64);
    Ok(())
}

/// The registers of all keys together, and whether one of them is dense.
fn union(call: &Call<'_>) -> Result<(Registers, bool), CommandError> {
    let (mut registers, mut any_dense) = (Registers::default(), false);
    for key in call.args.from(1).iter() {
        if let Some(entry) = call.keyspace.get(call.db, key, call.now) {
            let sketch = sketch(&entry)?;
            any_dense |= sketch.encoding() == Encoding::Dense;
            registers.raise(sketch)?;
        }
    }
    Ok((registers, any_dense))
}

/// PFMERGE destination [source ...]
fn pfmerge(call: &mut Call<'_>) -> CommandResult {
    let (registers, any_dense) = union(call)?;
    let key = call.args.at(1);
    let sketch = call.keyspace.get_to_write(call.db, key, call.now).map(|entry| sketch(&entry)).transpose()?;
    let mut draft = sketch.map_or_else(Draft::default, Draft::of);
    if any_dense {
        draft.make_dense()?;
    }
    for mark in registers.marks() {
        draft.add(mark, call.limits.sparse_sketch_bytes_max)?;
    }
    draft.invalidate();
    match sketch.map(|sketch| Change::between(sketch, &draft)) {
        None => call.keyspace.put_raw(call.db, key, draft.bytes(), NewDeadline::None),
        Some(change) => {
            if !change.write(call, key, draft.bytes()) {
                // To Redis that is a write all the same.
                call.keyspace.touch(call.db, key);
            }
        }
    }
    call.reply.ok();
    Ok(())
}

/// PFDEBUG GETREG|DECODE|ENCODING|TODENSE key
fn pfdebug(call: &mut Call<'_>) -> CommandResult {
    const NO_KEY: CommandError = CommandError::new("ERR The specified key does not exist");
    const NOT_SPARSE: CommandError = CommandError::new("ERR HLL encoding is not sparse");
    let entry = call.keyspace.get_to_write(call.db, call.args.at(2), call.now).ok_or(NO_KEY)?;
    let sketch = sketch(&entry)?;
    let named = |name: &&str| call.args.is(1, name);
    let Some(name) = ["getreg", "decode", "encoding", "todense"].into_iter().find(named) else {
        let name = String::from_utf8_lossy(call.args.at(1));
        return Err(CommandError::owned(format!("ERR Unknown PFDEBUG subcommand '{name}'")));
    };
    match name {
        "getreg" => {
            let mut registers = Registers::default();
            registers.raise(sketch)?;
            make_dense(call)?;
            call.reply.array(REGISTERS);
            registers.values().iter().for_each(|value| call.reply.integer(*value as i64));
        }
        "decode" if sketch.encoding() == Encoding::Dense => return Err(NOT_SPARSE),
        "decode" => {
            let text = decode(sketch)?;
            call.reply.bulk(text.as_bytes());
        }
        "encoding" => {
            let name = if sketch.encoding() == Encoding::Dense { "dense" } else { "sparse" };
            call.reply.simple(name);
        }
        _ => {
            let was_sparse = make_dense(call)?;
            call.reply.integer(was_sparse as i64);
        }
    }
    Ok(())
}

/// Runs as text: `z` for a short run of zeros, `Z` for a long one, `v` for a value and its run.
fn decode(sketch: Sketch<'_>) -> Result<String, CommandError> {
    let mut words = Vec::new();
    sketch.walk(|_, run| {
        words.push(match run.value {
            0 if run.is_long => format!("Z:{}", run.len),
            0 => format!("z:{}", run.len),
            value => format!("v:{value},{}", run.len),
        });
    })?;
    Ok(words.join(" "))
}

/// Makes the HyperLogLog at argument 2 dense; whether it was sparse.
fn make_dense(call: &mut Call<'_>) -> Result<bool, CommandError> {
    let key = call.args.at(2);
    let mut draft = Draft::of(found(call, key));
    let was_sparse = draft.make_dense()?;
    if was_sparse {
        call.keyspace.put_raw(call.db, key, draft.bytes(), NewDeadline::Keep);
    }
    Ok(was_sparse)
}

/// PFSELFTEST: both representations count the same, and about right.
fn pfselftest(call: &mut Call<'_>) -> CommandResult {
    /// Redis adds ten million, and stops serving for as long as that takes.
    const ELEMENTS: u64 = 100_000;
    /// In standard errors.
    const ERROR_MAX: f64 = 6.0;
    let seed = call.random.next_u64();
    let (mut sparse, mut dense) = (Draft::default(), Draft::default());
    dense.make_dense()?;
    let mut checkpoint = 1;
    for added in 1..=ELEMENTS {
        let mark = Mark::of(&(added ^ seed).to_le_bytes());
        for draft in [&mut sparse, &mut dense] {
            draft.add(mark, call.limits.sparse_sketch_bytes_max)?;
        }
        if added == checkpoint {
            let count = dense.sketch().count()?;
            if sparse.sketch().count()? != count {
                return Err(CommandError::new("ERR TESTFAILED dense/sparse disagree"));
            }
            let error_max = (1.04 / (REGISTERS as f64).sqrt() * ERROR_MAX * added as f64).ceil() as u64;
            if count.abs_diff(added) > error_max {
                let text = format!("ERR TESTFAILED Too big error. card:{added} abserr:{}", count.abs_diff(added));
                return Err(CommandError::owned(text));
            }
            checkpoint *= 10;
        }
    }
    call.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::strings::tested::Shard;

    #[test]
    fn only_a_changed_register_is_an_edit() {
        let mut shard = Shard::new();
        assert_eq!(shard.edits("PFADD h a b c"), 1);
        assert_eq!(shard.edits("PFADD h a b c"), 0);
        assert_eq!(shard.edits("PFADD h c d e f"), 1, "of a sparse one, all together");
        assert_eq!(shard.edits("PFCOUNT h"), 0);
        assert_eq!(shard.edits("PFDEBUG TODENSE h"), 1);
        assert_eq!(shard.edits("PFDEBUG TODENSE h"), 0);
        assert_eq!(shard.edits("PFADD h a f"), 0);
        assert_eq!(shard.edits("PFADD h a x f y"), 2, "of a dense one, register by register");
        assert_eq!(shard.edits("PFMERGE h"), 0);
        assert_eq!(shard.edits("PFMERGE h h nokey"), 0);
        assert_eq!(shard.edits("PFMERGE other h"), 1);
    }

    #[test]
    fn what_differs_is_logged_and_no_more() {
        let mut shard = Shard::new();
        shard.run("PFADD h a b c");
        shard.run("PFADD one a x");
        assert!(shard.edit_bytes("PFDEBUG TODENSE h") > 12_304);
        assert!((1..40).contains(&shard.edit_bytes("PFADD h x")));
        assert!((1..40).contains(&shard.edit_bytes("PFADD h y")));
        shard.run("PFADD one z");
        assert!((1..40).contains(&shard.edit_bytes("PFMERGE h one")), "one register is new");
    }

    #[test]
    fn failed_commands_make_no_edit() {
        let mut shard = Shard::new();
        shard.run("SET s text");
        shard.run("SET n 1");
        shard.run_words(&[b"SET", b"cut", b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x40"]);
        for command in [
            "PFADD s a",
            "PFADD n a",
            "PFADD cut a",
            "PFCOUNT cut",
            "PFMERGE s",
            "PFMERGE d s",
            "PFMERGE d cut",
            "PFDEBUG TODENSE cut",
            "PFDEBUG GETREG cut",
            "PFDEBUG DECODE cut",
            "PFDEBUG DECODE nokey",
        ] {
            assert!(shard.run(command).starts_with('-'), "{command}");
            assert_eq!(shard.edits(command), 0, "{command}");
        }
    }

    #[test]
    fn a_short_one_written_by_set_is_raw_once_something_was_added() {
        let mut shard = Shard::new();
        shard.run("PFADD h");
        let bytes = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff";
        assert_eq!(shard.encoding("h"), "raw");
        shard.run_words(&[b"SET", b"h", bytes]);
        assert_eq!(shard.encoding("h"), "embstr");
        assert_eq!(shard.run("PFADD h"), ":0\r\n");
        assert_eq!(shard.encoding("h"), "raw");
    }

    #[test]
    fn reads_count_as_hits_and_misses_and_writes_do_not() {
        let mut shard = Shard::new();
        shard.run("PFADD h a");
        for (command, hits, misses) in
            [("PFADD h b", 0, 0), ("PFCOUNT h", 1, 0), ("PFCOUNT h nokey", 1, 1), ("PFMERGE new h", 1, 1)]
        {
            let found = shard.lookups(command);
            assert_eq!((found.hits, found.misses), (hits, misses), "{command}");
        }
    }

    #[test]
    fn one_that_became_dense_takes_no_more_memory_than_if_it_had_been_set() {
        let (mut grown, mut set) = (Shard::new(), Shard::new());
        for n in 0..3000 {
            grown.run(&format!("PFADD h {n}"));
        }
        assert_eq!(grown.run("STRLEN h"), ":12304\r\n");
        set.run_words(&[b"SET", b"h", &[0; 12_304]]);
        assert_eq!(grown.bytes_used(), set.bytes_used());
    }

    #[test]
    fn the_self_test_passes() {
        assert_eq!(Shard::new().run("PFSELFTEST"), "+OK\r\n");
    }
}

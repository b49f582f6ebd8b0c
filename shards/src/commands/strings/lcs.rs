//! LCS: the longest common subsequence, by the table of the lengths of all prefixes' (Wagner and Fischer, "The
//! string-to-string correction problem", JACM 1974).
//!
//! The table takes 4 bytes per pair of positions; Redis refuses what would exceed proto-max-bulk-len, and so do
//! we, even where only the length is asked for and two lines of it are enough.

use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::Keyspace;
use crate::numbers::integer;
use crate::units::{Db, Now};
use std::borrow::Cow;

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
pub fn lcs(call: &mut Call<'_>) -> CommandResult {
    let text = |index| text(call.keyspace, call.db, call.args.at(index), call.now);
    let (a, b) = (text(1)?, text(2)?);
    let options = Options::parse(&call.args)?;
    require_memory(a.len(), b.len(), call.limits.string_bytes_max)?;
    if options.len {
        call.reply.integer(length(&a, &b) as i64);
        return Ok(());
    }
    let table = Table::new(&a, &b);
    if !options.idx {
        let mut common = Vec::with_capacity(table.length());
        table.walk(&a, &b, |at, _| common.push(a[at]));
        common.reverse();
        call.reply.bulk(&common);
        return Ok(());
    }
    let matches = runs(&table, &a, &b);
    let shown = matches.iter().filter(|run| run.len as i64 >= options.min_match_len);
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(shown.clone().count());
    for run in shown {
        call.reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [run.a, run.b] {
            call.reply.array(2);
            call.reply.integer(start as i64);
            call.reply.integer((start + run.len - 1) as i64);
        }
        if options.with_match_len {
            call.reply.integer(run.len as i64);
        }
    }
    call.reply.bulk(b"len");
    call.reply.integer(table.length() as i64);
    Ok(())
}

fn text<'k>(keyspace: &'k Keyspace, db: Db, key: &[u8], now: Now) -> Result<Cow<'k, [u8]>, CommandError> {
    const NOT_STRINGS: CommandError = CommandError::new("ERR The specified keys must contain string values");
    match keyspace.get(db, key, now) {
        None => Ok(Cow::Borrowed(b"")),
        Some(entry) => Ok(entry.string().map_err(|_| NOT_STRINGS)?.to_bytes()),
    }
}

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    min_match_len: i64,
    with_match_len: bool,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        const BOTH: CommandError =
            CommandError::new("ERR If you want both the length and indexes, please just use IDX.");
        let mut options = Options::default();
        let mut at = 3;
        while at < args.len() {
            if args.is(at, "IDX") {
                options.idx = true;
            } else if args.is(at, "LEN") {
                options.len = true;
            } else if args.is(at, "WITHMATCHLEN") {
                options.with_match_len = true;
            } else if args.is(at, "MINMATCHLEN") && at + 1 < args.len() {
                at += 1;
                options.min_match_len = integer(args.at(at))?.max(0);
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        if options.idx && options.len { Err(BOTH) } else { Ok(options) }
    }
}

fn require_memory(a: usize, b: usize, bytes_max: u64) -> CommandResult {
    const TOO_LONG: CommandError = CommandError::new("ERR String too long for LCS");
    const TOO_MUCH: CommandError =
        CommandError::new("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    if a.max(b) as u64 >= u32::MAX as u64 - 1 {
        return Err(TOO_LONG);
    }
    let bytes = (a as u128 + 1) * (b as u128 + 1) * size_of::<u32>() as u128;
    if bytes > bytes_max as u128 { Err(TOO_MUCH) } else { Ok(()) }
}

/// The next line of the table, for one more byte of the first string.
fn fill(line: &mut [u32], above: &[u32], byte: u8, b: &[u8]) {
    for (at, &other) in b.iter().enumerate() {
        line[at + 1] = if byte == other { above[at] + 1 } else { above[at + 1].max(line[at]) };
    }
}

fn length(a: &[u8], b: &[u8]) -> u32 {
    let mut above = vec![0; b.len() + 1];
    let mut line = above.clone();
    for &byte in a {
        fill(&mut line, &above, byte, b);
        std::mem::swap(&mut line, &mut above);
    }
    above[b.len()]
}

/// Length of the common subsequence of every prefix of `a` (lines) with every prefix of `b` (columns).
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let width = b.len() + 1;
        let mut cells = vec![0; (a.len() + 1) * width];
        for (at, &byte) in a.iter().enumerate() {
            let (above, line) = cells[at * width..(at + 2) * width].split_at_mut(width);
            fill(line, above, byte, b);
        }
        Table { cells, width }
    }
    fn length(&self) -> usize {
        self.cells.last().map_or(0, |&length| length as usize)
    }
    /// The pairs of positions of one longest common subsequence, from the last to the first. Where there is a
    /// choice, the one that Redis makes: `b` is shortened first.
    fn walk(&self, a: &[u8], b: &[u8], mut pair: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pair(i, j);
            } else if self.cells[(i - 1) * self.width + j] > self.cells[i * self.width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
}

/// Equal stretches of both strings.
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

/// The subsequence as stretches, last one first.
fn runs(table: &Table, a: &[u8], b: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    table.walk(a, b, |at, at2| match runs.last_mut() {
        Some(run) if run.a == at + 1 && run.b == at2 + 1 => *run = Run { a: at, b: at2, len: run.len + 1 },
        Some(_) | None => runs.push(Run { a: at, b: at2, len: 1 }),
    });
    runs
}

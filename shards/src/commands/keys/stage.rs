//! What this family's tests share: a shard alone with its clock, and commands written as one line of text.

use super::ROWS;
use crate::call::{Args, Span};
use crate::keyspace::NewDeadline;
use crate::owner::{Caller, Owner};
use crate::reply::Protocol;
use crate::row::Row;
use crate::units::{Db, Now};

pub(super) struct Stage {
    pub(super) owner: Owner,
    pub(super) now: Now,
    pub(super) db: Db,
}

impl Stage {
    pub(super) fn new() -> Self {
        Stage { owner: Owner::new(16, 1), now: Now::at(1_700_000_000_000), db: Db(0) }
    }
    /// Both clocks go on.
    pub(super) fn advance(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms;
    }
    /// Somebody sets the machine's clock.
    pub(super) fn step_wall(&mut self, ms: i64) {
        self.now.wall_ms = self.now.wall_ms.checked_add_signed(ms).expect("the tests stay after 1970");
    }
    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.owner.keyspace.put(self.db, key.as_bytes(), value.as_bytes(), NewDeadline::None);
    }
    pub(super) fn edits(&self) -> u32 {
        self.owner.keyspace.edit_count()
    }
    pub(super) fn expire_due(&mut self) -> usize {
        self.owner.keyspace.expire_due(self.now, usize::MAX)
    }
    /// Runs words separated by spaces; the reply as RESP2 bytes.
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let row = find_row(&words);
        assert!(row.accepts(words.len()), "arity of {line}");
        self.run_row(row, &words)
    }
    pub(super) fn run_row(&mut self, row: &'static Row, words: &[&[u8]]) -> String {
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        for word in words {
            spans.push(Span { start: buffer.len() as u32, len: word.len() as u32 });
            buffer.extend_from_slice(word);
        }
        let caller = Caller { db: self.db, now: self.now, protocol: Protocol::Resp2 };
        let mut out = Vec::new();
        self.owner.execute(row, Args::new(&buffer, &spans), caller, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn find_row(words: &[&[u8]]) -> &'static Row {
    let name = String::from_utf8_lossy(words[0]).to_ascii_lowercase();
    let row = ROWS.iter().find(|row| row.name == name).expect("a command of this family");
    let full = words.get(1).map(|word| format!("{name}|{}", String::from_utf8_lossy(word).to_ascii_lowercase()));
    row.subcommands.iter().find(|row| Some(row.name) == full.as_deref()).unwrap_or(row)
}

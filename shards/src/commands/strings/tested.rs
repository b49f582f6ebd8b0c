//! A shard for tests of commands: runs a command line, moves the clock, tells how many edits a command made.

use crate::call::{Args, Span};
use crate::commands::FAMILIES;
use crate::keyspace::{Keyspace, Lookups};
use crate::owner::{Caller, Owner};
use crate::reply::Protocol;
use crate::row::Row;
use crate::units::{Db, Now};

pub(in crate::commands) struct Shard {
    owner: Owner,
    pub now: Now,
}

impl Shard {
    pub fn new() -> Self {
        Shard { owner: Owner::new(1, 1), now: Now::at(1_700_000_000_000) }
    }
    pub fn advance(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms;
    }
    /// The reply to a command whose words are separated by spaces (`''` is the empty one), in RESP2.
    pub fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> =
            line.split(' ').map(|word| if word == "''" { &[][..] } else { word.as_bytes() }).collect();
        self.run_words(&words)
    }
    pub fn run_words(&mut self, words: &[&[u8]]) -> String {
        String::from_utf8_lossy(&self.reply_to(words)).into_owned()
    }
    /// The same, for replies that are no text.
    pub fn reply_to(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let buffer = words.concat();
        let mut start = 0;
        let mut spans = Vec::new();
        for word in words {
            spans.push(Span { start, len: word.len() as u32 });
            start += word.len() as u32;
        }
        let row = find(words);
        assert!(row.accepts(words.len()), "arity of {}", row.name);
        let mut out = Vec::new();
        let caller = Caller { db: Db(0), now: self.now, protocol: Protocol::Resp2 };
        self.owner.execute(row, Args::new(&buffer, &spans), caller, &mut out);
        out
    }
    /// Edits that a command made.
    pub fn edits(&mut self, line: &str) -> u32 {
        let before = self.owner.keyspace.edit_count();
        self.run(line);
        self.owner.keyspace.edit_count() - before
    }
    /// Bytes of the edits that a command made, as they go to the log.
    pub fn edit_bytes(&mut self, line: &str) -> usize {
        let before = self.owner.keyspace.edits().len();
        self.run(line);
        self.owner.keyspace.edits().len() - before
    }
    /// What a tick removes, at most `limit` keys and elements of collections; how many.
    pub fn expire_due(&mut self, limit: usize) -> usize {
        self.owner.keyspace.expire_due(self.now, limit)
    }
    /// That all edits so far, replayed, give what is there.
    pub fn check_replica(&self) {
        let mut replica = Keyspace::new(1, 77);
        assert_eq!(replica.replay_all(self.owner.keyspace.edits()), Ok(()));
        assert_eq!(replica.digest(Db(0)), self.owner.keyspace.digest(Db(0)));
        self.owner.keyspace.check_invariants();
        replica.check_invariants();
    }
    /// Lookups that a command counted.
    pub fn lookups(&mut self, line: &str) -> Lookups {
        self.owner.keyspace.reset_lookups();
        self.run(line);
        self.owner.keyspace.lookups()
    }
    /// Bytes that the keyspace takes.
    pub fn bytes_used(&self) -> usize {
        self.owner.keyspace.bytes_used()
    }
    /// What OBJECT ENCODING says of a key.
    pub fn encoding(&self, key: &str) -> &'static str {
        self.owner.keyspace.peek(Db(0), key.as_bytes(), self.now).expect("the key exists").encoding().name()
    }
}

fn find(words: &[&[u8]]) -> &'static Row {
    let named = |name: Vec<u8>| move |row: &&Row| row.name.as_bytes().eq_ignore_ascii_case(&name);
    let mut rows = FAMILIES.iter().flat_map(|rows| rows.iter());
    let row = rows.find(named(words[0].to_vec())).expect("a row of that name");
    let full = words.get(..2).map(|both| both.join(&b'|')).unwrap_or_default();
    row.subcommands.iter().find(named(full)).unwrap_or(row)
}

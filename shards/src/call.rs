//! What a handler gets: the arguments, where it may look, and where the reply goes.

use crate::keyspace::Keyspace;
use crate::random::Random;
use crate::reply::Reply;
use crate::types::Kind;
use crate::units::{Db, Now};
use std::ops::Index;

/// Where one argument lies in its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

/// The arguments of one command, borrowed from the buffer they arrived in (a receive buffer, or a lane
/// batch). `args[0]` is the command's name as the client wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    buffer: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Every span must lie inside `buffer`; indexing panics otherwise.
    pub fn new(buffer: &'a [u8], spans: &'a [Span]) -> Self {
        Args { buffer, spans }
    }
    pub fn len(&self) -> usize {
        self.spans.len()
    }
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
    /// The argument at `index`, with the lifetime of the buffer.
    pub fn at(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.buffer[span.start as usize..][..span.len as usize]
    }
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.spans.len()).then(|| self.at(index))
    }
    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> Args<'a> {
        Args { buffer: self.buffer, spans: &self.spans[first.min(self.spans.len())..] }
    }
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let buffer = self.buffer;
        self.spans.iter().map(move |span| &buffer[span.start as usize..][..span.len as usize])
    }
    /// Whether the argument at `index` is `word`, compared without regard to ASCII case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];
    fn index(&self, index: usize) -> &[u8] {
        self.at(index)
    }
}

/// Limits that handlers check; live settings of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`: the longest string a command may build.
    pub string_bytes_max: u64,
    /// Whether `maxmemory-policy` is one of the LFU kind (OBJECT FREQ, OBJECT IDLETIME).
    pub lfu: bool,
    /// `hll-sparse-max-bytes`: the longest string that a HyperLogLog may be as runs.
    pub sparse_sketch_bytes_max: u64,
    /// What a command may look for beyond the keys that its row names (SORT).
    pub sight: Sight,
}

/// Which keys the keyspace that a command runs on is sure to have, if they exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// All there are.
    Everything,
    /// Those of the slots of its shard.
    Shard,
    /// Those that the command names: it is a scratch keyspace.
    Named,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { string_bytes_max: 512 << 20, lfu: false, sparse_sketch_bytes_max: 3000, sight: Sight::Everything }
    }
}

/// What a check of a call sees, before it is run.
pub struct Look<'a, 'k> {
    pub args: Args<'a>,
    pub db: Db,
    pub now: Now,
    pub keyspace: &'k Keyspace,
}

/// One command being executed on the shard that owns its keys.
pub struct Call<'a> {
    pub args: Args<'a>,
    pub db: Db,
    pub now: Now,
    pub keyspace: &'a mut Keyspace,
    pub reply: Reply<'a>,
    pub random: &'a mut Random,
    pub limits: &'a Limits,
    /// Lower-case name of the command's row, for error texts.
    pub name: &'static str,
}

impl Call<'_> {
    /// Makes changes to the collection at `key`, or makes it of them where there is none. What is there live has the kind: the
    /// command has looked.
    pub fn write_collection(&mut self, key: &[u8], kind: Kind, changes: &[u8]) {
        self.keyspace.write_collection(self.db, key, kind, changes, self.now);
    }
}

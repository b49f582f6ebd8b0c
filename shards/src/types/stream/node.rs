//! A run of a stream's entries as bytes. Names of fields stand once, those of the node's first entry; an entry with other ones
//! brings its own. What is deleted leaves no bytes behind, but is counted: where a node ends, and so what `XTRIM ~` takes, is
//! what Redis' listpacks would make of the same commands.
//!
//! ```text
//! | pairs | length, name | ... | room | ms | seq | length, value | ... | ms | seq | ...
//! | names of the first entry  |      | an entry with these names      | another
//!
//! ms:  difference from the base, bit 0 of the first byte for `own`, 6 bits, then on as LEB128 if the top bit is set
//! seq: difference from the base's if ms is 0, or as it is
//! own: `pairs`, then name and value of each, in place of the values
//! ```
//! The room is where entries were trimmed, so that trimming moves nothing.

use super::StreamId;
use crate::numbers::parse_integer;
use crate::types::Thresholds;
use crate::wire::{Decoder, number};

/// Nodes longer than this are not made, whatever the settings allow: to delete an entry moves those behind it, and to read a stream
/// backwards reads a node at a time.
const NODE_BYTES_MAX: usize = 64 << 10;

const OURS: &str = "a node's bytes are whole entries";

/// Where a node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limit {
    bytes: usize,
    slots: usize,
}

impl Limit {
    pub(super) fn of(thresholds: &Thresholds) -> Limit {
        let unless_0 = |value: usize| if value == 0 { usize::MAX } else { value };
        Limit {
            bytes: unless_0(thresholds.stream_node_bytes).min(NODE_BYTES_MAX),
            slots: unless_0(thresholds.stream_node_entries),
        }
    }
}

#[derive(Clone)]
pub(super) struct Node {
    bytes: Vec<u8>,
    /// Where the first entry is.
    start: usize,
    base: StreamId,
    /// The highest id it ever had.
    last: StreamId,
    live: u32,
    dead: u32,
    /// What Redis' listpack would have, but for the two counts.
    listed_bytes: u32,
}

/// An entry where it lies.
#[derive(Clone)]
pub struct Entry<'a> {
    pub id: StreamId,
    pub fields: Fields<'a>,
}

/// Fields of an entry with their values.
#[derive(Clone)]
pub struct Fields<'a> {
    /// None: they stand before each value.
    names: Option<Decoder<'a>>,
    values: Decoder<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.names.as_mut().unwrap_or(&mut self.values).string().expect(OURS);
        Some((name, self.values.string().expect(OURS)))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl Node {
    /// With its first entry.
    pub(super) fn new(id: StreamId, pairs: u64, fields: &[u8]) -> Node {
        /// Of a listpack: its header and its end, and the number 0 behind the names.
        const FRAME_BYTES: u32 = 6 + 1 + 2;
        let mut bytes = Vec::with_capacity(fields.len() + 16);
        let mut listed_bytes = FRAME_BYTES + listed_integer(pairs as i64);
        number(&mut bytes, pairs);
        for (name, _) in pairs_of(pairs, fields) {
            crate::wire::string(&mut bytes, name);
            listed_bytes = listed_bytes.saturating_add(listed(name));
        }
        let start = bytes.len();
        let mut node = Node { bytes, start, base: id, last: id, live: 0, dead: 0, listed_bytes };
        node.push(id, pairs, fields);
        node
    }
    pub(super) fn base(&self) -> StreamId {
        self.base
    }
    pub(super) fn last(&self) -> StreamId {
        self.last
    }
    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.live as usize
    }
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
    /// Whether the next entry goes here: what Redis would decide. The length is that of all its names and values.
    pub(super) fn takes(&self, fields_bytes: usize, limit: Limit) -> bool {
        let listed_bytes =
            self.listed_bytes.saturating_add(listed_integer(self.live as i64) + listed_integer(self.dead as i64));
        (listed_bytes as usize).saturating_add(fields_bytes) < limit.bytes
            && ((self.live + self.dead) as usize) < limit.slots
    }
    /// Puts an entry behind the others, with a higher id than any.
    pub(super) fn push(&mut self, id: StreamId, pairs: u64, fields: &[u8]) {
        let has_own = !self.has_names(pairs, fields);
        let ms = id.ms - self.base.ms;
        let seq = if ms == 0 { id.seq - self.base.seq } else { id.seq };
        write_ms(&mut self.bytes, ms, has_own);
        number(&mut self.bytes, seq);
        // Flags and both parts of the id, as Redis has them.
        let mut listed_bytes =
            2 + listed_integer(ms as i64) + listed_integer(id.seq.wrapping_sub(self.base.seq) as i64);
        if has_own {
            number(&mut self.bytes, pairs);
            self.bytes.extend_from_slice(fields);
            listed_bytes += listed_integer(pairs as i64);
        }
        for (name, value) in pairs_of(pairs, fields) {
            if has_own {
                listed_bytes = listed_bytes.saturating_add(listed(name));
            } else {
                crate::wire::string(&mut self.bytes, value);
            }
            listed_bytes = listed_bytes.saturating_add(listed(value));
        }
        let elements = if has_own { 2 * pairs + 4 } else { pairs + 3 };
        self.listed_bytes =
            self.listed_bytes.saturating_add(listed_bytes).saturating_add(listed_integer(elements as i64));
        self.live += 1;
        self.last = id;
    }
    fn has_names(&self, pairs: u64, fields: &[u8]) -> bool {
        let mut names = Decoder::new(&self.bytes);
        names.number() == Ok(pairs) && pairs_of(pairs, fields).all(|(name, _)| names.string() == Ok(name))
    }
    /// Nothing will be pushed any more.
    pub(super) fn finish(&mut self) {
        self.bytes.shrink_to_fit();
    }
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { node: self, at: Decoder::new(&self.bytes[self.start..]) }
    }
    /// Whether there was such an entry.
    pub(super) fn delete(&mut self, id: StreamId) -> bool {
        let mut entries = self.entries();
        loop {
            let start = entries.at.at();
            match entries.next() {
                Some(entry) if entry.id == id => {
                    let range = self.start + start..self.start + entries.at.at();
                    if range.start == self.start {
                        self.start = range.end;
                        self.close_room();
                    } else {
                        self.bytes.drain(range);
                    }
                    (self.live, self.dead) = (self.live - 1, self.dead + 1);
                    return true;
                }
                Some(entry) if entry.id < id => {}
                _ => return false,
            }
        }
    }
    /// Deletes what is not above an id; how many entries.
    pub(super) fn trim_to(&mut self, last: StreamId) -> usize {
        let mut entries = self.entries();
        let (mut end, mut count) = (0, 0);
        while entries.next().is_some_and(|entry| entry.id <= last) {
            end = entries.at.at();
            count += 1;
        }
        self.start += end;
        (self.live, self.dead) = (self.live - count, self.dead + count);
        self.close_room();
        count as usize
    }
    /// Moves entries over the room once there is more of that than of them.
    fn close_room(&mut self) {
        if self.start > self.bytes.len() / 2 {
            let mut names = Decoder::new(&self.bytes);
            for _ in 0..names.number().expect(OURS) {
                names.string().expect(OURS);
            }
            let names_end = names.at();
            if self.start - names_end > self.bytes.len() - self.start {
                self.bytes.drain(names_end..self.start);
                self.start = names_end;
            }
        }
    }
    pub(super) fn check_invariants(&self) {
        let ids: Vec<StreamId> = self.entries().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), self.live as usize, "entries are counted");
        assert!(!ids.is_empty(), "no node is empty");
        assert!(ids.is_sorted_by(|a, b| a < b), "entries are in order");
        assert!(ids[0] >= self.base && ids[ids.len() - 1] <= self.last, "entries lie between the base and the last id");
    }
}

#[derive(Clone)]
pub(super) struct Entries<'a> {
    node: &'a Node,
    at: Decoder<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;
    fn next(&mut self) -> Option<Entry<'a>> {
        if self.at.is_at_end() {
            return None;
        }
        let (ms, has_own) = read_ms(&mut self.at);
        let seq = self.at.number().expect(OURS);
        let base = self.node.base;
        let id = StreamId { ms: base.ms + ms, seq: if ms == 0 { base.seq + seq } else { seq } };
        let mut names = Decoder::new(&self.node.bytes);
        let pairs = if has_own { &mut self.at } else { &mut names }.number().expect(OURS);
        let fields = Fields { names: (!has_own).then_some(names), values: self.at.clone(), left: pairs as usize };
        for _ in 0..if has_own { 2 * pairs } else { pairs } {
            self.at.string().expect(OURS);
        }
        Some(Entry { id, fields })
    }
}

fn write_ms(out: &mut Vec<u8>, ms: u64, has_own: bool) {
    let first = ((ms & 0x3f) << 1) as u8 | has_own as u8;
    match ms >> 6 {
        0 => out.push(first),
        rest => {
            out.push(first | 0x80);
            number(out, rest);
        }
    }
}

fn read_ms(at: &mut Decoder<'_>) -> (u64, bool) {
    let first = at.byte().expect(OURS);
    let low = (first >> 1 & 0x3f) as u64;
    let high = if first & 0x80 == 0 { 0 } else { at.number().expect(OURS) << 6 };
    (high | low, first & 1 != 0)
}

/// Fields and values as changes have them.
fn pairs_of(pairs: u64, fields: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = Decoder::new(fields);
    (0..pairs).map(move |_| {
        const VERIFIED: &str = "changes are verified";
        (at.string().expect(VERIFIED), at.string().expect(VERIFIED))
    })
}

/// The length of all names and values.
pub(super) fn fields_bytes(pairs: u64, fields: &[u8]) -> usize {
    pairs_of(pairs, fields).map(|(name, value)| name.len() + value.len()).sum()
}

/// What a number takes in a listpack, with its length behind it.
fn listed_integer(value: i64) -> u32 {
    1 + match value {
        0..=127 => 1,
        -4096..=4095 => 2,
        -32_768..=32_767 => 3,
        -8_388_608..=8_388_607 => 4,
        -2_147_483_648..=2_147_483_647 => 5,
        _ => 9,
    }
}

/// What a string takes there, as a number if it is one.
fn listed(value: &[u8]) -> u32 {
    if matches!(value, [b'-' | b'0'..=b'9', ..])
        && value.len() <= 20
        && let Some(value) = parse_integer(value)
    {
        return listed_integer(value);
    }
    let bytes = match value.len() {
        len @ 0..64 => 1 + len,
        len @ 64..4096 => 2 + len,
        len => len.saturating_add(5),
    };
    let behind = match bytes {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    u32::try_from(bytes + behind).unwrap_or(u32::MAX)
}

//! Values as Redis 7.0 writes them: the type's byte, and for files the key, are the caller's to place.
//!
//! Collections are walked by a function that hands each element to its argument, as often as it is called, in the same order: a
//! count stands before the elements in many places, and they are walked once to find it and once to write them.

use super::codes::*;
use super::listpack::{ListpackBuilder, element_bytes_max};
use super::{StreamFigures, StreamId, Writer};
use crate::numbers::{format_double, parse_integer};
use std::io::Write;

/// Up to which size Redis keeps, by default, hashes and sorted sets as listpacks, and sets as intsets.
const PACKED_ELEMENTS_MAX: usize = 128;
const PACKED_BYTES_MAX: usize = 64;
const INTSET_MEMBERS_MAX: usize = 512;
/// Of a quicklist's listpack. One element that is longer is a node by itself.
const NODE_BYTES_MAX: usize = 8 << 10;
/// Of a stream's listpack.
const STREAM_NODE_BYTES_MAX: usize = 4 << 10;
const STREAM_NODE_ENTRIES_MAX: usize = 100;

/// The bytes of a type and, in a file, of the key.
fn begin<W: Write>(writer: &mut Writer<W>, byte: u8, key: Option<&[u8]>) {
    writer.byte(byte);
    if let Some(key) = key {
        writer.string(key);
    }
}

/// Goes through all elements, the same ones in the same order each time.
pub type Walk<'a> = dyn Fn(&mut dyn FnMut(&[u8])) + 'a;
pub type ScoredWalk<'a> = dyn Fn(&mut dyn FnMut(&[u8], f64)) + 'a;
pub type PairWalk<'a> = dyn Fn(&mut dyn FnMut(&[u8], &[u8])) + 'a;
/// The third: when the field expires, in milliseconds since 1970.
pub type LimitedWalk<'a> = dyn Fn(&mut dyn FnMut(&[u8], &[u8], Option<u64>)) + 'a;

pub fn write_string<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, value: &[u8]) {
    begin(writer, STRING, key);
    writer.string(value);
}

pub fn write_list<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, walk: &Walk<'_>) {
    let mut nodes = 0;
    let nodes_of = |each: &mut dyn FnMut(&[u8])| {
        let mut node = ListpackBuilder::default();
        node.clear();
        walk(&mut |element| {
            if !node.is_empty() && node.bytes_len() + element_bytes_max(element.len()) > NODE_BYTES_MAX {
                each(node.finish());
                node.clear();
            }
            node.push(element);
        });
        if !node.is_empty() {
            each(node.finish());
        }
    };
    nodes_of(&mut |_| nodes += 1);
    begin(writer, LIST_QUICKLIST_2, key);
    writer.number(nodes);
    nodes_of(&mut |node| {
        writer.number(NODE_PACKED);
        writer.string(node);
    });
}

pub fn write_set<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, len: usize, walk: &Walk<'_>) {
    let mut integers = Vec::new();
    if len <= INTSET_MEMBERS_MAX {
        walk(&mut |member| integers.extend(parse_integer(member)));
    }
    if integers.len() == len {
        begin(writer, SET_INTSET, key);
        writer.string(&intset(integers));
        return;
    }
    begin(writer, SET, key);
    writer.number(len as u64);
    walk(&mut |member| writer.string(member));
}

fn intset(mut members: Vec<i64>) -> Vec<u8> {
    members.sort_unstable();
    let fits = |bits: u32| members.iter().all(|member| *member >> (bits - 1) == *member >> 63);
    let width = [2, 4].into_iter().find(|width| fits(width * 8)).unwrap_or(8);
    let mut bytes = Vec::with_capacity(8 + members.len() * width as usize);
    bytes.extend_from_slice(&width.to_le_bytes());
    bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
    for member in members {
        bytes.extend_from_slice(&member.to_le_bytes()[..width as usize]);
    }
    bytes
}

/// Walked in ascending order.
pub fn write_sorted_set<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, len: usize, walk: &ScoredWalk<'_>) {
    let mut is_packed = len <= PACKED_ELEMENTS_MAX;
    if is_packed {
        walk(&mut |member, _| is_packed &= member.len() <= PACKED_BYTES_MAX);
    }
    if is_packed {
        let mut pack = ListpackBuilder::default();
        pack.clear();
        walk(&mut |member, score| {
            pack.push(member);
            pack.push(format_double(score).as_bytes());
        });
        begin(writer, SORTED_SET_LISTPACK, key);
        writer.string(pack.finish());
        return;
    }
    begin(writer, SORTED_SET_2, key);
    writer.number(len as u64);
    walk(&mut |member, score| {
        writer.string(member);
        writer.raw(&score.to_le_bytes());
    });
}

/// Without deadlines of fields, for which Redis 7.0 has no place.
pub fn write_hash<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, len: usize, walk: &PairWalk<'_>) {
    let mut is_packed = len <= PACKED_ELEMENTS_MAX;
    if is_packed {
        walk(&mut |field, value| is_packed &= field.len().max(value.len()) <= PACKED_BYTES_MAX);
    }
    if is_packed {
        let mut pack = ListpackBuilder::default();
        pack.clear();
        walk(&mut |field, value| {
            pack.push(field);
            pack.push(value);
        });
        begin(writer, HASH_LISTPACK, key);
        writer.string(pack.finish());
        return;
    }
    begin(writer, HASH, key);
    writer.number(len as u64);
    walk(&mut |field, value| {
        writer.string(field);
        writer.string(value);
    });
}

/// With deadlines of fields, in the form of Redis 7.4: each counts from the first one on, which itself is 1; 0 is none.
pub fn write_limited_hash<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, len: usize, walk: &LimitedWalk<'_>) {
    let mut first_ms = None;
    walk(&mut |_, _, deadline_ms| {
        if let Some(ms) = deadline_ms {
            first_ms = Some(first_ms.map_or(ms, |first: u64| first.min(ms)));
        }
    });
    let first_ms = first_ms.unwrap_or(0);
    begin(writer, HASH_METADATA, key);
    writer.raw(&first_ms.to_le_bytes());
    writer.number(len as u64);
    walk(&mut |field, value, deadline_ms| {
        writer.number(deadline_ms.map_or(0, |ms| ms - first_ms + 1));
        writer.string(field);
        writer.string(value);
    });
}

/// What a group has beside its consumers and pending entries.
pub struct Group<'a> {
    pub name: &'a [u8],
    pub last_id: StreamId,
    pub entries_read: Option<u64>,
}

/// A group's pending entry; `consumer`: its place in the order of `consumers`.
pub struct PendingEntry {
    pub id: StreamId,
    pub consumer: usize,
    pub delivered_ms: u64,
    pub deliveries: u64,
}

/// What gets the id, fields and values of an entry.
pub type EachEntry<'a> = dyn FnMut(StreamId, &[(&[u8], &[u8])]) + 'a;

/// A stream to be written. Each walk comes in the same order each time.
pub trait StreamSource {
    fn figures(&self) -> StreamFigures;
    /// Of the first entry; zeros without one.
    fn first_id(&self) -> StreamId;
    fn entries(&self, each: &mut EachEntry<'_>);
    fn groups(&self) -> usize;
    fn group(&self, at: usize) -> Group<'_>;
    /// Names, and when they were last seen, in milliseconds since 1970.
    fn consumers(&self, group: usize) -> Vec<(&[u8], u64)>;
    /// In ascending order of ids.
    fn pending(&self, group: usize) -> Vec<PendingEntry>;
}

pub fn write_stream<W: Write>(writer: &mut Writer<W>, key: Option<&[u8]>, stream: &dyn StreamSource) {
    let mut nodes = 0;
    stream_nodes(stream, &mut |_, _| nodes += 1);
    begin(writer, STREAM_2, key);
    writer.number(nodes);
    stream_nodes(stream, &mut |id, node| {
        writer.string(&id.to_be_bytes());
        writer.string(node);
    });
    let StreamFigures { len, last_id, max_deleted_id, entries_added } = stream.figures();
    writer.number(len);
    write_id(writer, last_id);
    write_id(writer, stream.first_id());
    write_id(writer, max_deleted_id);
    writer.number(entries_added);
    writer.number(stream.groups() as u64);
    (0..stream.groups()).for_each(|group| write_group(writer, stream, group));
}

fn write_id<W: Write>(writer: &mut Writer<W>, id: StreamId) {
    writer.number(id.ms);
    writer.number(id.seq);
}

fn write_group<W: Write>(writer: &mut Writer<W>, stream: &dyn StreamSource, at: usize) {
    let Group { name, last_id, entries_read } = stream.group(at);
    writer.string(name);
    write_id(writer, last_id);
    // All bits set: unknown
    writer.number(entries_read.unwrap_or(u64::MAX));
    let pending = stream.pending(at);
    writer.number(pending.len() as u64);
    for PendingEntry { id, delivered_ms, deliveries, .. } in &pending {
        writer.raw(&id.to_be_bytes());
        writer.raw(&delivered_ms.to_le_bytes());
        writer.number(*deliveries);
    }
    let consumers = stream.consumers(at);
    let mut owned = vec![Vec::new(); consumers.len()];
    pending.iter().for_each(|pending| owned[pending.consumer].push(pending.id));
    writer.number(consumers.len() as u64);
    for ((name, seen_ms), owned) in consumers.into_iter().zip(owned) {
        writer.string(name);
        writer.raw(&seen_ms.to_le_bytes());
        writer.number(owned.len() as u64);
        owned.into_iter().for_each(|id| writer.raw(&id.to_be_bytes()));
    }
}

/// A listpack that is being filled: its first entry's id and fields are those of the master.
#[derive(Default)]
struct Node {
    master: StreamId,
    /// The master's fields, one behind the other, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    pack: ListpackBuilder,
    len: usize,
}

fn stream_nodes(stream: &dyn StreamSource, each: &mut dyn FnMut(StreamId, &[u8])) {
    // The header counts the entries, so where a node ends must be known before it is made.
    let mut sizes = Vec::new();
    let (mut entries, mut bytes) = (0, 0);
    stream.entries(&mut |_, fields| {
        let size: usize =
            fields.iter().map(|(field, value)| element_bytes_max(field.len()) + element_bytes_max(value.len())).sum();
        if entries > 0 && (entries == STREAM_NODE_ENTRIES_MAX || bytes + size > STREAM_NODE_BYTES_MAX) {
            sizes.push(entries);
            (entries, bytes) = (0, 0);
        }
        entries += 1;
        bytes += size;
    });
    sizes.push(entries);
    let mut sizes = sizes.into_iter();
    let mut node = Node::default();
    stream.entries(&mut |id, fields| {
        if node.len == 0 {
            node.begin(id, sizes.next().expect("both walks are the same"), fields);
        }
        if node.push(id, fields) {
            each(node.master, node.pack.finish());
        }
    });
}

impl Node {
    fn begin(&mut self, id: StreamId, entries: usize, fields: &[(&[u8], &[u8])]) {
        (self.master, self.len) = (id, entries);
        self.fields.clear();
        self.ends.clear();
        self.pack.clear();
        self.pack.integer(entries as i64);
        self.pack.integer(0);
        self.pack.integer(fields.len() as i64);
        for (field, _) in fields {
            self.fields.extend_from_slice(field);
            self.ends.push(self.fields.len());
            self.pack.push(field);
        }
        self.pack.integer(0);
    }
    /// Whether this was its last entry.
    fn push(&mut self, id: StreamId, fields: &[(&[u8], &[u8])]) -> bool {
        const SAME_FIELDS: i64 = 2;
        /// Flags and id.
        const FIXED: usize = 3;
        let mut start = 0;
        let mut masters = self.ends.iter().map(|end| &self.fields[std::mem::replace(&mut start, *end)..*end]);
        let is_same = fields.len() == self.ends.len() && fields.iter().all(|(field, _)| masters.next() == Some(field));
        self.pack.integer(if is_same { SAME_FIELDS } else { 0 });
        self.pack.integer(id.ms.wrapping_sub(self.master.ms) as i64);
        self.pack.integer(id.seq.wrapping_sub(self.master.seq) as i64);
        if !is_same {
            self.pack.integer(fields.len() as i64);
        }
        for (field, value) in fields {
            if !is_same {
                self.pack.push(field);
            }
            self.pack.push(value);
        }
        let elements = FIXED + if is_same { fields.len() } else { 2 * fields.len() + 1 };
        self.pack.integer(elements as i64);
        self.len -= 1;
        self.len == 0
    }
}

//! Streams: entries in listpacks, each with a master entry whose fields the others may share; then figures, groups, their
//! pending entries and consumers.

use super::codes::{STREAM, STREAM_3};
use super::packed::{Listpack, Word};
use super::{Item, RdbError, Reader, Take};
pub use crate::types::stream::StreamId;
use std::io::Read;

/// What a stream knows beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamFigures {
    pub len: u64,
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

const BAD: RdbError = RdbError::Corrupt("a stream's listpack is damaged");

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// The fields and values of an entry, which were found to be there.
#[derive(Clone)]
pub struct EntryFields<'a> {
    /// Where the fields are, if they are the master entry's.
    master: Option<Listpack<'a>>,
    words: Listpack<'a>,
    left: u64,
}

impl std::fmt::Debug for EntryFields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for EntryFields<'a> {
    type Item = (Word<'a>, Word<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field = self.master.as_mut().unwrap_or(&mut self.words).next().ok()??;
        Some((field, self.words.next().ok()??))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for EntryFields<'_> {}

pub fn read_stream<R: Read>(reader: &mut Reader<R>, byte: u8, take: &mut Take<'_>) -> Result<(), RdbError> {
    let mut entries = Entries::default();
    let mut bytes = Vec::new();
    for _ in 0..reader.number()? {
        reader.string(&mut bytes)?;
        let master = bytes.as_slice().try_into().map_err(|_| RdbError::Corrupt("a stream's key is no id"))?;
        let master = StreamId::from_be_bytes(master);
        reader.string(&mut bytes)?;
        entries.listpack(master, Listpack::open(&bytes)?, take)?;
    }
    let len = reader.number()?;
    let last_id = read_id(reader)?;
    let figures = if byte == STREAM {
        StreamFigures { len, last_id, max_deleted_id: StreamId::default(), entries_added: len }
    } else {
        // The first id, which the entries tell, too.
        read_id(reader)?;
        StreamFigures { len, last_id, max_deleted_id: read_id(reader)?, entries_added: reader.number()? }
    };
    if entries.len != len || entries.last.is_some_and(|last| last > last_id) {
        return Err(RdbError::Corrupt("a stream's entries are not those that it says it has"));
    }
    take(Item::Figures(figures))?;
    for _ in 0..reader.number()? {
        read_group(reader, byte, &entries, &figures, take)?;
    }
    Ok(())
}

fn read_id<R: Read>(reader: &mut Reader<R>) -> Result<StreamId, RdbError> {
    Ok(StreamId { ms: reader.number()?, seq: reader.number()? })
}

/// What was read so far.
#[derive(Default)]
struct Entries {
    len: u64,
    first: Option<StreamId>,
    last: Option<StreamId>,
}

impl Entries {
    /// ```text
    /// | entries | deleted ones | n | field 1 ... n | 0 |
    /// entry: | flags | ms, behind the master's | seq, so | n, field, value ... or, of the same fields, values | elements |
    /// ```
    fn listpack(&mut self, master: StreamId, mut words: Listpack<'_>, take: &mut Take<'_>) -> Result<(), RdbError> {
        let live = number(&mut words)?;
        let deleted = number(&mut words)?;
        let master_len = number(&mut words)?;
        let master_fields = words.clone();
        skip(&mut words, master_len)?;
        number(&mut words)?;
        let (mut live_found, mut deleted_found) = (0, 0);
        while let Some(flags) = words.next()? {
            let flags = flags.integer().ok_or(BAD)?;
            let (ms, seq) = (integer(&mut words)?, integer(&mut words)?);
            let id = StreamId { ms: master.ms.wrapping_add_signed(ms), seq: master.seq.wrapping_add_signed(seq) };
            let fields = if flags & SAME_FIELDS != 0 {
                let fields =
                    EntryFields { master: Some(master_fields.clone()), words: words.clone(), left: master_len };
                skip(&mut words, master_len)?;
                fields
            } else {
                let left = number(&mut words)?;
                let fields = EntryFields { master: None, words: words.clone(), left };
                skip(&mut words, left.checked_mul(2).ok_or(BAD)?)?;
                fields
            };
            number(&mut words)?;
            if flags & DELETED != 0 {
                deleted_found += 1;
                continue;
            }
            live_found += 1;
            if self.last.is_some_and(|last| last >= id) {
                return Err(RdbError::Corrupt("a stream's entries are out of order"));
            }
            self.first.get_or_insert(id);
            self.last = Some(id);
            take(Item::Entry { id, fields })?;
        }
        if (live, deleted) != (live_found, deleted_found) {
            return Err(BAD);
        }
        self.len += live_found;
        Ok(())
    }

    /// How many entries a group has read that is at `id`, where the stream's version doesn't tell; `None`: nobody knows.
    fn read_until(&self, id: StreamId, figures: &StreamFigures) -> Option<u64> {
        match self.first {
            None => (id <= figures.last_id).then_some(0),
            Some(_) if id == figures.last_id => Some(figures.entries_added),
            Some(first) if id < first => Some(0),
            Some(first) if id == first => Some(1),
            Some(_) => None,
        }
    }
}

fn integer(words: &mut Listpack<'_>) -> Result<i64, RdbError> {
    words.next()?.ok_or(BAD)?.integer().ok_or(BAD)
}

fn number(words: &mut Listpack<'_>) -> Result<u64, RdbError> {
    u64::try_from(integer(words)?).map_err(|_| BAD)
}

fn skip(words: &mut Listpack<'_>, count: u64) -> Result<(), RdbError> {
    (0..count).try_for_each(|_| words.next()?.ok_or(BAD).map(drop))
}

/// A pending entry, until it is known whose it is.
struct Pending {
    id: StreamId,
    delivered_ms: u64,
    deliveries: u64,
    /// Its place among the group's consumers.
    consumer: Option<u32>,
}

fn read_group<R: Read>(
    reader: &mut Reader<R>,
    byte: u8,
    entries: &Entries,
    figures: &StreamFigures,
    take: &mut Take<'_>,
) -> Result<(), RdbError> {
    let mut name = Vec::new();
    reader.string(&mut name)?;
    let last_id = read_id(reader)?;
    let entries_read = match byte {
        STREAM => entries.read_until(last_id, figures),
        // -1: unknown
        _ => i64::try_from(reader.number()?).ok().map(|read| read as u64),
    };
    take(Item::Group { name: &name, last_id, entries_read })?;
    let mut pending = Vec::new();
    for _ in 0..reader.number()? {
        let id = StreamId::from_be_bytes(reader.array()?);
        let (delivered_ms, deliveries) = (reader.time_ms()?, reader.number()?);
        pending.push(Pending { id, delivered_ms, deliveries, consumer: None });
    }
    if !pending.is_sorted_by(|a, b| a.id < b.id) {
        return Err(RdbError::Corrupt("a group's pending entries are out of order"));
    }
    let mut names = Vec::new();
    let mut ends = Vec::new();
    for at in 0..reader.number()? {
        reader.string(&mut name)?;
        let seen_ms = reader.time_ms()?;
        let active_ms = if byte == STREAM_3 { Some(reader.time_ms()?) } else { None };
        take(Item::Consumer { name: &name, seen_ms, active_ms })?;
        let start = names.len();
        names.extend_from_slice(&name);
        ends.push(start..names.len());
        for _ in 0..reader.number()? {
            let id = StreamId::from_be_bytes(reader.array()?);
            let found = pending.binary_search_by_key(&id, |pending| pending.id);
            let found = found.map_err(|_| RdbError::Corrupt("a consumer's pending entry is not the group's"))?;
            if pending[found].consumer.replace(at as u32).is_some() {
                return Err(RdbError::Corrupt("a pending entry has two consumers"));
            }
        }
    }
    for Pending { id, delivered_ms, deliveries, consumer } in pending {
        let consumer = consumer.ok_or(RdbError::Corrupt("a pending entry has no consumer"))?;
        let consumer = &names[ends[consumer as usize].clone()];
        take(Item::Pending { id, consumer, delivered_ms, deliveries })?;
    }
    Ok(())
}

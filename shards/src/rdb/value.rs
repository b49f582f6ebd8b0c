//! Values of every type, handed on piece by piece: no more of one is in memory than a string, a ziplist or a listpack.

use super::codes::*;
use super::packed::{Listpack, Word, Ziplist, Zipmap, intset};
use super::stream::{EntryFields, StreamFigures, StreamId, read_stream};
use super::{RdbError, Reader, VERSION_VALKEY};
use crate::numbers::parse_float;
use crate::types::Kind;
use std::io::Read;

/// What a type's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    String,
    Collection(Kind),
    Module,
}

/// How a value is written, as its type's number and the version of the format say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueType {
    byte: u8,
    version: u16,
}

impl ValueType {
    pub fn new(byte: u8, version: u16) -> Result<Self, RdbError> {
        let is_known = match byte {
            STRING..=MODULE_2 | HASH_ZIPMAP..=STREAM_3 | HASH_METADATA_PRE_GA => true,
            HASH_LISTPACK_EX_PRE_GA..=HASH_LISTPACK_EX => version < VERSION_VALKEY,
            _ => false,
        };
        if is_known { Ok(ValueType { byte, version }) } else { Err(RdbError::UnknownType(byte)) }
    }
    /// As it stands before the key in a file, and before the value in a payload.
    pub fn byte(self) -> u8 {
        self.byte
    }
    pub fn content(self) -> Content {
        match self.byte {
            STRING => Content::String,
            LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => Content::Collection(Kind::List),
            SET | SET_INTSET | SET_LISTPACK => Content::Collection(Kind::Set),
            SORTED_SET | SORTED_SET_2 | SORTED_SET_ZIPLIST | SORTED_SET_LISTPACK => {
                Content::Collection(Kind::SortedSet)
            }
            STREAM | STREAM_2 | STREAM_3 => Content::Collection(Kind::Stream),
            MODULE_PRE_GA | MODULE_2 => Content::Module,
            _ => Content::Collection(Kind::Hash),
        }
    }
}

/// A piece of a value, in the order in which they come.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// All of a string.
    String(&'a [u8]),
    /// Of a list, from head to tail.
    Element(&'a [u8]),
    /// Of a set.
    Member(&'a [u8]),
    /// Of a sorted set; the score is a number.
    Scored(&'a [u8], f64),
    /// Of a hash; the deadline in milliseconds since 1970.
    Field {
        field: &'a [u8],
        value: &'a [u8],
        deadline_ms: Option<u64>,
    },
    /// Of a stream, in ascending order of ids.
    Entry {
        id: StreamId,
        fields: EntryFields<'a>,
    },
    /// Behind all entries, before the groups.
    Figures(StreamFigures),
    Group {
        name: &'a [u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    },
    /// Of the latest group. `active_ms`: when it last got an entry, if the version tells.
    Consumer {
        name: &'a [u8],
        seen_ms: u64,
        active_ms: Option<u64>,
    },
    /// Of the latest group, in ascending order of ids, behind all of its consumers.
    Pending {
        id: StreamId,
        consumer: &'a [u8],
        delivered_ms: u64,
        deliveries: u64,
    },
}

/// Takes a piece; an error ends the reading.
pub type Take<'f> = dyn FnMut(Item<'_>) -> Result<(), RdbError> + 'f;

/// Strings that are read one after the other.
#[derive(Default)]
struct Buffers {
    first: Vec<u8>,
    second: Vec<u8>,
}

impl ValueType {
    /// Reads a value. `Empty` and `Module` come when it has been read to its end, so that what follows can be read.
    pub fn read<R: Read>(self, reader: &mut Reader<R>, take: &mut Take<'_>) -> Result<(), RdbError> {
        let mut buffers = Buffers::default();
        let taken = match self.byte {
            STRING => {
                reader.string(&mut buffers.first)?;
                take(Item::String(&buffers.first))?;
                1
            }
            LIST | SET => self.strings(reader, &mut buffers, take)?,
            SORTED_SET | SORTED_SET_2 => self.scored(reader, &mut buffers, take)?,
            HASH | HASH_METADATA_PRE_GA | HASH_METADATA => self.fields(reader, &mut buffers, take)?,
            LIST_QUICKLIST | LIST_QUICKLIST_2 => self.quicklist(reader, &mut buffers, take)?,
            STREAM | STREAM_2 | STREAM_3 => {
                read_stream(reader, self.byte, take)?;
                1
            }
            MODULE_PRE_GA => return Err(RdbError::UnknownType(self.byte)),
            MODULE_2 => return skip_module(reader).and(Err(RdbError::Module)),
            _ => {
                if self.byte == HASH_LISTPACK_EX {
                    // The first of the deadlines, which the fields tell, too.
                    reader.time_ms()?;
                }
                reader.string(&mut buffers.first)?;
                self.packed(&buffers.first, take)?
            }
        };
        if taken == 0 { Err(RdbError::Empty) } else { Ok(()) }
    }

    /// LIST, SET: strings one by one.
    fn strings<R: Read>(
        self,
        reader: &mut Reader<R>,
        buffers: &mut Buffers,
        take: &mut Take<'_>,
    ) -> Result<u64, RdbError> {
        let len = reader.number()?;
        for _ in 0..len {
            reader.string(&mut buffers.first)?;
            take(if self.byte == SET { Item::Member(&buffers.first) } else { Item::Element(&buffers.first) })?;
        }
        Ok(len)
    }

    fn scored<R: Read>(
        self,
        reader: &mut Reader<R>,
        buffers: &mut Buffers,
        take: &mut Take<'_>,
    ) -> Result<u64, RdbError> {
        let len = reader.number()?;
        for _ in 0..len {
            reader.string(&mut buffers.first)?;
            let score = match self.byte {
                SORTED_SET_2 => f64::from_le_bytes(reader.array()?),
                _ => text_score(reader, &mut buffers.second)?,
            };
            if score.is_nan() {
                return Err(RdbError::Corrupt("a score that is not a number"));
            }
            take(Item::Scored(&buffers.first, score))?;
        }
        Ok(len)
    }

    /// Hashes as fields and values one by one, with their deadlines before or behind them.
    fn fields<R: Read>(
        self,
        reader: &mut Reader<R>,
        buffers: &mut Buffers,
        take: &mut Take<'_>,
    ) -> Result<u64, RdbError> {
        let is_of_valkey = self.byte == HASH_METADATA_PRE_GA && self.version >= VERSION_VALKEY;
        let first_ms = if self.byte == HASH_METADATA { reader.time_ms()? } else { 0 };
        let len = reader.number()?;
        for _ in 0..len {
            let mut deadline_ms = match self.byte {
                // From the first of all deadlines on, which itself is 1.
                HASH_METADATA => reader.number()?.checked_sub(1).map(|after| first_ms.saturating_add(after)),
                HASH_METADATA_PRE_GA if !is_of_valkey => Some(reader.number()?).filter(|ms| *ms > 0),
                _ => None,
            };
            reader.string(&mut buffers.first)?;
            reader.string(&mut buffers.second)?;
            if is_of_valkey {
                // -1: none
                deadline_ms = u64::try_from(i64::from_le_bytes(reader.array()?)).ok();
            }
            take(Item::Field { field: &buffers.first, value: &buffers.second, deadline_ms })?;
        }
        Ok(len)
    }

    fn quicklist<R: Read>(
        self,
        reader: &mut Reader<R>,
        buffers: &mut Buffers,
        take: &mut Take<'_>,
    ) -> Result<u64, RdbError> {
        let mut elements = 0;
        for _ in 0..reader.number()? {
            let container = if self.byte == LIST_QUICKLIST_2 { reader.number()? } else { NODE_PACKED };
            reader.string(&mut buffers.first)?;
            elements += match container {
                NODE_PLAIN => {
                    take(Item::Element(&buffers.first))?;
                    1
                }
                NODE_PACKED => self.packed(&buffers.first, take)?,
                _ => return Err(RdbError::Corrupt("a quicklist has a node of an unknown kind")),
            };
        }
        Ok(elements)
    }

    /// What a byte array holds, and how many elements that were.
    fn packed(self, bytes: &[u8], take: &mut Take<'_>) -> Result<u64, RdbError> {
        match self.byte {
            HASH_ZIPMAP => {
                let (mut zipmap, mut fields) = (Zipmap::open(bytes)?, 0);
                while let Some((field, value)) = zipmap.next()? {
                    take(Item::Field { field, value, deadline_ms: None })?;
                    fields += 1;
                }
                Ok(fields)
            }
            SET_INTSET => {
                let mut members = 0;
                for member in intset(bytes)? {
                    take(Item::Member(itoa::Buffer::new().format(member).as_bytes()))?;
                    members += 1;
                }
                Ok(members)
            }
            LIST_ZIPLIST | LIST_QUICKLIST | SORTED_SET_ZIPLIST | HASH_ZIPLIST => {
                let mut ziplist = Ziplist::open(bytes)?;
                self.words(&mut || ziplist.next(), take)
            }
            _ => {
                let mut listpack = Listpack::open(bytes)?;
                self.words(&mut || listpack.next(), take)
            }
        }
    }

    fn words<'a>(
        self,
        next: &mut dyn FnMut() -> Result<Option<Word<'a>>, RdbError>,
        take: &mut Take<'_>,
    ) -> Result<u64, RdbError> {
        const ODD: RdbError = RdbError::Corrupt("the last element of a packed hash or sorted set lacks its other half");
        let mut elements = 0;
        while let Some(word) = next()? {
            elements += 1;
            let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
            let [first, second] = &mut digits;
            let word = word.bytes(first);
            match self.content() {
                Content::Collection(Kind::List) => take(Item::Element(word))?,
                Content::Collection(Kind::Set) => take(Item::Member(word))?,
                Content::Collection(Kind::SortedSet) => {
                    let score = match next()?.ok_or(ODD)? {
                        Word::Integer(score) => score as f64,
                        Word::Bytes(text) => score(text)?,
                    };
                    take(Item::Scored(word, score))?;
                }
                _ => {
                    let value = next()?.ok_or(ODD)?;
                    let deadline_ms = match self.byte {
                        HASH_LISTPACK_EX | HASH_LISTPACK_EX_PRE_GA => {
                            let deadline = next()?.ok_or(ODD)?.integer();
                            deadline.ok_or(RdbError::Corrupt("a field's deadline is no number"))?
                        }
                        _ => 0,
                    };
                    let deadline_ms = u64::try_from(deadline_ms).ok().filter(|ms| *ms > 0);
                    take(Item::Field { field: word, value: value.bytes(second), deadline_ms })?;
                }
            }
        }
        Ok(elements)
    }
}

/// A score as text, with its length in front or a sign for what is no text.
fn text_score<R: Read>(reader: &mut Reader<R>, text: &mut Vec<u8>) -> Result<f64, RdbError> {
    match reader.byte()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            text.clear();
            reader.bytes(len as u64, text)?;
            score(text)
        }
    }
}

fn score(text: &[u8]) -> Result<f64, RdbError> {
    parse_float(text).ok_or(RdbError::Corrupt("a score that is not a number"))
}

/// What a module wrote says of itself where it ends.
pub fn skip_module<R: Read>(reader: &mut Reader<R>) -> Result<(), RdbError> {
    const END: u64 = 0;
    // The module's name and version, packed.
    reader.number()?;
    loop {
        match reader.number()? {
            END => return Ok(()),
            // Integers of both kinds, float, double, string.
            1 | 2 => drop(reader.number()?),
            3 => reader.skip(4)?,
            4 => reader.skip(8)?,
            5 => reader.skip_string()?,
            _ => return Err(RdbError::Corrupt("a module's value is damaged")),
        }
    }
}

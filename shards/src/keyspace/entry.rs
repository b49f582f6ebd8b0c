//! What readers see of an entry, independent of the engine that stores it.

use crate::error::{CommandError, WRONG_TYPE};
use crate::numbers::parse_integer;
use crate::types::hash::HashRef;
use crate::types::list::ListRef;
use crate::types::set::SetRef;
use crate::types::sorted_set::SortedSetRef;
use crate::types::stream::StreamRef;
use crate::types::{CollectionRef, Kind, Large, digest_bytes, mix};
use crate::units::{Db, Deadline};
use std::borrow::Cow;

/// A string value as stored. `Raw`: bytes that were modified in place, which Redis reports as encoding `raw` whatever
/// their length, and which are never kept as an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringRef<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Raw(&'a [u8]),
}

impl<'a> StringRef<'a> {
    /// Integers where the bytes are the canonical text of one.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        match parse_integer(bytes) {
            Some(value) => StringRef::Integer(value),
            None => StringRef::Bytes(bytes),
        }
    }
    /// The text, borrowed where it is stored as such.
    pub fn to_bytes(&self) -> Cow<'a, [u8]> {
        match *self {
            StringRef::Integer(value) => Cow::Owned(itoa::Buffer::new().format(value).as_bytes().to_vec()),
            StringRef::Bytes(bytes) | StringRef::Raw(bytes) => Cow::Borrowed(bytes),
        }
    }
    /// The text, without allocation: an integer is formatted into `digits`.
    pub fn as_bytes<'s>(&'s self, digits: &'s mut itoa::Buffer) -> &'s [u8] {
        match *self {
            StringRef::Integer(value) => digits.format(value).as_bytes(),
            StringRef::Bytes(bytes) | StringRef::Raw(bytes) => bytes,
        }
    }
    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        match *self {
            StringRef::Integer(value) => itoa::Buffer::new().format(value).len(),
            StringRef::Bytes(bytes) | StringRef::Raw(bytes) => bytes.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The value as an integer, if its text is a canonical one.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            StringRef::Integer(value) => Some(value),
            StringRef::Bytes(bytes) | StringRef::Raw(bytes) => parse_integer(bytes),
        }
    }
}

/// What a key holds.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    String(StringRef<'a>),
    /// A small collection: its pack.
    Small(Kind, &'a [u8]),
    Large(&'a Large),
}

impl<'a> Value<'a> {
    /// The collection, if it is one.
    pub fn collection(&self) -> Option<CollectionRef<'a>> {
        match *self {
            Value::String(_) => None,
            Value::Small(kind, pack) => Some(CollectionRef::small(kind, pack)),
            Value::Large(large) => Some(large.view()),
        }
    }
}

/// Names of OBJECT ENCODING.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Int,
    Embstr,
    Raw,
    Collection(&'static str),
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
            Encoding::Collection(name) => name,
        }
    }
}

/// Longest string that Redis embeds in its object (OBJECT ENCODING says `embstr`).
const EMBSTR_BYTES_MAX: usize = 44;

/// The first deadline among the elements of a collection, on each clock.
pub(super) type NextDeadlines = [Option<Deadline>; 2];

/// A key and what it holds.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Value<'a>,
    pub(super) deadline: Option<Deadline>,
    pub(super) access: u32,
}

impl<'a> Entry<'a> {
    pub fn key(&self) -> &'a [u8] {
        self.key
    }
    pub fn value(&self) -> Value<'a> {
        self.value
    }
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }
    /// 24 bits for the eviction policies: seconds of the steady clock at the last access (LRU).
    pub fn access(&self) -> u32 {
        self.access
    }
    /// The string, or WRONGTYPE.
    pub fn string(&self) -> Result<StringRef<'a>, CommandError> {
        match self.value {
            Value::String(value) => Ok(value),
            Value::Small(..) | Value::Large(_) => Err(WRONG_TYPE),
        }
    }
    /// The collection, or WRONGTYPE.
    pub fn collection(&self) -> Result<CollectionRef<'a>, CommandError> {
        self.value.collection().ok_or(WRONG_TYPE)
    }
    pub fn hash(&self) -> Result<HashRef<'a>, CommandError> {
        if let Some(CollectionRef::Hash(view)) = self.value.collection() { Ok(view) } else { Err(WRONG_TYPE) }
    }
    pub fn list(&self) -> Result<ListRef<'a>, CommandError> {
        if let Some(CollectionRef::List(view)) = self.value.collection() { Ok(view) } else { Err(WRONG_TYPE) }
    }
    pub fn set(&self) -> Result<SetRef<'a>, CommandError> {
        if let Some(CollectionRef::Set(view)) = self.value.collection() { Ok(view) } else { Err(WRONG_TYPE) }
    }
    pub fn sorted_set(&self) -> Result<SortedSetRef<'a>, CommandError> {
        if let Some(CollectionRef::SortedSet(view)) = self.value.collection() { Ok(view) } else { Err(WRONG_TYPE) }
    }
    pub fn stream(&self) -> Result<StreamRef<'a>, CommandError> {
        if let Some(CollectionRef::Stream(view)) = self.value.collection() { Ok(view) } else { Err(WRONG_TYPE) }
    }
    /// A hash of what clients can see of the entry: the same in every process, on every machine, whatever the
    /// engine. (Encodings and access bits are no part of it.)
    pub(super) fn digest(&self, db: Db) -> u64 {
        let start = mix(mix(0, db.0 as u64), self.deadline.map_or(0, Deadline::to_bits));
        self.digest_value(digest_bytes(start, self.key))
    }
    /// A hash of the value alone, and of whether it has a deadline: the same for a copy under another key, in whatever form.
    pub fn value_digest(&self) -> u64 {
        self.digest_value(mix(0, self.deadline.is_some() as u64))
    }
    fn digest_value(&self, start: u64) -> u64 {
        match self.value {
            Value::String(value) => digest_bytes(start, value.as_bytes(&mut itoa::Buffer::new())),
            Value::Small(..) | Value::Large(_) => {
                let collection = self.value.collection().expect("it is one");
                mix(mix(start, collection.kind() as u64), collection.digest())
            }
        }
    }
    /// When the first of its elements expires, on each clock.
    pub(super) fn next_deadlines(&self) -> NextDeadlines {
        match self.value {
            Value::Small(Kind::Hash, _) | Value::Large(Large::Hash(_)) => {
                self.value.collection().expect("it is one").next_deadlines()
            }
            Value::String(_) | Value::Small(..) | Value::Large(_) => [None, None],
        }
    }
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::String(_) => "string",
            Value::Small(kind, _) => kind.name(),
            Value::Large(large) => large.kind().name(),
        }
    }
    pub fn encoding(&self) -> Encoding {
        match self.value {
            Value::String(StringRef::Integer(_)) => Encoding::Int,
            Value::String(StringRef::Bytes(bytes)) if bytes.len() <= EMBSTR_BYTES_MAX => Encoding::Embstr,
            Value::String(StringRef::Bytes(_) | StringRef::Raw(_)) => Encoding::Raw,
            Value::Small(..) | Value::Large(_) => {
                Encoding::Collection(self.value.collection().expect("it is one").encoding())
            }
        }
    }
}

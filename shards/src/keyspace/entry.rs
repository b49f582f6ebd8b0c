//! What readers see of an entry, independent of the engine that stores it.

use crate::error::CommandError;
use crate::numbers::parse_integer;
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

/// What a key holds. Later types are further variants.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    String(StringRef<'a>),
}

/// Names of OBJECT ENCODING.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Int,
    Embstr,
    Raw,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
        }
    }
}

/// Longest string that Redis embeds in its object (OBJECT ENCODING says `embstr`).
const EMBSTR_BYTES_MAX: usize = 44;

/// A key and what it holds.
#[derive(Clone, Copy, Debug)]
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
        }
    }
    /// A hash of what clients can see of the entry: the same in every process, on every machine, whatever the
    /// engine. (Encodings and access bits are no part of it.)
    pub(super) fn digest(&self, db: Db) -> u64 {
        let mut digits = itoa::Buffer::new();
        let Value::String(value) = self.value;
        let fields = [self.key, value.as_bytes(&mut digits)];
        let start = mix(mix(0, db.0 as u64), self.deadline.map_or(0, Deadline::to_bits));
        fields.into_iter().fold(start, digest_bytes)
    }
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::String(_) => "string",
        }
    }
    pub fn encoding(&self) -> Encoding {
        match self.value {
            Value::String(StringRef::Integer(_)) => Encoding::Int,
            Value::String(StringRef::Bytes(bytes)) if bytes.len() <= EMBSTR_BYTES_MAX => Encoding::Embstr,
            Value::String(StringRef::Bytes(_) | StringRef::Raw(_)) => Encoding::Raw,
        }
    }
}

/// Length and bytes, eight at a time.
fn digest_bytes(digest: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(mix(digest, bytes.len() as u64), mix)
}

/// A step of splitmix64 (Steele et al., OOPSLA 2014) over the digest so far and a word.
fn mix(digest: u64, word: u64) -> u64 {
    let z = (digest ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

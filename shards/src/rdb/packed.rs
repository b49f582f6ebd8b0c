//! The byte arrays in which Redis keeps small collections, and parts of large ones: listpack, ziplist, zipmap, intset. Only
//! walked from the front; every length is checked against the bytes that are there.

use super::RdbError;
use super::listpack::{backlen, backlen_bytes};

/// An element: packed integers stand for their decimal text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
}

impl<'a> Word<'a> {
    pub fn bytes<'s>(&self, digits: &'s mut itoa::Buffer) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Word::Integer(value) => digits.format(*value).as_bytes(),
            Word::Bytes(bytes) => bytes,
        }
    }
    pub fn integer(&self) -> Option<i64> {
        match self {
            Word::Integer(value) => Some(*value),
            Word::Bytes(bytes) => crate::numbers::parse_integer(bytes),
        }
    }
}

const END: u8 = 0xff;

/// The elements of a listpack:
///
/// ```text
/// | bytes 4 | elements 2 | element ... | 0xff |
/// element: | encoding and value | length of those, to be read backwards |
/// ```
#[derive(Clone)]
pub struct Listpack<'a> {
    rest: &'a [u8],
}

const BAD_LISTPACK: RdbError = RdbError::Corrupt("a listpack is damaged");
const LISTPACK_HEADER_BYTES: usize = 6;

impl<'a> Listpack<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let (header, rest) = bytes.split_first_chunk::<LISTPACK_HEADER_BYTES>().ok_or(BAD_LISTPACK)?;
        let total = u32::from_le_bytes(*header.first_chunk().expect("four of six bytes"));
        if total as usize != bytes.len() || rest.last() != Some(&END) {
            return Err(BAD_LISTPACK);
        }
        Ok(Listpack { rest })
    }
    /// The next element, or `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<Word<'a>>, RdbError> {
        if self.rest == [END] {
            return Ok(None);
        }
        let mut fields = Fields(self.rest, BAD_LISTPACK);
        let first = fields.byte()?;
        let word = match first {
            0..0x80 => Word::Integer(first as i64),
            0x80..0xc0 => fields.word((first & 0x3f) as usize)?,
            0xc0..0xe0 => {
                let value = ((first & 0x1f) as i64) << 8 | fields.byte()? as i64;
                Word::Integer(if value < 1 << 12 { value } else { value - (1 << 13) })
            }
            0xe0..0xf0 => {
                let len = ((first & 0x0f) as usize) << 8 | fields.byte()? as usize;
                fields.word(len)?
            }
            0xf0 => {
                let len = u32::from_le_bytes(fields.array()?);
                fields.word(len as usize)?
            }
            0xf1 => Word::Integer(i16::from_le_bytes(fields.array()?) as i64),
            0xf2 => Word::Integer(int24(fields.array()?)),
            0xf3 => Word::Integer(i32::from_le_bytes(fields.array()?) as i64),
            0xf4 => Word::Integer(i64::from_le_bytes(fields.array()?)),
            0xf5.. => return Err(BAD_LISTPACK),
        };
        let len = self.rest.len() - fields.0.len();
        let mut expected = [0; 5];
        backlen(len, &mut expected);
        let expected = &expected[..backlen_bytes(len)];
        self.rest = fields.0.strip_prefix(expected).filter(|rest| !rest.is_empty()).ok_or(BAD_LISTPACK)?;
        Ok(Some(word))
    }
}

/// The elements of a ziplist, which Redis used before listpacks:
///
/// ```text
/// | bytes 4 | offset of the last 4 | elements 2 | element ... | 0xff |
/// element: | length of the one before 1, or 0xfe and 4 | encoding | value |
/// ```
#[derive(Clone)]
pub struct Ziplist<'a> {
    rest: &'a [u8],
    /// Length of the element before.
    before: usize,
}

const BAD_ZIPLIST: RdbError = RdbError::Corrupt("a ziplist is damaged");
const ZIPLIST_HEADER_BYTES: usize = 10;
const BIG_LEN: u8 = 0xfe;

impl<'a> Ziplist<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let (header, rest) = bytes.split_first_chunk::<ZIPLIST_HEADER_BYTES>().ok_or(BAD_ZIPLIST)?;
        let total = u32::from_le_bytes(*header.first_chunk().expect("four of ten bytes"));
        if total as usize != bytes.len() || rest.last() != Some(&END) {
            return Err(BAD_ZIPLIST);
        }
        Ok(Ziplist { rest, before: 0 })
    }
    pub fn next(&mut self) -> Result<Option<Word<'a>>, RdbError> {
        if self.rest == [END] {
            return Ok(None);
        }
        let mut fields = Fields(self.rest, BAD_ZIPLIST);
        let before = match fields.byte()? {
            END => return Err(BAD_ZIPLIST),
            BIG_LEN => u32::from_le_bytes(fields.array()?) as usize,
            short => short as usize,
        };
        let first = fields.byte()?;
        let word = match first {
            0..0x40 => fields.word(first as usize)?,
            0x40..0x80 => {
                let len = ((first & 0x3f) as usize) << 8 | fields.byte()? as usize;
                fields.word(len)?
            }
            0x80..0xc0 => {
                let len = u32::from_be_bytes(fields.array()?);
                fields.word(len as usize)?
            }
            0xc0 => Word::Integer(i16::from_le_bytes(fields.array()?) as i64),
            0xd0 => Word::Integer(i32::from_le_bytes(fields.array()?) as i64),
            0xe0 => Word::Integer(i64::from_le_bytes(fields.array()?)),
            0xf0 => Word::Integer(int24(fields.array()?)),
            0xfe => Word::Integer(fields.byte()? as i8 as i64),
            0xf1..=0xfd => Word::Integer((first & 0x0f) as i64 - 1),
            _ => return Err(BAD_ZIPLIST),
        };
        if before != self.before || fields.0.is_empty() {
            return Err(BAD_ZIPLIST);
        }
        self.before = self.rest.len() - fields.0.len();
        self.rest = fields.0;
        Ok(Some(word))
    }
}

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The fields and values of a zipmap, in which Redis kept small hashes up to 2.4:
///
/// ```text
/// | fields 1 | length, field, length, unused bytes 1, value, unused bytes ... | 0xff |
/// length: 1 byte below 0xfe, or 0xfe and 4 bytes
/// ```
pub struct Zipmap<'a> {
    rest: &'a [u8],
}

const BAD_ZIPMAP: RdbError = RdbError::Corrupt("a zipmap is damaged");

impl<'a> Zipmap<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let rest = bytes.get(1..).filter(|rest| rest.last() == Some(&END)).ok_or(BAD_ZIPMAP)?;
        Ok(Zipmap { rest })
    }
    pub fn next(&mut self) -> Result<Option<Pair<'a>>, RdbError> {
        if self.rest == [END] {
            return Ok(None);
        }
        let mut fields = Fields(self.rest, BAD_ZIPMAP);
        let len = Self::len(&mut fields)?;
        let field = fields.take(len)?;
        let len = Self::len(&mut fields)?;
        let unused = fields.byte()?;
        let value = fields.take(len)?;
        fields.take(unused as usize)?;
        if fields.0.is_empty() {
            return Err(BAD_ZIPMAP);
        }
        self.rest = fields.0;
        Ok(Some((field, value)))
    }
    fn len(fields: &mut Fields<'a>) -> Result<usize, RdbError> {
        match fields.byte()? {
            END => Err(BAD_ZIPMAP),
            BIG_LEN => Ok(u32::from_le_bytes(fields.array()?) as usize),
            short => Ok(short as usize),
        }
    }
}

/// The members of an intset, in ascending order: `| bytes per member 4 | members 4 | member ... |`.
pub fn intset(bytes: &[u8]) -> Result<impl Iterator<Item = i64>, RdbError> {
    const BAD: RdbError = RdbError::Corrupt("an intset is damaged");
    let mut fields = Fields(bytes, BAD);
    let width = u32::from_le_bytes(fields.array()?) as usize;
    let len = u32::from_le_bytes(fields.array()?) as usize;
    let members = fields.0;
    if !matches!(width, 2 | 4 | 8) || members.len() != len * width {
        return Err(BAD);
    }
    let values = members.chunks_exact(width).map(move |member| {
        let mut wide = [if member[width - 1] >= 0x80 { 0xff } else { 0 }; 8];
        wide[..width].copy_from_slice(member);
        i64::from_le_bytes(wide)
    });
    if values.clone().is_sorted_by(|a, b| a < b) { Ok(values) } else { Err(BAD) }
}

fn int24([a, b, c]: [u8; 3]) -> i64 {
    (i32::from_le_bytes([0, a, b, c]) >> 8) as i64
}

/// Bytes still to be read, and the error for reading beyond.
struct Fields<'a>(&'a [u8], RdbError);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Result<u8, RdbError> {
        self.array().map(|[byte]| byte)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(|| self.1.clone())?;
        self.0 = rest;
        Ok(*array)
    }
    fn take(&mut self, len: usize) -> Result<&'a [u8], RdbError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(|| self.1.clone())?;
        self.0 = rest;
        Ok(bytes)
    }
    fn word(&mut self, len: usize) -> Result<Word<'a>, RdbError> {
        self.take(len).map(Word::Bytes)
    }
}

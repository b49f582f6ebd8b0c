//! Numbers and byte strings as edits, and the changes inside them, write them: LEB128, and length before bytes. Drawn in
//! docs/formats/wal.md.

use crate::units::{Db, Deadline};

/// Bytes that are no edit of this version, or no change of their type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    #[error("an edit ends in the middle")]
    Truncated,
    #[error("unknown kind of edit {0}")]
    UnknownKind(u8),
    #[error("a number in an edit is out of range")]
    BadNumber,
    #[error("an edit of database {0}, which is not there")]
    NoSuchDatabase(u16),
}

/// Signed numbers with the small ones, of either sign, first.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that `number` takes for a length.
#[inline]
pub fn length_bytes(len: usize) -> usize {
    (len.max(1).ilog2() / 7 + 1) as usize
}

/// Bytes that `string` takes.
#[inline]
pub fn string_bytes(bytes: &[u8]) -> usize {
    length_bytes(bytes.len()) + bytes.len()
}

/// A double, bit by bit: 8 bytes, little endian.
pub fn double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A deadline in its packed form; 0 is none.
pub fn deadline(out: &mut Vec<u8>, deadline: Option<Deadline>) {
    number(out, deadline.map_or(0, Deadline::to_bits));
}

/// Reads the same back, from any bytes whatever.
#[derive(Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { bytes, at: 0 }
    }
    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }
    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
    /// The bytes read since `at` was so many.
    pub fn since(&self, at: usize) -> &'a [u8] {
        &self.bytes[at..self.at]
    }
    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
    pub fn byte(&mut self) -> Result<u8, EditError> {
        let byte = *self.bytes.get(self.at).ok_or(EditError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }
    #[inline]
    pub fn number(&mut self) -> Result<u64, EditError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(EditError::BadNumber);
            }
            value |= ((byte & 0x7f) as u64) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(EditError::BadNumber)
    }
    pub fn db(&mut self) -> Result<Db, EditError> {
        u16::try_from(self.number()?).map(Db).map_err(|_| EditError::BadNumber)
    }
    pub fn double(&mut self) -> Result<f64, EditError> {
        let bytes = self.bytes.get(self.at..self.at + 8).ok_or(EditError::Truncated)?;
        self.at += 8;
        Ok(f64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }
    pub fn deadline(&mut self) -> Result<Option<Deadline>, EditError> {
        self.number().map(Deadline::from_bits)
    }
    #[inline(always)]
    pub fn string(&mut self) -> Result<&'a [u8], EditError> {
        // Nearly all are shorter than that: walks of packs and leaves go from one to the next here.
        let Some(&len @ ..0x80) = self.bytes.get(self.at) else { return self.long_string() };
        let start = self.at + 1;
        let bytes = self.bytes.get(start..start + len as usize).ok_or(EditError::Truncated)?;
        self.at = start + len as usize;
        Ok(bytes)
    }
    fn long_string(&mut self) -> Result<&'a [u8], EditError> {
        let len = usize::try_from(self.number()?).map_err(|_| EditError::BadNumber)?;
        let end = self.at.checked_add(len).ok_or(EditError::BadNumber)?;
        let bytes = self.bytes.get(self.at..end).ok_or(EditError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }
}

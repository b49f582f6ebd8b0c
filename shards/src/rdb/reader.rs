//! Bytes, numbers and strings of RDB from a source whose length is known: no string is longer than what is left of it.

use super::codes::{INT_8, INT_16, INT_32, LENGTH_32, LENGTH_64, LZF};
use super::{Crc64, RdbError, lzf};
use std::io::Read;

const BUFFER_BYTES: usize = 64 << 10;

/// A length, or how a string is written that has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    Of(u64),
    Special(u8),
}

pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Of the buffer: where the unread part begins, and up to where the checksum has been taken.
    at: usize,
    summed: usize,
    /// Bytes of the source before the buffer, and in all.
    base: u64,
    len: u64,
    checksum: Crc64,
    /// Every byte read since `record`.
    record: Option<Vec<u8>>,
    compressed: Vec<u8>,
}

impl<'a> Reader<&'a [u8]> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Reader::new(bytes, bytes.len() as u64)
    }
}

impl<R: Read> Reader<R> {
    /// `len`: how many bytes the source has.
    pub fn new(source: R, len: u64) -> Self {
        Reader {
            source,
            buffer: Vec::new(),
            at: 0,
            summed: 0,
            base: 0,
            len,
            checksum: Crc64::default(),
            record: None,
            compressed: Vec::new(),
        }
    }
    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }
    pub fn remaining(&self) -> u64 {
        self.len - self.position()
    }
    /// Of all that was read so far.
    pub fn checksum(&mut self) -> u64 {
        self.checksum.update(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
        self.checksum.value()
    }
    /// Keeps what is read from here on, in memory that `taken` gave.
    pub fn record(&mut self, mut into: Vec<u8>) {
        into.clear();
        self.record = Some(into);
    }
    pub fn recorded(&mut self) -> Vec<u8> {
        self.record.take().unwrap_or_default()
    }

    pub fn byte(&mut self) -> Result<u8, RdbError> {
        self.array().map(|[byte]| byte)
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut array = [0; N];
        let mut have = 0;
        while have < N {
            let bytes = self.some(N - have)?;
            array[have..have + bytes.len()].copy_from_slice(bytes);
            have += bytes.len();
        }
        Ok(array)
    }
    /// Appends the next `len` bytes.
    pub fn bytes(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), RdbError> {
        if len > self.remaining() {
            return Err(RdbError::Truncated);
        }
        let mut left = len as usize;
        out.reserve(left);
        while left > 0 {
            let bytes = self.some(left)?;
            out.extend_from_slice(bytes);
            left -= bytes.len();
        }
        Ok(())
    }
    pub fn skip(&mut self, len: u64) -> Result<(), RdbError> {
        let mut left = len;
        while left > 0 {
            left -= self.some(usize::try_from(left).unwrap_or(usize::MAX))?.len() as u64;
        }
        Ok(())
    }
    pub fn number(&mut self) -> Result<u64, RdbError> {
        match self.length()? {
            Length::Of(number) => Ok(number),
            Length::Special(_) => Err(RdbError::Corrupt("a string stands in the place of a number")),
        }
    }
    /// Milliseconds since 1970, negative ones as 0.
    pub fn time_ms(&mut self) -> Result<u64, RdbError> {
        self.array().map(|bytes| i64::from_le_bytes(bytes).max(0) as u64)
    }
    /// The string in place of what `out` held. A packed integer is its decimal text.
    pub fn string(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        out.clear();
        let value = match self.length()? {
            Length::Of(len) => return self.bytes(len, out),
            Length::Special(LZF) => return self.compressed(out),
            Length::Special(INT_8) => self.byte()? as i8 as i64,
            Length::Special(INT_16) => i16::from_le_bytes(self.array()?) as i64,
            Length::Special(INT_32) => i32::from_le_bytes(self.array()?) as i64,
            Length::Special(_) => return Err(RdbError::Corrupt("a string in an unknown encoding")),
        };
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }
    /// Passes over a string without making it.
    pub fn skip_string(&mut self) -> Result<(), RdbError> {
        match self.length()? {
            Length::Of(len) => self.skip(len),
            Length::Special(LZF) => {
                let compressed = self.number()?;
                self.number()?;
                self.skip(compressed)
            }
            Length::Special(INT_8) => self.skip(1),
            Length::Special(INT_16) => self.skip(2),
            Length::Special(INT_32) => self.skip(4),
            Length::Special(_) => Err(RdbError::Corrupt("a string in an unknown encoding")),
        }
    }

    fn compressed(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        let (compressed, len) = (self.number()?, self.number()?);
        if len > lzf::expanded_max(compressed) {
            return Err(RdbError::Corrupt("a compressed string is longer than its bytes can be"));
        }
        let mut bytes = std::mem::take(&mut self.compressed);
        bytes.clear();
        let read = self.bytes(compressed, &mut bytes);
        // Only what is there counts for how much may come out.
        let expanded = read.and_then(|()| lzf::expand(&bytes, len as usize, out));
        self.compressed = bytes;
        expanded
    }

    /// ```text
    /// 00nnnnnn             n
    /// 01nnnnnn nnnnnnnn    n
    /// 10000000 n 4         n, big endian
    /// 10000001 n 8         n, big endian
    /// 11kkkkkk             a string of kind k
    /// ```
    fn length(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        Ok(match first {
            0..0x40 => Length::Of(first as u64),
            0x40..0x80 => Length::Of(((first & 0x3f) as u64) << 8 | self.byte()? as u64),
            LENGTH_32 => Length::Of(u32::from_be_bytes(self.array()?) as u64),
            LENGTH_64 => Length::Of(u64::from_be_bytes(self.array()?)),
            0xc0.. => Length::Special(first),
            _ => return Err(RdbError::Corrupt("a length in an unknown encoding")),
        })
    }

    /// The next bytes, at least one and at most `max`.
    fn some(&mut self, max: usize) -> Result<&[u8], RdbError> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        let end = self.buffer.len().min(self.at.saturating_add(max));
        let bytes = &self.buffer[self.at..end];
        if let Some(record) = &mut self.record {
            record.extend_from_slice(bytes);
        }
        self.at = end;
        Ok(bytes)
    }

    fn fill(&mut self) -> Result<(), RdbError> {
        let left = self.remaining();
        if left == 0 {
            return Err(RdbError::Truncated);
        }
        self.checksum();
        self.base += self.at as u64;
        self.buffer.clear();
        (self.at, self.summed) = (0, 0);
        let want = left.min(BUFFER_BYTES as u64);
        let read = self.source.by_ref().take(want).read_to_end(&mut self.buffer);
        match read {
            Ok(0) => Err(RdbError::Truncated),
            Ok(_) => Ok(()),
            Err(error) => Err(RdbError::World(error.to_string().into())),
        }
    }
}

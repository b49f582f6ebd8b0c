//! Bytes, numbers and strings of RDB into a sink, and what a file begins and ends with.

use super::codes::*;
use super::lzf::Compressor;
use super::{Crc64, VERSION};
use crate::numbers::parse_integer;
use std::io::{self, Write};

/// Shorter strings are never compressed.
const COMPRESSED_FROM: usize = 21;
/// What compression must save.
const SAVED_MIN: usize = 4;
/// Text of an integer that may be packed.
const PACKED_TEXT_MAX: usize = 11;

/// Notes the first failure of the sink and writes no more after it; `finish` tells.
pub struct Writer<W> {
    sink: W,
    checksum: Crc64,
    failure: Option<io::Error>,
    compressor: Compressor,
}

impl<W: Write> Writer<W> {
    pub fn new(sink: W) -> Self {
        Writer { sink, checksum: Crc64::default(), failure: None, compressor: Compressor::default() }
    }
    /// The sink, or why it didn't take everything.
    pub fn finish(self) -> io::Result<W> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.sink),
        }
    }
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        self.checksum.update(bytes);
        self.failure = self.sink.write_all(bytes).err();
    }
    pub fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }
    pub fn number(&mut self, number: u64) {
        match number {
            0..0x40 => self.byte(number as u8),
            0x40..0x4000 => self.raw(&(number as u16 | 0x4000).to_be_bytes()),
            0x4000..=0xffff_ffff => {
                self.byte(LENGTH_32);
                self.raw(&(number as u32).to_be_bytes());
            }
            0x1_0000_0000.. => {
                self.byte(LENGTH_64);
                self.raw(&number.to_be_bytes());
            }
        }
    }
    /// Packed where it is the text of a small integer, compressed where that helps.
    pub fn string(&mut self, bytes: &[u8]) {
        let packed = if bytes.len() <= PACKED_TEXT_MAX { parse_integer(bytes) } else { None };
        match packed {
            Some(value @ -0x80..0x80) => return self.raw(&[INT_8, value as u8]),
            Some(value @ -0x8000..0x8000) => {
                let [a, b] = (value as i16).to_le_bytes();
                return self.raw(&[INT_16, a, b]);
            }
            Some(value @ -0x8000_0000..0x8000_0000) => {
                let [a, b, c, d] = (value as i32).to_le_bytes();
                return self.raw(&[INT_32, a, b, c, d]);
            }
            Some(_) | None => {}
        }
        if bytes.len() < COMPRESSED_FROM || !self.compressed(bytes) {
            self.number(bytes.len() as u64);
            self.raw(bytes);
        }
    }
    fn compressed(&mut self, bytes: &[u8]) -> bool {
        let mut compressor = std::mem::take(&mut self.compressor);
        let compressed = compressor.compress(bytes, bytes.len() - SAVED_MIN);
        let is_compressed = compressed.is_some();
        if let Some(compressed) = compressed {
            self.byte(LZF);
            self.number(compressed.len() as u64);
            self.number(bytes.len() as u64);
            self.raw(compressed);
        }
        self.compressor = compressor;
        is_compressed
    }

    // ---- a file ------------------------------------------------------------------------------------------

    pub fn begin_file(&mut self) {
        self.raw(format!("REDIS{VERSION:04}").as_bytes());
    }
    /// A remark, such as `redis-ver`; what loads the file may know it or not.
    pub fn remark(&mut self, name: &str, value: &str) {
        self.byte(AUX);
        self.string(name.as_bytes());
        self.string(value.as_bytes());
    }
    /// What follows is of this database.
    pub fn select(&mut self, database: u16) {
        self.byte(SELECT_DB);
        self.number(database as u64);
    }
    /// The next key's deadline, in milliseconds since 1970.
    pub fn deadline(&mut self, deadline_ms: u64) {
        self.byte(EXPIRE_MS);
        self.raw(&deadline_ms.to_le_bytes());
    }
    pub fn end_file(&mut self) {
        self.byte(EOF);
        let checksum = self.checksum.value();
        self.raw(&checksum.to_le_bytes());
    }
}

impl Writer<Vec<u8>> {
    /// What was written, as the payload of DUMP: version and checksum behind it.
    pub fn into_payload(mut self, version: u16) -> Vec<u8> {
        self.raw(&version.to_le_bytes());
        let checksum = self.checksum.value();
        self.raw(&checksum.to_le_bytes());
        self.finish().expect("a vector takes everything")
    }
}

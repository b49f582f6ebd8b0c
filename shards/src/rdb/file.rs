//! RDB files: what stands between the values.

use super::codes::*;
use super::value::skip_module;
use super::{RdbError, Reader, Take, ValueType, is_known};
use std::io::Read;

/// What comes next in a file, as far as anybody is interested in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A remark of who wrote the file (`key` and `value` of the reader).
    Remark,
    /// A key, whose value must be read next, by `value`.
    Key { database: u64, deadline_ms: Option<u64>, value: ValueType },
    /// A library of functions, passed over.
    Functions,
    /// What a module wrote beside its values, passed over.
    ModuleData,
    /// All was read, and the checksum is right.
    End,
}

pub struct FileReader<R> {
    reader: Reader<R>,
    version: u16,
    database: u64,
    key: Vec<u8>,
    remark: Vec<u8>,
}

/// `REDIS` and `VALKEY` with the version in decimal, nine bytes either way.
const MAGIC_BYTES: usize = 9;
/// From here on, eight bytes of checksum follow the end, or zeros.
const CHECKSUM_SINCE: u16 = 5;

impl<R: Read> FileReader<R> {
    /// Reads the beginning. `len`: the file's.
    pub fn open(source: R, len: u64) -> Result<Self, RdbError> {
        let mut reader = Reader::new(source, len);
        let magic: [u8; MAGIC_BYTES] = reader.array().map_err(|_| RdbError::NoRdb)?;
        let digits = magic.strip_prefix(b"REDIS").or_else(|| magic.strip_prefix(b"VALKEY")).ok_or(RdbError::NoRdb)?;
        let version =
            std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u32>().ok()).ok_or(RdbError::NoRdb)?;
        let known = u16::try_from(version).ok().filter(|version| is_known(*version));
        let version = known.ok_or(RdbError::UnknownVersion(version))?;
        Ok(FileReader { reader, version, database: 0, key: Vec::new(), remark: Vec::new() })
    }
    pub fn version(&self) -> u16 {
        self.version
    }
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
    /// The key that `next` came to, or a remark's name.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
    /// What a remark says.
    pub fn remark(&self) -> &[u8] {
        &self.remark
    }

    pub fn next_part(&mut self) -> Result<Part, RdbError> {
        let mut deadline_ms = None;
        loop {
            let reader = &mut self.reader;
            match reader.byte()? {
                EXPIRE_SECONDS => {
                    let seconds = i32::from_le_bytes(reader.array()?).max(0);
                    deadline_ms = Some(seconds as u64 * 1000);
                }
                EXPIRE_MS => deadline_ms = Some(reader.time_ms()?),
                FREQ => drop(reader.byte()?),
                IDLE => drop(reader.number()?),
                SELECT_DB => self.database = reader.number()?,
                RESIZE_DB => {
                    reader.number()?;
                    reader.number()?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        reader.number()?;
                    }
                }
                AUX => {
                    reader.string(&mut self.key)?;
                    reader.string(&mut self.remark)?;
                    return Ok(Part::Remark);
                }
                FUNCTION_2 => {
                    reader.skip_string()?;
                    return Ok(Part::Functions);
                }
                FUNCTION_PRE_GA => {
                    return Err(RdbError::Corrupt("functions in the form of a release candidate of Redis 7"));
                }
                MODULE_AUX => {
                    skip_module(reader)?;
                    return Ok(Part::ModuleData);
                }
                EOF => {
                    self.end()?;
                    return Ok(Part::End);
                }
                byte => {
                    let value = ValueType::new(byte, self.version)?;
                    reader.string(&mut self.key)?;
                    return Ok(Part::Key { database: self.database, deadline_ms, value });
                }
            }
        }
    }

    /// The value of the key that `next` came to. Its bytes replace what `record` held, also where it is `Empty`.
    pub fn value(&mut self, value: ValueType, record: &mut Vec<u8>, take: &mut Take<'_>) -> Result<(), RdbError> {
        self.reader.record(std::mem::take(record));
        let read = value.read(&mut self.reader, take);
        *record = self.reader.recorded();
        read
    }

    fn end(&mut self) -> Result<(), RdbError> {
        if self.version < CHECKSUM_SINCE {
            return Ok(());
        }
        let right = self.reader.checksum();
        let given = u64::from_le_bytes(self.reader.array()?);
        if given == right || given == 0 { Ok(()) } else { Err(RdbError::Checksum) }
    }
}

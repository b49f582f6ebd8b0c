//! Redis' RDB format: values as DUMP, RESTORE and RDB files have them, and the files around them. What is read and
//! written is in docs/formats/rdb.md.
//!
//! - `reader`: bytes, lengths and strings from a source, with position and checksum;
//! - `packed`: the byte arrays in which Redis keeps small collections: ziplist, listpack, zipmap, intset;
//! - `value`, `stream`: values of every type, piece by piece;
//! - `file`: what stands between the values of a file;
//! - `writer`, `listpack`, `write`: values and files for Redis 7.0;
//! - `convert`: from and to what a key holds;
//! - `lzf`, `crc64`: compression and checksum.
//!
//! The rule: bytes to be read come from anybody. Whatever they say, reading them gives an error at worst; no loop and no
//! allocation is larger than in proportion to the bytes that are there.

mod convert;
mod crc64;
mod file;
mod listpack;
mod lzf;
mod packed;
mod reader;
mod stream;
mod stream_form;
#[cfg(test)]
mod tests;
mod value;
mod write;
mod writer;

pub use convert::{FieldDeadlines, NewValue, Payload, dump, has_field_deadlines, is_gone, payload_of, write_value};
pub use crc64::Crc64;
pub use file::{FileReader, Part};
pub use packed::Word;
pub use reader::Reader;
pub use stream::{EntryFields, StreamFigures, StreamId};
pub use value::{Content, Item, Take, ValueType};
pub use write::{
    Group, PendingEntry, StreamSource, write_hash, write_limited_hash, write_list, write_set, write_sorted_set,
    write_stream, write_string,
};
pub use writer::Writer;

use std::borrow::Cow;

/// The version that is written, but for hashes whose fields have deadlines: that of Redis 7.0.
pub const VERSION: u16 = 10;
/// The last one of Redis whose values are known: that of 7.4, the first in which fields of hashes have deadlines.
const VERSION_MAX: u16 = 12;
/// That of Valkey 9, which counts from 80 on.
const VERSION_VALKEY: u16 = 80;

/// Whether values of this version are read here.
pub fn is_known(version: u16) -> bool {
    (1..=VERSION_MAX).contains(&version) || version == VERSION_VALKEY
}

/// Why bytes are not read as RDB.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RdbError {
    #[error("it ends in the middle")]
    Truncated,
    #[error("{0}")]
    Corrupt(&'static str),
    /// A collection without elements: what Redis refuses in a payload and passes over in a file.
    #[error("a collection without elements")]
    Empty,
    #[error("a value of a module, which only that module understands")]
    Module,
    #[error("type {0} is not known here")]
    UnknownType(u8),
    #[error("no RDB file: it begins with neither REDIS nor VALKEY")]
    NoRdb,
    #[error("RDB version {0} is not known here")]
    UnknownVersion(u32),
    #[error("the checksum is wrong")]
    Checksum,
    /// The source failed, or the taker of values gave up.
    #[error("{0}")]
    World(Cow<'static, str>),
}

/// Opcodes of a file, and the types of values as numbers. Append-only, and not ours.
mod codes {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const SORTED_SET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const SORTED_SET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const SORTED_SET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const SORTED_SET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// Of release candidates of Redis 7.4; of Valkey 9 with another meaning.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    pub const HASH_METADATA: u8 = 24;
    pub const HASH_LISTPACK_EX: u8 = 25;

    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION_2: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE_DB: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE_SECONDS: u8 = 253;
    pub const SELECT_DB: u8 = 254;
    pub const EOF: u8 = 255;

    /// How lengths and strings begin.
    pub const LENGTH_32: u8 = 0x80;
    pub const LENGTH_64: u8 = 0x81;
    pub const INT_8: u8 = 0xc0;
    pub const INT_16: u8 = 0xc1;
    pub const INT_32: u8 = 0xc2;
    pub const LZF: u8 = 0xc3;

    /// A quicklist's node: one element as it is, or a listpack.
    pub const NODE_PLAIN: u64 = 1;
    pub const NODE_PACKED: u64 = 2;
}

//! Edits: what happened to the keyspace, already resolved, as bytes. The log, replicas and recovery know
//! nothing else of a command. Kinds are numbers on disk: append-only. Drawn in docs/formats/wal.md.
//!
//! Encoding: `kind u8`, then the fields in the order of the variant: `db` LEB128, byte strings as LEB128 length and
//! bytes, deadlines as LEB128 of their packed form (0: none), integers as zigzag LEB128.

use super::entry::{Entry, StringRef, Value};
use crate::types::{CollectionRef, Kind, Need};
use crate::units::{Db, Deadline};
use crate::wire::{self, Decoder, EditError, number, string, unzigzag, zigzag};

const PUT_BYTES: u8 = 1;
const PUT_INTEGER: u8 = 2;
const REMOVE: u8 = 3;
const SET_DEADLINE: u8 = 4;
const SPLICE: u8 = 5;
const RENAME: u8 = 6;
const FLUSH: u8 = 7;
const FLUSH_ALL: u8 = 8;
const SWAP: u8 = 9;
const PUT_RAW: u8 = 10;
const NOTHING: u8 = 11;
const PUT_COLLECTION: u8 = 12;
const CHANGE: u8 = 13;
const COPY: u8 = 14;

/// In the byte that names a collection's kind: it is to be large, however few elements it has.
const LARGE: u8 = 0x80;

/// About how many bytes of changes an edit has that puts a part of a large collection.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit<'a> {
    Put {
        db: Db,
        key: &'a [u8],
        value: StringRef<'a>,
        deadline: Option<Deadline>,
    },
    /// A new collection in place of whatever is there: that of no elements, with changes made to it.
    PutCollection {
        db: Db,
        key: &'a [u8],
        kind: Kind,
        /// Kept in the form for many elements from the start.
        is_large: bool,
        changes: &'a [u8],
        deadline: Option<Deadline>,
    },
    /// Changes to a collection, in the encoding of its type. One that is emptied by them is removed.
    Change {
        db: Db,
        key: &'a [u8],
        kind: Kind,
        changes: &'a [u8],
    },
    Copy {
        db: Db,
        key: &'a [u8],
        to_db: Db,
        to_key: &'a [u8],
    },
    Remove {
        db: Db,
        key: &'a [u8],
    },
    SetDeadline {
        db: Db,
        key: &'a [u8],
        deadline: Option<Deadline>,
    },
    Splice {
        db: Db,
        key: &'a [u8],
        offset: u64,
        bytes: &'a [u8],
    },
    Rename {
        db: Db,
        key: &'a [u8],
        to_db: Db,
        to_key: &'a [u8],
    },
    Flush {
        db: Db,
    },
    FlushAll,
    /// Changes nothing. A transaction over several shards leaves a trace in the log of each that it might have changed.
    Nothing,
    Swap {
        a: Db,
        b: Db,
    },
}

impl<'a> Edit<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Edit::Put { db, key, value, deadline } => {
                out.push(match value {
                    StringRef::Integer(_) => PUT_INTEGER,
                    StringRef::Bytes(_) => PUT_BYTES,
                    StringRef::Raw(_) => PUT_RAW,
                });
                number(out, db.0 as u64);
                string(out, key);
                wire::deadline(out, deadline);
                match value {
                    StringRef::Integer(value) => number(out, zigzag(value)),
                    StringRef::Bytes(bytes) | StringRef::Raw(bytes) => string(out, bytes),
                }
            }
            Edit::PutCollection { db, key, kind, is_large, changes, deadline } => {
                out.push(PUT_COLLECTION);
                number(out, db.0 as u64);
                string(out, key);
                wire::deadline(out, deadline);
                out.push(kind as u8 | if is_large { LARGE } else { 0 });
                string(out, changes);
            }
            Edit::Change { db, key, kind, changes } => {
                out.push(CHANGE);
                number(out, db.0 as u64);
                string(out, key);
                out.push(kind as u8);
                string(out, changes);
            }
            Edit::Copy { db, key, to_db, to_key } => two_keys(out, COPY, (db, key), (to_db, to_key)),
            Edit::Remove { db, key } => {
                out.push(REMOVE);
                number(out, db.0 as u64);
                string(out, key);
            }
            Edit::SetDeadline { db, key, deadline } => {
                out.push(SET_DEADLINE);
                number(out, db.0 as u64);
                string(out, key);
                wire::deadline(out, deadline);
            }
            Edit::Splice { db, key, offset, bytes } => {
                out.push(SPLICE);
                number(out, db.0 as u64);
                string(out, key);
                number(out, offset);
                string(out, bytes);
            }
            Edit::Rename { db, key, to_db, to_key } => two_keys(out, RENAME, (db, key), (to_db, to_key)),
            Edit::Flush { db } => {
                out.push(FLUSH);
                number(out, db.0 as u64);
            }
            Edit::FlushAll => out.push(FLUSH_ALL),
            Edit::Nothing => out.push(NOTHING),
            Edit::Swap { a, b } => {
                out.push(SWAP);
                number(out, a.0 as u64);
                number(out, b.0 as u64);
            }
        }
    }

    /// The keys it names, with their databases. Empty for those that are about whole databases.
    pub fn keys(&self) -> [Option<(Db, &'a [u8])>; 2] {
        match *self {
            Edit::Put { db, key, .. }
            | Edit::PutCollection { db, key, .. }
            | Edit::Change { db, key, .. }
            | Edit::Remove { db, key }
            | Edit::SetDeadline { db, key, .. }
            | Edit::Splice { db, key, .. } => [Some((db, key)), None],
            Edit::Rename { db, key, to_db, to_key } | Edit::Copy { db, key, to_db, to_key } => {
                [Some((db, key)), Some((to_db, to_key))]
            }
            Edit::Flush { .. } | Edit::FlushAll | Edit::Swap { .. } | Edit::Nothing => [None, None],
        }
    }

    pub fn encode_to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// The edit that puts an entry; of a large collection the first of several, with where its changes go on.
    pub(super) fn put(db: Db, entry: &Entry<'a>, changes: &'a mut Vec<u8>) -> (Edit<'a>, Option<u64>) {
        let (key, deadline) = (entry.key(), entry.deadline());
        let (is_large, bytes_max) = match entry.value() {
            Value::String(value) => return (Edit::Put { db, key, value, deadline }, None),
            Value::Small(..) => (false, usize::MAX),
            Value::Large(_) => (true, PIECE_BYTES),
        };
        let collection = entry.value().collection().expect("it is no string");
        let next = collection.export(0, bytes_max, changes);
        (Edit::PutCollection { db, key, kind: collection.kind(), is_large, changes, deadline }, next)
    }
    /// The edit that puts what a command with this need must see of an entry.
    pub(super) fn put_excerpt(db: Db, entry: &Entry<'a>, need: Need<'_>, changes: &'a mut Vec<u8>) -> Option<Edit<'a>> {
        let Value::Large(_) = entry.value() else { return None };
        let collection = entry.value().collection()?;
        collection.excerpt(need, changes);
        let (key, deadline) = (entry.key(), entry.deadline());
        Some(Edit::PutCollection { db, key, kind: collection.kind(), is_large: true, changes, deadline })
    }
    /// One that follows on `put`, with where to go on.
    pub(super) fn put_more(
        db: Db,
        key: &'a [u8],
        collection: CollectionRef<'_>,
        from: u64,
        changes: &'a mut Vec<u8>,
    ) -> (Edit<'a>, Option<u64>) {
        let next = collection.export(from, PIECE_BYTES, changes);
        (Edit::Change { db, key, kind: collection.kind(), changes }, next)
    }

    /// The first edit in `bytes`, and how many bytes it took.
    pub fn decode(bytes: &'a [u8]) -> Result<(Edit<'a>, usize), EditError> {
        let mut at = Decoder::new(bytes);
        let kind = at.byte()?;
        let edit = match kind {
            PUT_BYTES | PUT_INTEGER | PUT_RAW => {
                let (db, key) = (at.db()?, at.string()?);
                let deadline = at.deadline()?;
                let value = match kind {
                    PUT_INTEGER => StringRef::Integer(unzigzag(at.number()?)),
                    PUT_RAW => StringRef::Raw(at.string()?),
                    _ => StringRef::Bytes(at.string()?),
                };
                Edit::Put { db, key, value, deadline }
            }
            PUT_COLLECTION => {
                let (db, key, deadline) = (at.db()?, at.string()?, at.deadline()?);
                let byte = at.byte()?;
                let kind = Kind::from_byte(byte & !LARGE)?;
                Edit::PutCollection { db, key, kind, is_large: byte & LARGE != 0, changes: at.string()?, deadline }
            }
            CHANGE => Edit::Change {
                db: at.db()?,
                key: at.string()?,
                kind: Kind::from_byte(at.byte()?)?,
                changes: at.string()?,
            },
            COPY => Edit::Copy { db: at.db()?, key: at.string()?, to_db: at.db()?, to_key: at.string()? },
            REMOVE => Edit::Remove { db: at.db()?, key: at.string()? },
            SET_DEADLINE => Edit::SetDeadline { db: at.db()?, key: at.string()?, deadline: at.deadline()? },
            SPLICE => Edit::Splice { db: at.db()?, key: at.string()?, offset: at.number()?, bytes: at.string()? },
            RENAME => Edit::Rename { db: at.db()?, key: at.string()?, to_db: at.db()?, to_key: at.string()? },
            FLUSH => Edit::Flush { db: at.db()? },
            FLUSH_ALL => Edit::FlushAll,
            NOTHING => Edit::Nothing,
            SWAP => Edit::Swap { a: at.db()?, b: at.db()? },
            other => return Err(EditError::UnknownKind(other)),
        };
        Ok((edit, at.at()))
    }
}

fn two_keys(out: &mut Vec<u8>, kind: u8, from: (Db, &[u8]), to: (Db, &[u8])) {
    out.push(kind);
    for (db, key) in [from, to] {
        number(out, db.0 as u64);
        string(out, key);
    }
}

/// The edits of the batch being made.
#[derive(Debug)]
pub(super) struct EditLog {
    bytes: Vec<u8>,
    count: u32,
    enabled: bool,
}

impl Default for EditLog {
    fn default() -> Self {
        EditLog { bytes: Vec::new(), count: 0, enabled: true }
    }
}

impl EditLog {
    pub(super) fn push(&mut self, edit: &Edit<'_>) {
        if self.enabled {
            edit.encode(&mut self.bytes);
            self.count += 1;
        }
    }
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub(super) fn count(&self) -> u32 {
        self.count
    }
    #[cfg(feature = "planted-bugs")]
    pub(super) fn truncate(&mut self, kept: usize) {
        while self.bytes.len() > kept {
            let (_, used) = Edit::decode(&self.bytes[kept..]).expect("edits just made");
            self.bytes.drain(kept..kept + used);
            self.count -= 1;
        }
    }
    pub(super) fn take(&mut self, mut empty: Vec<u8>) -> Vec<u8> {
        empty.clear();
        self.count = 0;
        std::mem::replace(&mut self.bytes, empty)
    }
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }
    pub(super) fn set_enabled(&mut self, on: bool) {
        self.enabled = on;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Now;

    fn one_of_each_kind() -> Vec<Edit<'static>> {
        let deadline = Some(Deadline::after(Now::at(1_000_000), 5));
        let put = |value, deadline| Edit::Put { db: Db(3), key: b"key", value, deadline };
        vec![
            put(StringRef::Integer(i64::MIN), deadline),
            put(StringRef::Integer(i64::MAX), None),
            put(StringRef::Bytes(b"value"), Some(Deadline::at(u64::MAX))),
            put(StringRef::Raw(&[0xff; 300]), None),
            Edit::PutCollection { db: Db(1), key: b"key", kind: Kind::Hash, is_large: true, changes: b"abc", deadline },
            Edit::Change { db: Db(1), key: b"key", kind: Kind::Stream, changes: b"abc" },
            Edit::Copy { db: Db(1), key: b"a", to_db: Db(2), to_key: b"b" },
            Edit::Remove { db: Db(u16::MAX), key: b"" },
            Edit::SetDeadline { db: Db(0), key: b"key", deadline },
            Edit::SetDeadline { db: Db(0), key: b"key", deadline: None },
            Edit::Splice { db: Db(1), key: b"key", offset: u64::MAX, bytes: b"abc" },
            Edit::Rename { db: Db(1), key: b"a", to_db: Db(2), to_key: b"b" },
            Edit::Flush { db: Db(200) },
            Edit::FlushAll,
            Edit::Nothing,
            Edit::Swap { a: Db(1), b: Db(300) },
        ]
    }

    #[test]
    fn every_kind_of_edit_reads_back_as_written() {
        for edit in one_of_each_kind() {
            let mut bytes = edit.encode_to_vec();
            let len = bytes.len();
            bytes.extend_from_slice(b"what follows");
            assert_eq!(Edit::decode(&bytes), Ok((edit, len)));
        }
    }

    #[test]
    fn every_truncation_of_every_edit_is_noticed() {
        for edit in one_of_each_kind() {
            let bytes = edit.encode_to_vec();
            for len in 0..bytes.len() {
                assert_eq!(Edit::decode(&bytes[..len]), Err(EditError::Truncated), "{edit:?} cut to {len}");
            }
        }
    }

    #[test]
    fn numbers_out_of_range_and_unknown_kinds_are_errors() {
        assert_eq!(Edit::decode(&[99]), Err(EditError::UnknownKind(99)));
        assert_eq!(Edit::decode(&[FLUSH, 0x80, 0x80, 0x04]), Err(EditError::BadNumber), "database 65536");
        let endless = [&[FLUSH][..], &[0xff; 11]].concat();
        assert_eq!(Edit::decode(&endless), Err(EditError::BadNumber));
        let huge_string = [&[REMOVE, 0][..], &[0xff; 9], &[1]].concat();
        assert!(Edit::decode(&huge_string).is_err());
    }

    #[test]
    fn random_bytes_never_panic_and_never_claim_more_than_is_there() {
        let seed = 11;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
            bytes.iter_mut().for_each(|byte| *byte = if random.bool() { *byte % 12 } else { *byte });
            if let Ok((_, used)) = Edit::decode(&bytes) {
                assert!(used <= bytes.len());
            }
        }
    }
}

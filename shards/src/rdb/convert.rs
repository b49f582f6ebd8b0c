//! From payloads to what the keyspace takes, and from what a key holds to payloads and files.

use super::stream_form::StreamForm;
use super::{
    Content, Crc64, EntryFields, Item, RdbError, Reader, StreamFigures, StreamId, VERSION, VERSION_MAX, ValueType,
    Writer, is_known, write_hash, write_limited_hash, write_list, write_set, write_sorted_set, write_stream,
    write_string,
};
use crate::keyspace::{STRING_BYTES_MAX, Value};
use crate::types::hash::{Element, HashChange};
use crate::types::list::ListChange;
use crate::types::set::SetChange;
use crate::types::sorted_set::SortedSetChange;
use crate::types::stream::{Ids, StreamChange};
use crate::types::{CollectionRef, Kind, View};
use crate::units::{Deadline, Now};
use crate::wire::string;
use std::io::{Read, Write};

/// Behind a payload's value: version and checksum.
const FOOTER_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 8;

/// How much more than its payload a value may become (compression, field names that a stream's entries share): by this factor,
/// and this much in any case.
const EXPANSION_MAX: u64 = 256;
const EXPANSION_BYTES: u64 = 64 << 20;

/// A value on its way into the keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewValue {
    String(Vec<u8>),
    /// Changes that make it from nothing.
    Collection(Kind, Vec<u8>),
}

/// A payload of DUMP whose version is known and whose checksum is right.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    value: &'a [u8],
    version: u16,
}

impl<'a> Payload<'a> {
    pub fn verify(bytes: &'a [u8]) -> Result<Self, RdbError> {
        let at = bytes.len().checked_sub(FOOTER_BYTES).ok_or(RdbError::Truncated)?;
        let (value, footer) = bytes.split_at(at);
        let (version, checksum) = footer.split_at(FOOTER_BYTES - CHECKSUM_BYTES);
        let version = u16::from_le_bytes(version.try_into().expect("two bytes"));
        if !is_known(version) {
            return Err(RdbError::UnknownVersion(version as u32));
        }
        let right = Crc64::of(&bytes[..bytes.len() - CHECKSUM_BYTES]).to_le_bytes();
        if checksum == right { Ok(Payload { value, version }) } else { Err(RdbError::Checksum) }
    }
    pub fn read(self) -> Result<NewValue, RdbError> {
        let mut reader = Reader::of(self.value);
        let value = ValueType::new(reader.byte()?, self.version)?;
        let read = read_new(value, &mut reader)?;
        if reader.remaining() == 0 { Ok(read) } else { Err(RdbError::Corrupt("there is more than a value")) }
    }
}

/// A payload for a value whose bytes, its type's first, were taken from a file of `version`.
pub fn payload_of(value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + FOOTER_BYTES);
    payload.extend_from_slice(value);
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = Crc64::of(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

fn read_new<R: Read>(value: ValueType, reader: &mut Reader<R>) -> Result<NewValue, RdbError> {
    let bytes_max = reader.remaining().saturating_mul(EXPANSION_MAX).saturating_add(EXPANSION_BYTES);
    let (mut out, mut group) = (Vec::new(), Vec::new());
    value.read(reader, &mut |item| {
        push(&item, &mut group, &mut out)?;
        if out.len() as u64 > bytes_max {
            return Err(RdbError::Corrupt("it grows beyond all proportion"));
        }
        Ok(())
    })?;
    match value.content() {
        Content::String => Ok(NewValue::String(out)),
        Content::Collection(kind) => Ok(NewValue::Collection(kind, out)),
        Content::Module => Err(RdbError::Module),
    }
}

/// Appends the change that a piece is, or the bytes of a string. `group`: the name of a stream's latest.
fn push(item: &Item<'_>, group: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), RdbError> {
    match *item {
        Item::String(bytes) => out.extend_from_slice(fitting(bytes)?),
        Item::Element(element) => ListChange::PushRight { value: fitting(element)? }.encode(out),
        Item::Member(member) => SetChange::Add { member: fitting(member)? }.encode(out),
        Item::Scored(member, score) => SortedSetChange::Put { member: fitting(member)?, score }.encode(out),
        Item::Field { field, value, deadline_ms } => {
            HashChange::Put { field: fitting(field)?, value: fitting(value)? }.encode(out);
            if let Some(ms) = deadline_ms {
                HashChange::SetDeadline { field, deadline: Some(Deadline::at(ms)) }.encode(out);
            }
        }
        Item::Entry { id, ref fields } => push_entry(id, fields.clone(), out)?,
        Item::Figures(StreamFigures { last_id, max_deleted_id, entries_added, .. }) => {
            let (last, added, max_deleted) = (last_id, entries_added, max_deleted_id);
            StreamChange::SetId { last, added, max_deleted }.encode(out);
        }
        Item::Group { name, last_id, entries_read } => {
            *group = fitting(name)?.to_vec();
            StreamChange::GroupCreate { group, delivered: last_id, read: entries_read }.encode(out);
        }
        Item::Consumer { name, seen_ms, active_ms } => {
            // Older versions don't tell them apart.
            let active_ms = active_ms.or(Some(seen_ms));
            StreamChange::ConsumerSeen { group, consumer: fitting(name)?, seen_ms, active_ms }.encode(out);
        }
        Item::Pending { id, consumer, delivered_ms, deliveries: count } => {
            let ids = &mut Vec::new();
            let ids = Ids::of(&[id], ids);
            StreamChange::Pend { group, consumer, delivered_ms, count, ids }.encode(out);
        }
    }
    Ok(())
}

fn push_entry(id: StreamId, fields: EntryFields<'_>, out: &mut Vec<u8>) -> Result<(), RdbError> {
    if fields.len() == 0 || id == StreamId::MIN {
        return Err(RdbError::Corrupt("an entry of a stream without fields or an id"));
    }
    StreamChange::begin_append(id, fields.len() as u64, out);
    let mut digits = itoa::Buffer::new();
    for (name, value) in fields {
        string(out, fitting(name.bytes(&mut digits))?);
        string(out, fitting(value.bytes(&mut digits))?);
    }
    Ok(())
}

fn fitting(bytes: &[u8]) -> Result<&[u8], RdbError> {
    if bytes.len() <= STRING_BYTES_MAX { Ok(bytes) } else { Err(RdbError::Corrupt("a string is too long")) }
}

/// Whether any field that it holds at this time has a deadline: Redis 7.0 has no form for that.
pub fn has_field_deadlines(value: &Value<'_>, now: Now) -> bool {
    let Some(CollectionRef::Hash(hash)) = value.collection() else { return false };
    let mut has_any = false;
    if hash.is_limited() {
        hash.at(now).visit_elements(&mut |element| has_any |= element.deadline.is_some());
    }
    has_any
}

/// Whether it is a hash whose fields have all expired.
pub fn is_gone(value: &Value<'_>, now: Now) -> bool {
    matches!(value.collection(), Some(CollectionRef::Hash(hash)) if hash.is_limited() && hash.at(now).is_empty())
}

/// What becomes of the deadlines of fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldDeadlines {
    /// A hash that has some is written in the form of Redis 7.4.
    Kept,
    Dropped,
}

/// The payload of DUMP; `None` if nothing of the value is left. Its version is that of Redis 7.4 where that is needed, else 7.0.
pub fn dump(value: &Value<'_>, now: Now) -> Option<Vec<u8>> {
    if is_gone(value, now) {
        return None;
    }
    let mut writer = Writer::new(Vec::new());
    write_value(&mut writer, None, value, now, FieldDeadlines::Kept);
    Some(writer.into_payload(if has_field_deadlines(value, now) { VERSION_MAX } else { VERSION }))
}

/// Writes the type's byte, the key if there is one, and the value as it is at this time; something of it is left.
pub fn write_value<W: Write>(
    writer: &mut Writer<W>,
    key: Option<&[u8]>,
    value: &Value<'_>,
    now: Now,
    field_deadlines: FieldDeadlines,
) {
    let collection = match value {
        Value::String(string) => return write_string(writer, key, string.as_bytes(&mut itoa::Buffer::new())),
        Value::Small(..) | Value::Large(_) => value.collection().expect("what is no string is a collection"),
    };
    match collection {
        CollectionRef::List(list) => write_list(writer, key, &|each| list.iter().for_each(each)),
        CollectionRef::Set(set) => write_set(writer, key, set.len(), &|each| {
            set.visit(&mut |member| {
                each(member);
                true
            });
        }),
        CollectionRef::SortedSet(set) => write_sorted_set(writer, key, set.len(), &|each| {
            set.visit(0..set.len(), false, &mut |score, member| {
                each(member, score);
                true
            });
        }),
        CollectionRef::Hash(hash) if field_deadlines == FieldDeadlines::Kept && has_field_deadlines(value, now) => {
            let hash = hash.at(now);
            write_limited_hash(writer, key, hash.len(), &|each| {
                hash.visit_elements(&mut |Element { field, value, deadline }| {
                    each(field, value, deadline.map(|deadline| deadline.unix_ms(now)));
                });
            });
        }
        CollectionRef::Hash(hash) => {
            let hash = hash.at(now);
            write_hash(writer, key, hash.len(), &|each| hash.visit(&mut |field, value| each(field, value)));
        }
        CollectionRef::Stream(stream) => write_stream(writer, key, &StreamForm::of(stream)),
    }
}

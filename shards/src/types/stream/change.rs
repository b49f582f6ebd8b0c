//! What happens to a stream, as bytes: effects with everything resolved (ids, times, consumers), never commands. The kinds are
//! numbers on disk: append-only.

use super::StreamId;
use crate::wire::{Decoder, EditError, number, string, unzigzag, zigzag};

const APPEND: u8 = 1;
const DELETE: u8 = 2;
const TRIM_TO: u8 = 3;
const TRIM: u8 = 4;
const SET_ID: u8 = 5;
const GROUP_CREATE: u8 = 6;
const GROUP_DESTROY: u8 = 7;
const GROUP_SET_ID: u8 = 8;
const CONSUMER_SEEN: u8 = 9;
const CONSUMER_DELETE: u8 = 10;
const PEND: u8 = 11;
const ACK: u8 = 12;
const RELEASE: u8 = 13;
const PRODUCED: u8 = 14;
const SETTINGS: u8 = 15;
const REMEMBERED: u8 = 16;
const PRODUCED_COUNTS: u8 = 17;

/// One change. Lists are borrowed as they were encoded, so that decoding allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamChange<'a> {
    /// An entry behind all others: `pairs` fields and values, each with its length before it, in `fields`.
    Append {
        id: StreamId,
        pairs: u64,
        fields: &'a [u8],
    },
    /// XDEL: counts for the highest id ever deleted.
    Delete {
        id: StreamId,
    },
    /// Trimming of everything up to an id, which goes too: doesn't count for the highest deleted.
    TrimTo {
        last: StreamId,
    },
    /// Trimming of a single entry.
    Trim {
        id: StreamId,
    },
    SetId {
        last: StreamId,
        added: u64,
        max_deleted: StreamId,
    },
    /// `read`: entries read so far, if known.
    GroupCreate {
        group: &'a [u8],
        delivered: StreamId,
        read: Option<u64>,
    },
    GroupDestroy {
        group: &'a [u8],
    },
    GroupSetId {
        group: &'a [u8],
        delivered: StreamId,
        read: Option<u64>,
    },
    /// Makes the consumer if there is none of that name; times in ms of the wall clock.
    ConsumerSeen {
        group: &'a [u8],
        consumer: &'a [u8],
        seen_ms: u64,
        active_ms: Option<u64>,
    },
    /// What is pending for it goes with it.
    ConsumerDelete {
        group: &'a [u8],
        consumer: &'a [u8],
    },
    /// Entries become pending, or pass to another consumer, who is made if there is none of that name.
    Pend {
        group: &'a [u8],
        consumer: &'a [u8],
        delivered_ms: u64,
        count: u64,
        ids: Ids<'a>,
    },
    /// Entries are no longer pending.
    Ack {
        group: &'a [u8],
        ids: Ids<'a>,
    },
    /// A pending entry is no longer anybody's, and as good as never delivered, but for its count.
    Release {
        group: &'a [u8],
        id: StreamId,
        count: u64,
    },
    /// A producer's own id of what became an entry, so that it is not added again.
    Produced {
        producer: &'a [u8],
        iid: &'a [u8],
        id: StreamId,
        at_ms: u64,
    },
    /// The same of one that was noted before: nothing is counted, and nothing forgotten because of it.
    Remembered {
        producer: &'a [u8],
        iid: &'a [u8],
        id: StreamId,
        at_ms: u64,
    },
    /// Entries ever added with a producer's id, and how often one wasn't, because it had been.
    ProducedCounts {
        added: u64,
        duplicates: u64,
    },
    /// How long producers' ids are remembered, and how many of each: all so far are forgotten.
    Settings {
        duration_s: u64,
        ids_max: u64,
    },
}

/// Ids of entries, in any order, as they are encoded: their number, then each with its milliseconds as the difference from those of the
/// one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids<'a> {
    bytes: &'a [u8],
}

impl<'a> Ids<'a> {
    /// Encodes ids into a buffer that is empty, which they borrow.
    pub fn of(ids: &[StreamId], buffer: &'a mut Vec<u8>) -> Ids<'a> {
        buffer.clear();
        number(buffer, ids.len() as u64);
        let mut before = 0u64;
        for id in ids {
            number(buffer, zigzag(id.ms.wrapping_sub(before) as i64));
            number(buffer, id.seq);
            before = id.ms;
        }
        Ids { bytes: buffer }
    }
    fn decode(decoder: &mut Decoder<'a>) -> Result<Ids<'a>, EditError> {
        let start = decoder.at();
        for _ in 0..decoder.number()? {
            decoder.number()?;
            decoder.number()?;
        }
        Ok(Ids { bytes: decoder.since(start) })
    }
    pub fn iter(self) -> impl Iterator<Item = StreamId> + use<'a> {
        const WHOLE: &str = "ids are encoded or decoded as a whole";
        let mut decoder = Decoder::new(self.bytes);
        let count = decoder.number().expect(WHOLE);
        let mut ms = 0u64;
        (0..count).map(move |_| {
            ms = ms.wrapping_add(unzigzag(decoder.number().expect(WHOLE)) as u64);
            StreamId { ms, seq: decoder.number().expect(WHOLE) }
        })
    }
}

impl<'a> StreamChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            StreamChange::Append { id, pairs, fields } => {
                with_id(out, APPEND, id);
                number(out, pairs);
                out.extend_from_slice(fields);
            }
            StreamChange::Delete { id } => with_id(out, DELETE, id),
            StreamChange::TrimTo { last } => with_id(out, TRIM_TO, last),
            StreamChange::Trim { id } => with_id(out, TRIM, id),
            StreamChange::SetId { last, added, max_deleted } => {
                with_id(out, SET_ID, last);
                number(out, added);
                max_deleted.encode(out);
            }
            StreamChange::GroupCreate { group, delivered, read } => group_at(out, GROUP_CREATE, group, delivered, read),
            StreamChange::GroupDestroy { group } => with_names(out, GROUP_DESTROY, &[group]),
            StreamChange::GroupSetId { group, delivered, read } => group_at(out, GROUP_SET_ID, group, delivered, read),
            StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms } => {
                with_names(out, CONSUMER_SEEN, &[group, consumer]);
                number(out, seen_ms);
                optional(out, active_ms);
            }
            StreamChange::ConsumerDelete { group, consumer } => with_names(out, CONSUMER_DELETE, &[group, consumer]),
            StreamChange::Pend { group, consumer, delivered_ms, count, ids } => {
                with_names(out, PEND, &[group, consumer]);
                number(out, delivered_ms);
                number(out, count);
                out.extend_from_slice(ids.bytes);
            }
            StreamChange::Ack { group, ids } => {
                with_names(out, ACK, &[group]);
                out.extend_from_slice(ids.bytes);
            }
            StreamChange::Release { group, id, count } => {
                with_names(out, RELEASE, &[group]);
                id.encode(out);
                number(out, count);
            }
            StreamChange::Produced { producer, iid, id, at_ms } => produced(out, PRODUCED, &[producer, iid], id, at_ms),
            StreamChange::Remembered { producer, iid, id, at_ms } => {
                produced(out, REMEMBERED, &[producer, iid], id, at_ms);
            }
            StreamChange::ProducedCounts { added, duplicates } => {
                out.push(PRODUCED_COUNTS);
                number(out, added);
                number(out, duplicates);
            }
            StreamChange::Settings { duration_s, ids_max } => {
                out.push(SETTINGS);
                number(out, duration_s);
                number(out, ids_max);
            }
        }
    }

    /// Appends an entry's change but for its fields: so many names and values must follow, each with its length before it.
    pub fn begin_append(id: StreamId, pairs: u64, out: &mut Vec<u8>) {
        with_id(out, APPEND, id);
        number(out, pairs);
    }
    /// Appends an entry's change without an encoded list of its fields at hand.
    pub fn encode_append<'f>(
        id: StreamId,
        pairs: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        out: &mut Vec<u8>,
    ) {
        StreamChange::begin_append(id, pairs.len() as u64, out);
        for (field, value) in pairs {
            string(out, field);
            string(out, value);
        }
    }

    pub fn decode(decoder: &mut Decoder<'a>) -> Result<StreamChange<'a>, EditError> {
        Ok(match decoder.byte()? {
            APPEND => {
                let (id, pairs) = (StreamId::decode(decoder)?, decoder.number()?);
                let start = decoder.at();
                if pairs == 0 || id == StreamId::MIN {
                    return Err(EditError::BadNumber);
                }
                for _ in 0..pairs {
                    decoder.string()?;
                    decoder.string()?;
                }
                StreamChange::Append { id, pairs, fields: decoder.since(start) }
            }
            DELETE => StreamChange::Delete { id: StreamId::decode(decoder)? },
            TRIM_TO => StreamChange::TrimTo { last: StreamId::decode(decoder)? },
            TRIM => StreamChange::Trim { id: StreamId::decode(decoder)? },
            SET_ID => StreamChange::SetId {
                last: StreamId::decode(decoder)?,
                added: decoder.number()?,
                max_deleted: StreamId::decode(decoder)?,
            },
            GROUP_CREATE => StreamChange::GroupCreate {
                group: decoder.string()?,
                delivered: StreamId::decode(decoder)?,
                read: read_optional(decoder)?,
            },
            GROUP_DESTROY => StreamChange::GroupDestroy { group: decoder.string()? },
            GROUP_SET_ID => StreamChange::GroupSetId {
                group: decoder.string()?,
                delivered: StreamId::decode(decoder)?,
                read: read_optional(decoder)?,
            },
            CONSUMER_SEEN => StreamChange::ConsumerSeen {
                group: decoder.string()?,
                consumer: decoder.string()?,
                seen_ms: decoder.number()?,
                active_ms: read_optional(decoder)?,
            },
            CONSUMER_DELETE => StreamChange::ConsumerDelete { group: decoder.string()?, consumer: decoder.string()? },
            PEND => StreamChange::Pend {
                group: decoder.string()?,
                consumer: decoder.string()?,
                delivered_ms: decoder.number()?,
                count: decoder.number()?,
                ids: Ids::decode(decoder)?,
            },
            ACK => StreamChange::Ack { group: decoder.string()?, ids: Ids::decode(decoder)? },
            RELEASE => StreamChange::Release {
                group: decoder.string()?,
                id: StreamId::decode(decoder)?,
                count: decoder.number()?,
            },
            PRODUCED => StreamChange::Produced {
                producer: decoder.string()?,
                iid: decoder.string()?,
                id: StreamId::decode(decoder)?,
                at_ms: decoder.number()?,
            },
            REMEMBERED => StreamChange::Remembered {
                producer: decoder.string()?,
                iid: decoder.string()?,
                id: StreamId::decode(decoder)?,
                at_ms: decoder.number()?,
            },
            PRODUCED_COUNTS => StreamChange::ProducedCounts { added: decoder.number()?, duplicates: decoder.number()? },
            SETTINGS => StreamChange::Settings { duration_s: decoder.number()?, ids_max: decoder.number()? },
            kind => return Err(EditError::UnknownKind(kind)),
        })
    }
}

fn with_id(out: &mut Vec<u8>, kind: u8, id: StreamId) {
    out.push(kind);
    id.encode(out);
}

fn with_names(out: &mut Vec<u8>, kind: u8, names: &[&[u8]]) {
    out.push(kind);
    names.iter().for_each(|name| string(out, name));
}

fn group_at(out: &mut Vec<u8>, kind: u8, group: &[u8], delivered: StreamId, read: Option<u64>) {
    with_names(out, kind, &[group]);
    delivered.encode(out);
    optional(out, read);
}

fn produced(out: &mut Vec<u8>, kind: u8, names: &[&[u8]], id: StreamId, at_ms: u64) {
    with_names(out, kind, names);
    id.encode(out);
    number(out, at_ms);
}

/// A byte that says whether a number follows.
fn optional(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(value.is_some() as u8);
    value.into_iter().for_each(|value| number(out, value));
}

fn read_optional(decoder: &mut Decoder<'_>) -> Result<Option<u64>, EditError> {
    match decoder.byte()? {
        0 => Ok(None),
        1 => decoder.number().map(Some),
        _ => Err(EditError::BadNumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_and_cut_ones_are_refused() {
        let (id, group, consumer) = (StreamId::new(1_700_000_000_000, 3), &b"group"[..], &b"consumer"[..]);
        let mut buffer = Vec::new();
        let several = [id, StreamId::new(5, u64::MAX), StreamId::MAX, StreamId::MIN];
        let ids = Ids::of(&several, &mut buffer);
        assert!(ids.iter().eq(several));
        for change in [
            StreamChange::Append { id, pairs: 2, fields: b"\x01f\x02vv\x01g\x00" },
            StreamChange::Delete { id },
            StreamChange::TrimTo { last: StreamId::MAX },
            StreamChange::Trim { id },
            StreamChange::SetId { last: id, added: u64::MAX, max_deleted: StreamId::MIN },
            StreamChange::GroupCreate { group, delivered: id, read: Some(7) },
            StreamChange::GroupDestroy { group },
            StreamChange::GroupSetId { group, delivered: id, read: None },
            StreamChange::ConsumerSeen { group, consumer, seen_ms: 5, active_ms: Some(4) },
            StreamChange::ConsumerDelete { group, consumer },
            StreamChange::Pend { group, consumer, delivered_ms: 9, count: 1, ids },
            StreamChange::Ack { group, ids },
            StreamChange::Release { group, id, count: 3 },
            StreamChange::Produced { producer: group, iid: consumer, id, at_ms: 5 },
            StreamChange::Settings { duration_s: 100, ids_max: 100 },
            StreamChange::Remembered { producer: group, iid: consumer, id, at_ms: 5 },
            StreamChange::ProducedCounts { added: 3, duplicates: 2 },
        ] {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(StreamChange::decode(&mut decoder), Ok(change));
            assert!(decoder.is_at_end());
            for len in 0..bytes.len() {
                assert!(StreamChange::decode(&mut Decoder::new(&bytes[..len])).is_err(), "{change:?} cut to {len}");
            }
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
            bytes[0] = random.u8(0..20);
            let mut decoder = Decoder::new(&bytes);
            while !decoder.is_at_end() {
                match StreamChange::decode(&mut decoder) {
                    Ok(StreamChange::Pend { ids, .. } | StreamChange::Ack { ids, .. }) => drop(ids.iter().count()),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

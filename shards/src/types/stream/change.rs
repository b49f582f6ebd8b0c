//! What happens to a stream, as bytes: effects with everything resolved (ids, times, consumers), never commands. The kinds are
//! numbers on disk: append-only.

use super::StreamId;
use crate::wire::{Decoder, EditError, number, string};

/// One change. Lists are borrowed as they were encoded, so that decoding allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamChange<'a> {
    /// An entry behind all others: `pairs` fields and values in `fields`.
    Append {
        id: StreamId,
        pairs: u64,
        fields: &'a [u8],
    },
    /// XDEL: counts for the highest id ever deleted.
    Delete {
        id: StreamId,
    },
    /// Trimming of everything below an id: doesn't count for it.
    TrimBelow {
        id: StreamId,
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
    /// An entry becomes pending, or passes to another consumer.
    Pend {
        group: &'a [u8],
        consumer: &'a [u8],
        id: StreamId,
        delivered_ms: u64,
        count: u64,
    },
    Ack {
        group: &'a [u8],
        id: StreamId,
    },
}

impl<'a> StreamChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            StreamChange::Append { id, pairs, fields } => {
                with_id(out, 1, id);
                number(out, pairs);
                out.extend_from_slice(fields);
            }
            StreamChange::Delete { id } => with_id(out, 2, id),
            StreamChange::TrimBelow { id } => with_id(out, 3, id),
            StreamChange::Trim { id } => with_id(out, 4, id),
            StreamChange::SetId { last, added, max_deleted } => {
                with_id(out, 5, last);
                number(out, added);
                max_deleted.encode(out);
            }
            StreamChange::GroupCreate { group, delivered, read } => group_at(out, 6, group, delivered, read),
            StreamChange::GroupDestroy { group } => with_names(out, 7, &[group]),
            StreamChange::GroupSetId { group, delivered, read } => group_at(out, 8, group, delivered, read),
            StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms } => {
                with_names(out, 9, &[group, consumer]);
                number(out, seen_ms);
                optional(out, active_ms);
            }
            StreamChange::ConsumerDelete { group, consumer } => with_names(out, 10, &[group, consumer]),
            StreamChange::Pend { group, consumer, id, delivered_ms, count } => {
                with_names(out, 11, &[group, consumer]);
                id.encode(out);
                number(out, delivered_ms);
                number(out, count);
            }
            StreamChange::Ack { group, id } => {
                with_names(out, 12, &[group]);
                id.encode(out);
            }
        }
    }

    /// Reads one change; `bytes` are those that the decoder reads.
    pub fn decode(decoder: &mut Decoder<'a>, bytes: &'a [u8]) -> Result<StreamChange<'a>, EditError> {
        Ok(match decoder.byte()? {
            1 => {
                let (id, pairs) = (StreamId::decode(decoder)?, decoder.number()?);
                let start = decoder.at();
                if pairs == 0 || id == StreamId::MIN {
                    return Err(EditError::BadNumber);
                }
                for _ in 0..pairs {
                    decoder.string()?;
                    decoder.string()?;
                }
                StreamChange::Append { id, pairs, fields: &bytes[start..decoder.at()] }
            }
            2 => StreamChange::Delete { id: StreamId::decode(decoder)? },
            3 => StreamChange::TrimBelow { id: StreamId::decode(decoder)? },
            4 => StreamChange::Trim { id: StreamId::decode(decoder)? },
            5 => StreamChange::SetId {
                last: StreamId::decode(decoder)?,
                added: decoder.number()?,
                max_deleted: StreamId::decode(decoder)?,
            },
            6 => StreamChange::GroupCreate {
                group: decoder.string()?,
                delivered: StreamId::decode(decoder)?,
                read: read_optional(decoder)?,
            },
            7 => StreamChange::GroupDestroy { group: decoder.string()? },
            8 => StreamChange::GroupSetId {
                group: decoder.string()?,
                delivered: StreamId::decode(decoder)?,
                read: read_optional(decoder)?,
            },
            9 => StreamChange::ConsumerSeen {
                group: decoder.string()?,
                consumer: decoder.string()?,
                seen_ms: decoder.number()?,
                active_ms: read_optional(decoder)?,
            },
            10 => StreamChange::ConsumerDelete { group: decoder.string()?, consumer: decoder.string()? },
            11 => StreamChange::Pend {
                group: decoder.string()?,
                consumer: decoder.string()?,
                id: StreamId::decode(decoder)?,
                delivered_ms: decoder.number()?,
                count: decoder.number()?,
            },
            12 => StreamChange::Ack { group: decoder.string()?, id: StreamId::decode(decoder)? },
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
        for change in [
            StreamChange::Append { id, pairs: 2, fields: b"\x01f\x02vv\x01g\x00" },
            StreamChange::Delete { id },
            StreamChange::TrimBelow { id: StreamId::MAX },
            StreamChange::Trim { id },
            StreamChange::SetId { last: id, added: u64::MAX, max_deleted: StreamId::MIN },
            StreamChange::GroupCreate { group, delivered: id, read: Some(7) },
            StreamChange::GroupDestroy { group },
            StreamChange::GroupSetId { group, delivered: id, read: None },
            StreamChange::ConsumerSeen { group, consumer, seen_ms: 5, active_ms: Some(4) },
            StreamChange::ConsumerDelete { group, consumer },
            StreamChange::Pend { group, consumer, id, delivered_ms: 9, count: 1 },
            StreamChange::Ack { group, id },
        ] {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(StreamChange::decode(&mut decoder, &bytes), Ok(change));
            assert!(decoder.is_at_end());
            for len in 0..bytes.len() {
                let cut = &bytes[..len];
                assert!(StreamChange::decode(&mut Decoder::new(cut), cut).is_err(), "{change:?} cut to {len}");
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
            bytes[0] = random.u8(0..15);
            let mut decoder = Decoder::new(&bytes);
            while !decoder.is_at_end() && StreamChange::decode(&mut decoder, &bytes).is_ok() {}
        }
    }
}

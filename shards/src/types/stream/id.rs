//! Ids of stream entries: milliseconds and a number within the millisecond, written `ms-seq`.

use crate::wire::{Decoder, EditError, number};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    pub fn new(ms: u64, seq: u64) -> Self {
        StreamId { ms, seq }
    }
    /// The id right after this one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| StreamId { ms, seq: 0 }),
        }
    }
    /// The id right before this one.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| StreamId { ms, seq: u64::MAX }),
        }
    }
    /// In an order of bytes that is the order of ids: Redis' files have them so.
    pub fn from_be_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        StreamId { ms: (both >> 64) as u64, seq: both as u64 }
    }
    pub fn to_be_bytes(self) -> [u8; 16] {
        ((self.ms as u128) << 64 | self.seq as u128).to_be_bytes()
    }
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        number(out, self.ms);
        number(out, self.seq);
    }
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<StreamId, EditError> {
        Ok(StreamId { ms: decoder.number()?, seq: decoder.number()? })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_carry_over_the_millisecond() {
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.previous(), None);
        assert_eq!(StreamId::new(1, u64::MAX).next(), Some(StreamId::new(2, 0)));
        assert_eq!(StreamId::new(2, 0).previous(), Some(StreamId::new(1, u64::MAX)));
        assert_eq!(StreamId::new(2, 7).next().and_then(StreamId::previous), Some(StreamId::new(2, 7)));
    }

    #[test]
    fn ids_read_back_and_print_as_clients_know_them() {
        for id in [StreamId::MIN, StreamId::MAX, StreamId::new(1_700_000_000_000, 3)] {
            let mut bytes = Vec::new();
            id.encode(&mut bytes);
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(StreamId::decode(&mut decoder), Ok(id));
            assert!(decoder.is_at_end());
        }
        assert_eq!(StreamId::new(1_526_919_030_474, 55).to_string(), "1526919030474-55");
    }
}

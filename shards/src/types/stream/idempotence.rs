//! Producers' own ids of what they sent, so that what is sent again is not added again.

use super::{StreamChange, StreamId};
use crate::types::{digest_bytes, mix};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub const DURATION_DEFAULT_S: u64 = 100;
pub const IDS_MAX_DEFAULT: u64 = 100;

#[derive(Clone)]
pub struct Idempotence {
    duration_s: u64,
    ids_max: u64,
    producers: BTreeMap<Box<[u8]>, Rc<Producer>>,
    bytes: usize,
}

/// By its own ids, and in the order in which they came.
#[derive(Clone, Default)]
struct Producer {
    ids: BTreeMap<Rc<[u8]>, StreamId>,
    order: VecDeque<(u64, Rc<[u8]>)>,
}

impl Default for Idempotence {
    fn default() -> Self {
        Idempotence { duration_s: DURATION_DEFAULT_S, ids_max: IDS_MAX_DEFAULT, producers: BTreeMap::new(), bytes: 0 }
    }
}

impl Idempotence {
    pub fn duration_s(&self) -> u64 {
        self.duration_s
    }
    pub fn ids_max(&self) -> u64 {
        self.ids_max
    }
    pub fn producers(&self) -> usize {
        self.producers.len()
    }
    pub fn ids(&self) -> usize {
        self.producers.values().map(|producer| producer.ids.len()).sum()
    }
    pub(super) fn note(&mut self, _producer: &[u8], _iid: &[u8], _id: StreamId, _at_ms: u64) {}
    pub(super) fn set(&mut self, duration_s: u64, ids_max: u64) {
        *self = Idempotence { duration_s, ids_max, ..Idempotence::default() };
    }
    pub(super) fn digest(&self) -> u64 {
        digest_bytes(mix(mix(0, self.duration_s), self.ids_max), b"")
    }
    pub(super) fn export(&self, out: &mut Vec<u8>) {
        StreamChange::Settings { duration_s: self.duration_s, ids_max: self.ids_max }.encode(out);
    }
    pub(super) fn bytes_used(&self) -> usize {
        self.bytes
    }
    pub(super) fn check_invariants(&self) {
        assert!(self.producers.values().all(|producer| producer.ids.len() == producer.order.len()));
    }
}

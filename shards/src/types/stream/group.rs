//! Consumer groups of a stream: to come.

use super::{StreamChange, StreamId};

/// All groups of a stream.
#[derive(Clone, Default)]
pub struct Groups;

/// How far a group has read, and what its consumers have not acknowledged.
#[derive(Clone, Default)]
pub struct Group;

impl Groups {
    pub fn len(&self) -> usize {
        0
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn get(&self, _name: &[u8]) -> Option<&Group> {
        None
    }
    /// By their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        std::iter::empty()
    }
    /// Makes a change of a group; the others are none of its business.
    pub(super) fn apply(&mut self, _change: &StreamChange<'_>) {}
    pub(super) fn digest(&self) -> u64 {
        0
    }
    /// Appends changes that make these groups of none, from `from` on (0: the start); where to go on.
    pub(super) fn export(&self, _from: u64, _bytes_max: usize, _out: &mut Vec<u8>) -> Option<u64> {
        None
    }
    pub(super) fn bytes_used(&self) -> usize {
        0
    }
    pub(super) fn free(&mut self, _nodes: usize) -> bool {
        false
    }
    pub(super) fn check_invariants(&self) {}
}

impl Group {
    pub fn is_pending(&self, _id: StreamId) -> bool {
        false
    }
    /// Whether it was delivered to the group, and is pending no more.
    pub fn has_acknowledged(&self, _id: StreamId) -> bool {
        false
    }
}

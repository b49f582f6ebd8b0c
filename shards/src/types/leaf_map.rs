//! Byte strings by byte strings: what large hashes and sets are made of.

use crate::random::Random;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Clone)]
pub struct LeafMap {
    naive: Rc<BTreeMap<Box<[u8]>, Box<[u8]>>>,
}

impl LeafMap {
    pub fn new(_seed: u64) -> Self {
        LeafMap { naive: Rc::default() }
    }
    pub fn len(&self) -> usize {
        self.naive.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.naive.get(key).map(|value| &**value)
    }
    /// Whether the key is new. Another value replaces the one it had.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        Rc::make_mut(&mut self.naive).insert(key.into(), value.into()).is_none()
    }
    /// Whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        Rc::make_mut(&mut self.naive).remove(key).is_some()
    }
    /// In an order that stays the same while nothing is changed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.naive.iter().map(|(key, value)| (&**key, &**value))
    }
    /// One of them, all about equally likely.
    pub fn random(&self, random: &mut Random) -> Option<(&[u8], &[u8])> {
        let len = self.len() as u64;
        (len > 0).then(|| self.iter().nth(random.below(len) as usize)).flatten()
    }
    /// About `count` of them from `cursor` on (0: from the start), whole groups at a time; where to go on, 0 at the end. One that
    /// stays from a scan's start to its end is visited at least once, however the map changes meanwhile. Cursors are below 2^48.
    pub fn scan(&self, _cursor: u64, _count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        self.iter().for_each(|(key, value)| visit(key, value));
        0
    }
    /// Piece by piece (a node's worth) from `from` on, for as long as `visit` says so; where to go on if there is more. The map
    /// stays as it is meanwhile.
    pub fn walk(&self, _from: u64, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Option<u64> {
        self.iter().for_each(|(key, value)| {
            visit(key, value);
        });
        None
    }
    /// Memory outside of itself; a running count.
    pub fn bytes_used(&self) -> usize {
        self.len() * 100
    }
    /// Frees about `nodes` nodes; whether there are more. Nobody reads it any more.
    pub fn free(&mut self, _nodes: usize) -> bool {
        self.naive = Rc::default();
        false
    }
    pub fn check_invariants(&self) {}
}

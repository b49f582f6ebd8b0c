//! Hashes: values by fields. Small: pairs one after the other, in the order they came; large: a map of leaves.
//!
//! ```text
//! pack: | 1 | field length | field | value length | value | ...
//! ```

#[cfg(test)]
mod tests;

use super::leaf_map::LeafMap;
use super::{Collection, Thresholds, View, digest_bytes};
use crate::random::Random;
use crate::wire::{Decoder, EditError, string};
use std::ops::Range;

/// The form of a pack.
const PAIRS: u8 = 1;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// What happens to a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashChange<'a> {
    Put { field: &'a [u8], value: &'a [u8] },
    Remove { field: &'a [u8] },
}

impl<'a> HashChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            HashChange::Put { field, value } => {
                out.push(PUT);
                string(out, field);
                string(out, value);
            }
            HashChange::Remove { field } => {
                out.push(REMOVE);
                string(out, field);
            }
        }
    }
    pub fn decode(at: &mut Decoder<'a>) -> Result<HashChange<'a>, EditError> {
        Ok(match at.byte()? {
            PUT => HashChange::Put { field: at.string()?, value: at.string()? },
            REMOVE => HashChange::Remove { field: at.string()? },
            other => return Err(EditError::UnknownKind(other)),
        })
    }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = HashChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| HashChange::decode(&mut at).expect("changes are verified")))
}

/// A large hash.
#[derive(Clone)]
pub struct Hash {
    fields: LeafMap,
}

/// A hash of either form.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// Pairs behind the form of their pack.
    Pairs(&'a [u8]),
    Large(&'a LeafMap),
}

/// Fields and values of a pack, behind its form.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = Decoder::new(bytes);
    let mut next = move || {
        let field = at.string().expect("a pack holds whole pairs");
        let value = at.string().expect("a pack holds whole pairs");
        (field, value, at.is_at_end())
    };
    let mut is_at_end = bytes.is_empty();
    std::iter::from_fn(move || {
        (!is_at_end).then(|| {
            let (field, value, last) = next();
            is_at_end = last;
            (field, value)
        })
    })
}

impl<'a> HashRef<'a> {
    pub fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        match self {
            HashRef::Pairs(bytes) => pairs(bytes).find(|(other, _)| *other == field).map(|(_, value)| value),
            HashRef::Large(fields) => fields.get(field),
        }
    }
    /// Every field and its value, in an order that stays the same while nothing is changed.
    pub fn visit(self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        match self {
            HashRef::Pairs(bytes) => pairs(bytes).for_each(|(field, value)| visit(field, value)),
            HashRef::Large(fields) => fields.iter().for_each(|(field, value)| visit(field, value)),
        }
    }
    /// A field and its value, all about equally likely.
    pub fn random(self, random: &mut Random) -> (&'a [u8], &'a [u8]) {
        match self {
            HashRef::Pairs(bytes) => {
                let number = random.below(self.len() as u64) as usize;
                pairs(bytes).nth(number).expect("fewer than there are")
            }
            HashRef::Large(fields) => fields.random(random).expect("no hash is empty"),
        }
    }
    /// Some pairs from `cursor` on, as `LeafMap::scan`; small ones all at once.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        match self {
            HashRef::Large(fields) => fields.scan(cursor, count, visit),
            HashRef::Pairs(bytes) => {
                pairs(bytes).for_each(|(field, value)| visit(field, value));
                0
            }
        }
    }
}

impl<'a> View<'a> for HashRef<'a> {
    fn len(self) -> usize {
        match self {
            HashRef::Pairs(bytes) => pairs(bytes).count(),
            HashRef::Large(fields) => fields.len(),
        }
    }
    fn digest(self) -> u64 {
        let mut digest = 0u64;
        self.visit(&mut |field, value| digest = digest.wrapping_add(digest_bytes(digest_bytes(0, field), value)));
        digest
    }
    fn encoding(self) -> &'static str {
        match self {
            HashRef::Pairs(_) => "listpack",
            HashRef::Large(_) => "hashtable",
        }
    }
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let start = out.len();
        let mut put = |field: &[u8], value: &[u8]| {
            HashChange::Put { field, value }.encode(out);
            out.len() - start < bytes_max
        };
        match self {
            HashRef::Large(fields) => fields.walk(from, &mut put),
            HashRef::Pairs(bytes) => {
                pairs(bytes).for_each(|(field, value)| {
                    put(field, value);
                });
                None
            }
        }
    }
}

impl Hash {
    fn new(seed: u64) -> Self {
        Hash { fields: LeafMap::new(seed) }
    }
    fn apply(&mut self, change: HashChange<'_>) {
        match change {
            HashChange::Put { field, value } => {
                self.fields.insert(field, value);
            }
            HashChange::Remove { field } => {
                self.fields.remove(field);
            }
        }
    }
}

impl Collection for Hash {
    type View<'a> = HashRef<'a>;

    fn verify(changes: &[u8]) -> Result<(), EditError> {
        let mut at = Decoder::new(changes);
        while !at.is_at_end() {
            HashChange::decode(&mut at)?;
        }
        Ok(())
    }
    fn change_small(pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self> {
        if pack.is_empty() {
            pack.push(PAIRS);
        }
        let mut large = thresholds.is_large.then(|| Hash::new(thresholds.seed));
        // Counting takes a walk: it is done once.
        let mut len = pairs(&pack[1..]).count();
        for change in verified(changes) {
            match &mut large {
                Some(large) => large.apply(change),
                None if change_pack(pack, &mut len, change, thresholds) => {}
                None => {
                    let mut hash = Hash::new(thresholds.seed);
                    pairs(&pack[1..]).for_each(|(field, value)| hash.apply(HashChange::Put { field, value }));
                    hash.apply(change);
                    large = Some(hash);
                }
            }
        }
        if pack.len() == 1 {
            pack.clear();
        }
        large
    }
    fn change(&mut self, changes: &[u8], _thresholds: &Thresholds) {
        verified(changes).for_each(|change| self.apply(change));
    }
    fn view_small(pack: &[u8]) -> HashRef<'_> {
        HashRef::Pairs(pack.get(1..).unwrap_or_default())
    }
    fn view(&self) -> HashRef<'_> {
        HashRef::Large(&self.fields)
    }
    fn bytes_used(&self) -> usize {
        self.fields.bytes_used()
    }
    fn free(&mut self, nodes: usize) -> bool {
        self.fields.free(nodes)
    }
    fn check_invariants(&self) {
        self.fields.check_invariants();
    }
}

/// Where a field's pair lies in a pack, and its value with the length before it.
fn find(pack: &[u8], field: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let mut at = Decoder::new(&pack[1..]);
    while !at.is_at_end() {
        let start = 1 + at.at();
        let found = at.string().expect("a pack holds whole pairs") == field;
        let middle = 1 + at.at();
        at.string().expect("a pack holds whole pairs");
        if found {
            let end = 1 + at.at();
            return Some((start..end, middle..end));
        }
    }
    None
}

/// Makes a change to a pack of `len` pairs; `false`, with nothing changed, if it has to become large for it.
fn change_pack(pack: &mut Vec<u8>, len: &mut usize, change: HashChange<'_>, thresholds: &Thresholds) -> bool {
    match change {
        HashChange::Put { field, value } => {
            if field.len().max(value.len()) > thresholds.hash_value_bytes {
                return false;
            }
            match find(pack, field) {
                Some((_, place)) => {
                    let mut new = Vec::with_capacity(value.len() + 2);
                    string(&mut new, value);
                    pack.splice(place, new);
                }
                None if *len >= thresholds.hash_entries => return false,
                None => {
                    string(pack, field);
                    string(pack, value);
                    *len += 1;
                }
            }
        }
        HashChange::Remove { field } => {
            if let Some((pair, _)) = find(pack, field) {
                pack.drain(pair);
                *len -= 1;
            }
        }
    }
    true
}

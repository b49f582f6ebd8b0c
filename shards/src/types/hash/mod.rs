//! Hashes: values by fields, some of which have deadlines. Small: a pack (`pack`). Large: a map of leaves, and beside it the
//! deadlines (`deadlines`).
//!
//! Changes know no time: a field whose deadline is over lies there until a change removes it. Readers see none of those, by
//! looking at what a hash holds at a time (`LiveHash`).

mod deadlines;
mod live;
mod pack;
#[cfg(test)]
mod tests;

pub use live::{LiveHash, Pair};
pub use pack::{Element, PackRef};

use super::leaf_map::LeafMap;
use super::{Collection, Thresholds, View, digest_bytes, mix};
use crate::units::{Deadline, Now};
use crate::wire::{self, Decoder, EditError, string};
use deadlines::FieldDeadlines;
use pack::Packing;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const PUT_KEEPING: u8 = 3;
const SET_DEADLINE: u8 = 4;

/// What happens to a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashChange<'a> {
    /// The field has no deadline from then on.
    Put {
        field: &'a [u8],
        value: &'a [u8],
    },
    Remove {
        field: &'a [u8],
    },
    /// A field that is there keeps its deadline.
    PutKeeping {
        field: &'a [u8],
        value: &'a [u8],
    },
    /// Gives a field that is there a deadline, or takes it away.
    SetDeadline {
        field: &'a [u8],
        deadline: Option<Deadline>,
    },
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
            HashChange::PutKeeping { field, value } => {
                out.push(PUT_KEEPING);
                string(out, field);
                string(out, value);
            }
            HashChange::SetDeadline { field, deadline } => {
                out.push(SET_DEADLINE);
                string(out, field);
                wire::deadline(out, deadline);
            }
        }
    }
    pub fn decode(at: &mut Decoder<'a>) -> Result<HashChange<'a>, EditError> {
        Ok(match at.byte()? {
            PUT => HashChange::Put { field: at.string()?, value: at.string()? },
            REMOVE => HashChange::Remove { field: at.string()? },
            PUT_KEEPING => HashChange::PutKeeping { field: at.string()?, value: at.string()? },
            SET_DEADLINE => HashChange::SetDeadline { field: at.string()?, deadline: in_range(at.deadline()?)? },
            other => return Err(EditError::UnknownKind(other)),
        })
    }
}

/// A deadline as `Deadline::new` makes them: then order and index find it again by its milliseconds.
fn in_range(deadline: Option<Deadline>) -> Result<Option<Deadline>, EditError> {
    let is_in_range = deadline.is_none_or(|deadline| (1..=Deadline::MS_MAX).contains(&deadline.ms()));
    if is_in_range { Ok(deadline) } else { Err(EditError::BadNumber) }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = HashChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| HashChange::decode(&mut at).expect("changes are verified")))
}

/// The first of deadlines on the steady clock, and on the wall clock.
fn by_clock(deadlines: impl Iterator<Item = Deadline>) -> [Option<Deadline>; 2] {
    deadlines.fold([None, None], |mut first, deadline| {
        let clock: &mut Option<Deadline> = &mut first[deadline.kind() as usize];
        *clock = Some(clock.map_or(deadline, |other| other.min(deadline)));
        first
    })
}

/// A large hash.
#[derive(Clone)]
pub struct Hash {
    fields: LeafMap,
    /// While any field has one.
    deadlines: Option<Box<FieldDeadlines>>,
}

/// A hash of either form, with fields whose deadline is over.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    Small(PackRef<'a>),
    Large(&'a Hash),
}

impl<'a> HashRef<'a> {
    /// What it holds at a time.
    #[inline]
    pub fn at(self, now: Now) -> LiveHash<'a> {
        LiveHash::new(self, now)
    }
    /// Everything that lies there, in an order that stays the same while nothing is changed.
    pub fn visit(self, visit: &mut dyn FnMut(Element<'a>)) {
        match self {
            HashRef::Small(pack) => pack.elements().for_each(visit),
            HashRef::Large(hash) => {
                hash.fields.iter().for_each(|(field, value)| visit(hash.element(field, value)));
            }
        }
    }
    /// Whether any field has a deadline.
    pub fn is_limited(self) -> bool {
        match self {
            HashRef::Small(pack) => pack.is_limited(),
            HashRef::Large(hash) => hash.deadlines.is_some(),
        }
    }
    /// Value and deadline of what lies at a field.
    #[inline]
    fn find(self, field: &[u8]) -> Option<(&'a [u8], Option<Deadline>)> {
        match self {
            HashRef::Small(pack) => pack.get(field).map(|element| (element.value, element.deadline)),
            HashRef::Large(hash) => hash.fields.get(field).map(|value| (value, hash.deadline(field))),
        }
    }
}

impl<'a> View<'a> for HashRef<'a> {
    fn len(self) -> usize {
        match self {
            HashRef::Small(pack) => pack.elements().count(),
            HashRef::Large(hash) => hash.fields.len(),
        }
    }
    fn digest(self) -> u64 {
        let mut digest = 0u64;
        self.visit(&mut |Element { field, value, deadline }| {
            let element = digest_bytes(digest_bytes(0, field), value);
            digest = digest.wrapping_add(deadline.map_or(element, |deadline| mix(element, deadline.to_bits())));
        });
        digest
    }
    fn encoding(self) -> &'static str {
        match self {
            HashRef::Small(pack) if pack.is_limited() => "listpackex",
            HashRef::Small(_) => "listpack",
            HashRef::Large(_) => "hashtable",
        }
    }
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let start = out.len();
        let mut put = |Element { field, value, deadline }: Element<'_>| {
            HashChange::Put { field, value }.encode(out);
            if deadline.is_some() {
                HashChange::SetDeadline { field, deadline }.encode(out);
            }
            out.len() - start < bytes_max
        };
        match self {
            HashRef::Large(hash) => hash.fields.walk(from, &mut |field, value| put(hash.element(field, value))),
            HashRef::Small(pack) => {
                pack.elements().for_each(|element| {
                    put(element);
                });
                None
            }
        }
    }
    #[inline]
    fn next_deadlines(self) -> [Option<Deadline>; 2] {
        match self {
            HashRef::Small(pack) => pack.next_deadlines(),
            HashRef::Large(hash) => hash.deadlines.as_ref().map_or([None, None], |deadlines| deadlines.next()),
        }
    }
    fn expire(self, now: Now, limit: usize, changes: &mut Vec<u8>) -> usize {
        let mut removed = 0;
        let mut remove = |field: &[u8]| {
            HashChange::Remove { field }.encode(changes);
            removed += 1;
        };
        match self {
            HashRef::Small(pack) => {
                let is_due = |element: &Element<'_>| element.deadline.is_some_and(|deadline| deadline.is_due(now));
                pack.elements().filter(is_due).take(limit).for_each(|element| remove(element.field));
            }
            HashRef::Large(hash) => {
                let deadlines = hash.deadlines.iter();
                deadlines.flat_map(|deadlines| deadlines.due_fields(now, limit)).for_each(remove);
            }
        }
        removed
    }
}

impl Hash {
    fn new(seed: u64) -> Self {
        Hash { fields: LeafMap::new(seed), deadlines: None }
    }
    #[inline]
    fn deadline(&self, field: &[u8]) -> Option<Deadline> {
        self.deadlines.as_ref().and_then(|deadlines| deadlines.get(field))
    }
    fn element<'a>(&self, field: &'a [u8], value: &'a [u8]) -> Element<'a> {
        Element { field, value, deadline: self.deadline(field) }
    }
    fn apply(&mut self, change: HashChange<'_>, seed: u64) {
        match change {
            HashChange::Put { field, value } => {
                self.fields.insert(field, value);
                self.set_deadline(field, None, seed);
            }
            HashChange::Remove { field } => {
                self.fields.remove(field);
                self.set_deadline(field, None, seed);
            }
            HashChange::PutKeeping { field, value } => {
                self.fields.insert(field, value);
            }
            HashChange::SetDeadline { field, deadline } => {
                if self.fields.get(field).is_some() {
                    self.set_deadline(field, deadline, seed);
                }
            }
        }
    }
    /// Of a field that is there, or none.
    #[inline]
    fn set_deadline(&mut self, field: &[u8], deadline: Option<Deadline>, seed: u64) {
        if self.deadlines.is_none() && deadline.is_none() {
            return;
        }
        let deadlines = self.deadlines.get_or_insert_with(|| Box::new(FieldDeadlines::new(seed)));
        deadlines.set(field, deadline);
        if deadlines.is_empty() {
            self.deadlines = None;
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
        let seed = thresholds.seed;
        let mut large = thresholds.is_large.then(|| Hash::new(seed));
        let mut packing = Packing::begin(pack);
        for change in verified(changes) {
            match &mut large {
                Some(large) => large.apply(change, seed),
                None if packing.change(change, thresholds) => {}
                None => {
                    let mut hash = Hash::new(seed);
                    for Element { field, value, deadline } in packing.elements() {
                        hash.apply(HashChange::Put { field, value }, seed);
                        hash.set_deadline(field, deadline, seed);
                    }
                    hash.apply(change, seed);
                    large = Some(hash);
                }
            }
        }
        packing.seal();
        large
    }
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        verified(changes).for_each(|change| self.apply(change, thresholds.seed));
    }
    fn view_small(pack: &[u8]) -> HashRef<'_> {
        HashRef::Small(PackRef::new(pack))
    }
    fn view(&self) -> HashRef<'_> {
        HashRef::Large(self)
    }
    fn bytes_used(&self) -> usize {
        let of_deadlines = |deadlines: &FieldDeadlines| size_of::<FieldDeadlines>() + deadlines.bytes_used();
        self.fields.bytes_used() + self.deadlines.as_deref().map_or(0, of_deadlines)
    }
    fn free(&mut self, nodes: usize) -> bool {
        self.fields.free(nodes) || self.deadlines.as_mut().is_some_and(|deadlines| deadlines.free(nodes))
    }
    fn check_invariants(&self) {
        self.fields.check_invariants();
        if let Some(deadlines) = &self.deadlines {
            assert!(!deadlines.is_empty(), "a hash without deadlines has no place for them");
            deadlines.check_invariants();
            deadlines.check_fields(|field| self.fields.get(field).is_some());
        }
    }
}

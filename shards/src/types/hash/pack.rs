//! Small hashes: fields and values one after the other, in the order they came. Two forms: one for hashes whose fields stay, one
//! for those that have fields with deadlines.
//!
//! ```text
//! | 1 | field length | field | value length | value | ...
//! | 2 | first deadline 8 | first deadline 8 | field length | field | value length | value | deadline | ...
//! ```
//! The first deadline on the steady clock, then that on the wall clock, packed, 0 for none; behind a value, the field's deadline
//! as a number, 0 for none. The rule that must hold when changes have been made: form 2 has a field with a deadline, and its
//! first deadlines are those of its fields. Without elements, there are no bytes.

use super::{HashChange, by_clock};
use crate::types::Thresholds;
use crate::units::Deadline;
use crate::wire::{Decoder, deadline, string};
use std::ops::Range;

/// Numbers of forms.
const LASTING: u8 = 1;
const LIMITED: u8 = 2;
/// Where elements begin.
const LASTING_AT: usize = 1;
const LIMITED_AT: usize = 1 + 2 * size_of::<u64>();

/// What a hash has at a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element<'a> {
    pub field: &'a [u8],
    pub value: &'a [u8],
    pub deadline: Option<Deadline>,
}

/// A pack, to be read.
#[derive(Clone, Copy)]
pub struct PackRef<'a> {
    pack: &'a [u8],
}

/// Where an element lies, and its value with the length before it.
struct Place {
    whole: Range<usize>,
    value: Range<usize>,
    deadline: Range<usize>,
}

impl<'a> PackRef<'a> {
    pub(super) fn new(pack: &'a [u8]) -> Self {
        PackRef { pack }
    }
    /// Whether any field has a deadline.
    #[inline]
    pub(super) fn is_limited(self) -> bool {
        self.pack.first() == Some(&LIMITED)
    }
    /// The first on each clock.
    #[inline]
    pub(super) fn next_deadlines(self) -> [Option<Deadline>; 2] {
        if !self.is_limited() {
            return [None, None];
        }
        let bits = |at: usize| u64::from_le_bytes(*self.pack[at..].first_chunk().expect("a limited pack has its head"));
        [1, 1 + size_of::<u64>()].map(|at| Deadline::from_bits(bits(at)))
    }
    pub(super) fn elements(self) -> impl Iterator<Item = Element<'a>> {
        let is_limited = self.is_limited();
        let mut at = Decoder::new(&self.pack[self.start()..]);
        std::iter::from_fn(move || (!at.is_at_end()).then(|| element(&mut at, is_limited)))
    }
    pub(super) fn get(self, field: &[u8]) -> Option<Element<'a>> {
        self.elements().find(|element| element.field == field)
    }
    fn start(self) -> usize {
        match self.pack.first() {
            None => 0,
            Some(&LIMITED) => LIMITED_AT,
            Some(_) => LASTING_AT,
        }
    }
    fn find(self, field: &[u8]) -> Option<Place> {
        const WHOLE: &str = "a pack holds whole elements";
        let (start, is_limited) = (self.start(), self.is_limited());
        let mut at = Decoder::new(&self.pack[start..]);
        while !at.is_at_end() {
            let first = start + at.at();
            let found = at.string().expect(WHOLE) == field;
            let value = start + at.at();
            at.string().expect(WHOLE);
            let deadline = start + at.at();
            if is_limited {
                at.number().expect(WHOLE);
            }
            if found {
                let end = start + at.at();
                return Some(Place { whole: first..end, value: value..deadline, deadline: deadline..end });
            }
        }
        None
    }
}

#[inline]
fn element<'a>(at: &mut Decoder<'a>, is_limited: bool) -> Element<'a> {
    const WHOLE: &str = "a pack holds whole elements";
    let (field, value) = (at.string().expect(WHOLE), at.string().expect(WHOLE));
    let deadline = if is_limited { at.deadline().expect(WHOLE) } else { None };
    Element { field, value, deadline }
}

/// A pack that is being changed. To be sealed before it is read again.
pub(super) struct Packing<'p> {
    pack: &'p mut Vec<u8>,
    len: usize,
}

impl<'p> Packing<'p> {
    pub(super) fn begin(pack: &'p mut Vec<u8>) -> Self {
        if pack.is_empty() {
            pack.push(LASTING);
        }
        // Counting takes a walk: it is done once.
        let len = PackRef::new(pack).elements().count();
        Packing { pack, len }
    }
    pub(super) fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        PackRef::new(self.pack).elements()
    }
    /// `false`, with nothing changed, if it has to become large for it.
    pub(super) fn change(&mut self, change: HashChange<'_>, thresholds: &Thresholds) -> bool {
        match change {
            HashChange::Put { field, value } => return self.put(field, value, false, thresholds),
            HashChange::PutKeeping { field, value } => return self.put(field, value, true, thresholds),
            HashChange::Remove { field } => {
                if let Some(place) = PackRef::new(self.pack).find(field) {
                    self.pack.drain(place.whole);
                    self.len -= 1;
                }
            }
            HashChange::SetDeadline { field, deadline } => self.set_deadline(field, deadline),
        }
        true
    }
    /// What readers rely on.
    pub(super) fn seal(mut self) {
        if self.len == 0 {
            self.pack.clear();
        } else if PackRef::new(self.pack).is_limited() {
            let first = by_clock(self.elements().filter_map(|element| element.deadline));
            if first == [None, None] {
                self.rewrite(LASTING);
                return;
            }
            let heads = self.pack[1..LIMITED_AT].chunks_exact_mut(size_of::<u64>());
            for (head, deadline) in heads.zip(first) {
                head.copy_from_slice(&deadline.map_or(0, Deadline::to_bits).to_le_bytes());
            }
        }
    }
    fn put(&mut self, field: &[u8], value: &[u8], keeps: bool, thresholds: &Thresholds) -> bool {
        if field.len().max(value.len()) > thresholds.hash_value_bytes {
            return false;
        }
        let is_limited = PackRef::new(self.pack).is_limited();
        match PackRef::new(self.pack).find(field) {
            Some(Place { value: place, deadline: after, .. }) => {
                let mut new = Vec::with_capacity(value.len() + 3);
                string(&mut new, value);
                let end = if keeps || !is_limited { place.end } else { after.end };
                if end != place.end {
                    deadline(&mut new, None);
                }
                self.pack.splice(place.start..end, new);
            }
            None if self.len >= thresholds.hash_entries => return false,
            None => {
                string(self.pack, field);
                string(self.pack, value);
                if is_limited {
                    deadline(self.pack, None);
                }
                self.len += 1;
            }
        }
        true
    }
    fn set_deadline(&mut self, field: &[u8], new: Option<Deadline>) {
        if !PackRef::new(self.pack).is_limited() {
            if new.is_none() || PackRef::new(self.pack).find(field).is_none() {
                return;
            }
            self.rewrite(LIMITED);
        }
        if let Some(place) = PackRef::new(self.pack).find(field) {
            let mut bytes = Vec::new();
            deadline(&mut bytes, new);
            self.pack.splice(place.deadline, bytes);
        }
    }
    /// In the other form.
    fn rewrite(&mut self, form: u8) {
        let start = if form == LIMITED { LIMITED_AT } else { LASTING_AT };
        let mut pack = vec![0; start];
        pack[0] = form;
        for element in self.elements() {
            string(&mut pack, element.field);
            string(&mut pack, element.value);
            if form == LIMITED {
                deadline(&mut pack, element.deadline);
            }
        }
        *self.pack = pack;
    }
}

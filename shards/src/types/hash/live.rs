//! What a hash holds at a time: without the fields whose deadline is over, though they still lie there.
//!
//! That costs next to nothing while no field is due, which is so but for the moments between a deadline and the tick.

use super::{Element, Hash, HashRef};
use crate::random::Random;
use crate::types::View;
use crate::units::{Deadline, Now};

/// Draws at random before all fields are gone through.
const DRAWS: usize = 200;

#[derive(Clone, Copy)]
pub struct LiveHash<'a> {
    hash: HashRef<'a>,
    /// The time, if any field is due.
    due: Option<Now>,
}

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

impl<'a> LiveHash<'a> {
    #[inline]
    pub(super) fn new(hash: HashRef<'a>, now: Now) -> Self {
        let is_due = hash.next_deadlines().into_iter().flatten().any(|deadline| deadline.is_due(now));
        LiveHash { hash, due: is_due.then_some(now) }
    }
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        match (self.hash, self.due) {
            (HashRef::Large(hash), None) => hash.fields.get(field),
            (HashRef::Small(_) | HashRef::Large(_), _) => self.find(field).map(|(value, _)| value),
        }
    }
    /// Value and deadline of a field.
    pub fn find(self, field: &[u8]) -> Option<(&'a [u8], Option<Deadline>)> {
        self.hash.find(field).filter(|(_, deadline)| self.shows(*deadline))
    }
    /// Takes time for those that are due, and of a small one for all.
    pub fn len(self) -> usize {
        match (self.hash, self.due) {
            (_, None) => self.hash.len(),
            (HashRef::Large(Hash { fields, deadlines }), Some(now)) => {
                fields.len() - deadlines.as_ref().map_or(0, |deadlines| deadlines.due(now))
            }
            (HashRef::Small(pack), Some(_)) => pack.elements().filter(|element| self.shows(element.deadline)).count(),
        }
    }
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    pub fn is_large(self) -> bool {
        matches!(self.hash, HashRef::Large(_))
    }
    /// Whether all that lies there is seen.
    pub fn is_whole(self) -> bool {
        self.due.is_none()
    }
    /// Whether `random` needs few draws.
    pub fn is_mostly_seen(self) -> bool {
        self.due.is_none() || 2 * self.len() >= self.hash.len()
    }
    /// Every field and its value, in an order that stays the same while nothing is changed.
    pub fn visit(self, visit: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        match (self.hash, self.due) {
            (HashRef::Large(hash), None) => hash.fields.iter().for_each(|(field, value)| visit(field, value)),
            (HashRef::Small(_) | HashRef::Large(_), _) => {
                self.visit_elements(&mut |element| visit(element.field, element.value));
            }
        }
    }
    /// The same, with their deadlines.
    pub fn visit_elements(self, visit: &mut dyn FnMut(Element<'a>)) {
        self.hash.visit(&mut |element| {
            if self.shows(element.deadline) {
                visit(element);
            }
        });
    }
    /// A field and its value, all about equally likely; `None` when there is none. Fast where most of what lies there is seen.
    pub fn random(self, random: &mut Random) -> Option<Pair<'a>> {
        if let HashRef::Large(hash) = self.hash {
            for _ in 0..DRAWS {
                let (field, value) = hash.fields.random(random)?;
                if self.due.is_none() || self.shows(hash.deadline(field)) {
                    return Some((field, value));
                }
            }
        }
        let number = random.below(self.len().max(1) as u64) as usize;
        let (mut at, mut drawn) = (0, None);
        self.visit(&mut |field, value| {
            if at == number {
                drawn = Some((field, value));
            }
            at += 1;
        });
        drawn
    }
    /// Some pairs from `cursor` on, as `LeafMap::scan`; small ones all at once.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        let HashRef::Large(hash) = self.hash else {
            self.visit(&mut |field, value| visit(field, value));
            return 0;
        };
        hash.fields.scan(cursor, count, &mut |field, value| {
            if self.due.is_none() || self.shows(hash.deadline(field)) {
                visit(field, value);
            }
        })
    }
    #[inline]
    fn shows(self, deadline: Option<Deadline>) -> bool {
        self.due.is_none_or(|now| deadline.is_none_or(|deadline| !deadline.is_due(now)))
    }
}

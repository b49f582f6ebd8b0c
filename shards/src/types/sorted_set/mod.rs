//! Sorted sets: members with scores, in the order of (score, member). Small: one run of elements in order; large: a counted tree of
//! such runs, and a map from member to score.

mod run;
#[cfg(test)]
mod tests;
mod tree;

use super::leaf_map::LeafMap;
use super::{Collection, Need, Thresholds, View, digest_bytes, mix};
use crate::random::Random;
use crate::wire::{Decoder, EditError, double, string};
use run::elements;
use std::ops::Range;
use tree::Tree;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// What happens to a sorted set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SortedSetChange<'a> {
    /// Adds a member, or gives it another score. Scores are numbers.
    Put {
        score: f64,
        member: &'a [u8],
    },
    Remove {
        member: &'a [u8],
    },
}

impl<'a> SortedSetChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            SortedSetChange::Put { score, member } => {
                out.push(PUT);
                double(out, score);
                string(out, member);
            }
            SortedSetChange::Remove { member } => {
                out.push(REMOVE);
                string(out, member);
            }
        }
    }
    pub fn decode(at: &mut Decoder<'a>) -> Result<SortedSetChange<'a>, EditError> {
        Ok(match at.byte()? {
            PUT => {
                let score = at.double()?;
                if score.is_nan() {
                    return Err(EditError::BadNumber);
                }
                SortedSetChange::Put { score, member: at.string()? }
            }
            REMOVE => SortedSetChange::Remove { member: at.string()? },
            other => return Err(EditError::UnknownKind(other)),
        })
    }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = SortedSetChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || {
        (!at.is_at_end()).then(|| SortedSetChange::decode(&mut at).expect("changes are verified"))
    })
}

/// A place between two elements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound<'a> {
    /// Before the element with this score and member, whether it is there or not.
    Element { score: f64, member: &'a [u8] },
    /// Before all elements of this score, or behind them.
    Score { score: f64, behind: bool },
    /// Before this member or behind it, where all scores are the same.
    Member { member: &'a [u8], behind: bool },
}

impl Bound<'_> {
    /// Whether it lies behind this element.
    #[inline]
    fn is_behind<'m>(&self, score: f64, member: impl FnOnce() -> &'m [u8]) -> bool {
        match *self {
            Bound::Element { score: own, member: own_member } => score < own || score == own && member() < own_member,
            Bound::Score { score: own, behind } => score < own || score == own && behind,
            Bound::Member { member: own, behind } => {
                let member = member();
                member < own || member == own && behind
            }
        }
    }
}

/// A large sorted set.
#[derive(Clone)]
pub struct SortedSet {
    tree: Tree,
    /// Scores as runs have them.
    scores: LeafMap,
}

/// A sorted set of either form.
#[derive(Clone, Copy)]
pub enum SortedSetRef<'a> {
    Small(&'a [u8]),
    Large(&'a SortedSet),
}

impl<'a> SortedSetRef<'a> {
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            SortedSetRef::Small(run) => elements(run).find(|(_, other)| *other == member).map(|(score, _)| score),
            SortedSetRef::Large(set) => set.scores.get(member).map(|score| run::read_score(score).0),
        }
    }
    /// How many elements lie before a bound.
    pub fn rank(self, bound: &Bound<'_>) -> usize {
        match self {
            SortedSetRef::Small(run) => run::find(run, bound).0,
            SortedSetRef::Large(set) => set.tree.rank(bound),
        }
    }
    /// The elements of these ranks, which there are, in order or from the last to the first, for as long as `visit` says so.
    pub fn visit(self, ranks: Range<usize>, backwards: bool, visit: &mut dyn FnMut(f64, &'a [u8]) -> bool) {
        match self {
            SortedSetRef::Small(run) if backwards => {
                let found: Vec<_> = elements(run).skip(ranks.start).take(ranks.len()).collect();
                found.into_iter().rev().all(|(score, member)| visit(score, member));
            }
            SortedSetRef::Small(run) => {
                elements(run).skip(ranks.start).take(ranks.len()).all(|(score, member)| visit(score, member));
            }
            SortedSetRef::Large(set) if backwards => {
                set.tree.visit_back(ranks, &mut |(score, member)| visit(score, member))
            }
            SortedSetRef::Large(set) => set.tree.visit(ranks, &mut |(score, member)| visit(score, member)),
        }
    }
    /// An element, all equally likely.
    pub fn random(self, random: &mut Random) -> (f64, &'a [u8]) {
        let rank = random.below(self.len() as u64) as usize;
        let mut found = None;
        self.visit(rank..rank + 1, false, &mut |score, member| {
            found = Some((score, member));
            false
        });
        found.expect("no sorted set is empty")
    }
    /// Some elements from `cursor` on, as `LeafMap::scan`; small ones all at once.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(f64, &[u8])) -> u64 {
        match self {
            SortedSetRef::Small(run) => {
                elements(run).for_each(|(score, member)| visit(score, member));
                0
            }
            SortedSetRef::Large(set) => {
                set.scores.scan(cursor, count, &mut |member, score| visit(run::read_score(score).0, member))
            }
        }
    }
}

impl<'a> View<'a> for SortedSetRef<'a> {
    fn len(self) -> usize {
        match self {
            SortedSetRef::Small(run) => elements(run).count(),
            SortedSetRef::Large(set) => set.tree.len(),
        }
    }
    fn digest(self) -> u64 {
        let mut digest = 0;
        self.visit(0..self.len(), false, &mut |score, member| {
            // Of the zeros, packs have only one.
            let score = if score == 0.0 { 0.0 } else { score };
            digest = digest_bytes(mix(digest, score.to_bits()), member);
            true
        });
        digest
    }
    fn encoding(self) -> &'static str {
        match self {
            SortedSetRef::Small(_) => "listpack",
            SortedSetRef::Large(_) => "skiplist",
        }
    }
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let (start, len) = (out.len(), self.len());
        let mut next = from;
        self.visit(from as usize..len, false, &mut |score, member| {
            SortedSetChange::Put { score, member }.encode(out);
            next += 1;
            out.len() - start < bytes_max
        });
        (next < len as u64).then_some(next)
    }
    fn excerpt(self, need: Need<'_>, out: &mut Vec<u8>) {
        let len = self.len();
        let count = match need {
            Need::Ends(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Need::All | Need::Element(_) => usize::MAX,
        };
        let left = count.saturating_add(1).min(len);
        let right = len.saturating_sub(count).max(left);
        for ranks in [0..left, right..len] {
            self.visit(ranks, false, &mut |score, member| {
                SortedSetChange::Put { score, member }.encode(out);
                true
            });
        }
    }
}

impl SortedSet {
    fn new(seed: u64) -> Self {
        SortedSet { tree: Tree::default(), scores: LeafMap::new(seed) }
    }
    fn apply(&mut self, change: SortedSetChange<'_>) {
        let member = match change {
            SortedSetChange::Put { member, .. } | SortedSetChange::Remove { member } => member,
        };
        let old = self.scores.get(member).map(|score| run::read_score(score).0);
        match change {
            SortedSetChange::Put { score, .. } if old.is_some_and(|old| old.to_bits() == score.to_bits()) => {}
            SortedSetChange::Put { score, .. } => {
                if let Some(old) = old {
                    self.tree.remove(old, member);
                }
                self.tree.insert(score, member);
                let mut value = Vec::with_capacity(9);
                run::write_score(&mut value, score);
                self.scores.insert(member, &value);
            }
            SortedSetChange::Remove { .. } => {
                if let Some(old) = old {
                    self.tree.remove(old, member);
                    self.scores.remove(member);
                }
            }
        }
    }
}

impl Collection for SortedSet {
    type View<'a> = SortedSetRef<'a>;

    fn verify(changes: &[u8]) -> Result<(), EditError> {
        let mut at = Decoder::new(changes);
        while !at.is_at_end() {
            SortedSetChange::decode(&mut at)?;
        }
        Ok(())
    }
    fn change_small(pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self> {
        let mut large = thresholds.is_large.then(|| SortedSet::new(thresholds.seed));
        let mut len = elements(pack).count();
        for change in verified(changes) {
            match &mut large {
                Some(large) => large.apply(change),
                None if change_pack(pack, &mut len, change, thresholds) => {}
                None => {
                    let mut set = SortedSet::new(thresholds.seed);
                    elements(pack).for_each(|(score, member)| set.apply(SortedSetChange::Put { score, member }));
                    set.apply(change);
                    large = Some(set);
                }
            }
        }
        large
    }
    fn change(&mut self, changes: &[u8], _thresholds: &Thresholds) {
        verified(changes).for_each(|change| self.apply(change));
    }
    fn view_small(pack: &[u8]) -> SortedSetRef<'_> {
        SortedSetRef::Small(pack)
    }
    fn view(&self) -> SortedSetRef<'_> {
        SortedSetRef::Large(self)
    }
    fn bytes_used(&self) -> usize {
        self.tree.bytes_used() + self.scores.bytes_used()
    }
    fn free(&mut self, nodes: usize) -> bool {
        self.scores.free(nodes / 2) | self.tree.free(nodes / 2)
    }
    fn check_invariants(&self) {
        self.tree.check_invariants();
        self.scores.check_invariants();
        assert_eq!(self.tree.len(), self.scores.len(), "tree and map have the same members");
        self.tree.visit(0..self.tree.len(), &mut |(score, member)| {
            assert_eq!(self.view().score(member).map(f64::to_bits), Some(score.to_bits()), "with the same scores");
            true
        });
    }
}

/// Makes a change to a pack of `len` elements; `false`, with nothing changed, if it has to become large for it.
fn change_pack(pack: &mut Vec<u8>, len: &mut usize, change: SortedSetChange<'_>, thresholds: &Thresholds) -> bool {
    let (member, score) = match change {
        SortedSetChange::Put { score, member } => (member, Some(score)),
        SortedSetChange::Remove { member } => (member, None),
    };
    let old = SortedSetRef::Small(pack).score(member);
    if score.is_some() && old.is_none() {
        let fits = *len < thresholds.sorted_set_entries && member.len() <= thresholds.sorted_set_value_bytes;
        if !fits {
            return false;
        }
    }
    if let Some(score) = old {
        let (_, at) = run::find(pack, &Bound::Element { score, member });
        pack.drain(run::range(pack, at));
        *len -= 1;
    }
    if let Some(score) = score {
        // As Redis' listpacks, which keep it as the integer, have it.
        let score = if score == 0.0 { 0.0 } else { score };
        let (_, at) = run::find(pack, &Bound::Element { score, member });
        run::insert(pack, at, score, member);
        *len += 1;
    }
    true
}

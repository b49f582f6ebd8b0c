//! Sets: distinct byte strings in no order. Small: sorted integers of one width, or strings one after the other; large: a map of
//! leaves. To clients anything but integers is a `hashtable`, as in Redis 7.0, and the way from integers to strings to large is
//! one way.
//!
//! ```text
//! pack: | width 2, 4 or 8 | integers, ascending, little endian |      or      | 1 | length | member | ... |
//! ```

#[cfg(test)]
mod tests;

use super::leaf_map::LeafMap;
use super::{Collection, Need, Thresholds, View, digest_bytes};
use crate::numbers::parse_integer;
use crate::random::Random;
use crate::wire::{Decoder, EditError, string};

/// The form of a pack of strings; other forms are the width of integers.
const STRINGS: u8 = 1;
/// A small set of strings has at most so many members, of at most so many bytes.
const STRINGS_MAX: usize = 64;
const STRING_BYTES_MAX: usize = 64;

const ADD: u8 = 1;
const REMOVE: u8 = 2;
const AS_STRINGS: u8 = 3;

/// What happens to a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetChange<'a> {
    Add {
        member: &'a [u8],
    },
    Remove {
        member: &'a [u8],
    },
    /// From here on it is kept as strings, whatever its members look like.
    AsStrings,
}

/// What a set was exported as, but for its form: it is left to the members.
pub fn without_form(exported: &[u8]) -> &[u8] {
    exported.strip_prefix(&[AS_STRINGS]).unwrap_or(exported)
}

impl<'a> SetChange<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            SetChange::Add { member } => {
                out.push(ADD);
                string(out, member);
            }
            SetChange::Remove { member } => {
                out.push(REMOVE);
                string(out, member);
            }
            SetChange::AsStrings => out.push(AS_STRINGS),
        }
    }
    pub fn decode(at: &mut Decoder<'a>) -> Result<SetChange<'a>, EditError> {
        Ok(match at.byte()? {
            ADD => SetChange::Add { member: at.string()? },
            REMOVE => SetChange::Remove { member: at.string()? },
            AS_STRINGS => SetChange::AsStrings,
            other => return Err(EditError::UnknownKind(other)),
        })
    }
}

/// Changes that were verified, one after the other.
fn verified(changes: &[u8]) -> impl Iterator<Item = SetChange<'_>> {
    let mut at = Decoder::new(changes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| SetChange::decode(&mut at).expect("changes are verified")))
}

/// A large set.
#[derive(Clone)]
pub struct Set {
    members: LeafMap,
}

/// A set of either form.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    Integers(Integers<'a>),
    /// A pack of strings behind its form.
    Strings(&'a [u8]),
    Large(&'a LeafMap),
}

/// Sorted integers of one width.
#[derive(Clone, Copy)]
pub struct Integers<'a> {
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Integers<'a> {
    fn len(self) -> usize {
        self.bytes.len() / self.width
    }
    fn at(self, index: usize) -> i64 {
        let bytes = &self.bytes[index * self.width..][..self.width];
        match self.width {
            2 => i16::from_le_bytes(bytes.try_into().expect("two bytes")) as i64,
            4 => i32::from_le_bytes(bytes.try_into().expect("four bytes")) as i64,
            _ => i64::from_le_bytes(bytes.try_into().expect("eight bytes")),
        }
    }
    fn iter(self) -> impl Iterator<Item = i64> + use<'a> {
        (0..self.len()).map(move |index| self.at(index))
    }
    /// Where it is, or where it belongs.
    fn find(self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle).cmp(&value) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

/// Bytes an integer needs in a pack.
fn width(value: i64) -> usize {
    if value == value as i16 as i64 {
        2
    } else if value == value as i32 as i64 {
        4
    } else {
        8
    }
}

/// The strings of a pack, behind its form.
fn strings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = Decoder::new(bytes);
    std::iter::from_fn(move || (!at.is_at_end()).then(|| at.string().expect("a pack holds whole members")))
}

impl<'a> SetRef<'a> {
    pub fn contains(self, member: &[u8]) -> bool {
        match self {
            SetRef::Integers(integers) => parse_integer(member).is_some_and(|value| integers.find(value).is_ok()),
            SetRef::Strings(bytes) => strings(bytes).any(|other| other == member),
            SetRef::Large(members) => members.get(member).is_some(),
        }
    }
    /// Every member, for as long as `visit` says so, in an order that stays the same while nothing is changed.
    pub fn visit(self, visit: &mut dyn FnMut(&[u8]) -> bool) {
        let mut digits = itoa::Buffer::new();
        match self {
            SetRef::Integers(integers) => {
                integers.iter().all(|value| visit(digits.format(value).as_bytes()));
            }
            SetRef::Strings(bytes) => {
                strings(bytes).all(visit);
            }
            SetRef::Large(members) => {
                members.iter().all(|(member, _)| visit(member));
            }
        }
    }
    pub fn members(self) -> Vec<Vec<u8>> {
        let mut members = Vec::with_capacity(self.len());
        self.visit(&mut |member| {
            members.push(member.to_vec());
            true
        });
        members
    }
    /// A member, all about equally likely.
    pub fn random(self, random: &mut Random) -> Vec<u8> {
        let nth = |random: &mut Random| random.below(self.len() as u64) as usize;
        match self {
            SetRef::Integers(integers) => itoa::Buffer::new().format(integers.at(nth(random))).as_bytes().to_vec(),
            SetRef::Strings(bytes) => strings(bytes).nth(nth(random)).expect("fewer than there are").to_vec(),
            SetRef::Large(members) => members.random(random).expect("no set is empty").0.to_vec(),
        }
    }
    /// Some members from `cursor` on, as `LeafMap::scan`; small ones all at once.
    pub fn scan(self, cursor: u64, count: usize, visit: &mut dyn FnMut(&[u8])) -> u64 {
        match self {
            SetRef::Large(members) => members.scan(cursor, count, &mut |member, _| visit(member)),
            SetRef::Integers(_) | SetRef::Strings(_) => {
                self.visit(&mut |member| {
                    visit(member);
                    true
                });
                0
            }
        }
    }
}

impl<'a> View<'a> for SetRef<'a> {
    fn len(self) -> usize {
        match self {
            SetRef::Integers(integers) => integers.len(),
            SetRef::Strings(bytes) => strings(bytes).count(),
            SetRef::Large(members) => members.len(),
        }
    }
    fn digest(self) -> u64 {
        let mut digest = 0u64;
        self.visit(&mut |member| {
            digest = digest.wrapping_add(digest_bytes(0, member));
            true
        });
        digest
    }
    fn encoding(self) -> &'static str {
        match self {
            SetRef::Integers(_) => "intset",
            SetRef::Strings(_) | SetRef::Large(_) => "hashtable",
        }
    }
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let start = out.len();
        if let SetRef::Strings(_) = self {
            SetChange::AsStrings.encode(out);
        }
        let mut add = |member: &[u8]| {
            SetChange::Add { member }.encode(out);
            out.len() - start < bytes_max
        };
        match self {
            SetRef::Large(members) => members.walk(from, &mut |member, _| add(member)),
            SetRef::Integers(_) | SetRef::Strings(_) => {
                self.visit(&mut |member| {
                    add(member);
                    true
                });
                None
            }
        }
    }
    fn excerpt(self, need: Need<'_>, out: &mut Vec<u8>) {
        let (SetRef::Large(_), Need::Element(member)) = (self, need) else {
            self.export(0, usize::MAX, out);
            return;
        };
        // With one that is another, whether or not it has the member.
        let mut others = 0;
        self.visit(&mut |other| {
            SetChange::Add { member: other }.encode(out);
            others += (other != member) as usize;
            others == 0
        });
        if self.contains(member) {
            SetChange::Add { member }.encode(out);
        }
    }
}

impl Set {
    fn new(seed: u64) -> Self {
        Set { members: LeafMap::keys_only(seed) }
    }
    fn apply(&mut self, change: SetChange<'_>) {
        match change {
            SetChange::Add { member } => {
                self.members.insert(member, b"");
            }
            SetChange::Remove { member } => {
                self.members.remove(member);
            }
            SetChange::AsStrings => {}
        }
    }
    fn of(view: SetRef<'_>, seed: u64) -> Self {
        let mut set = Set::new(seed);
        view.visit(&mut |member| {
            set.members.insert(member, b"");
            true
        });
        set
    }
}

impl Collection for Set {
    type View<'a> = SetRef<'a>;

    fn verify(changes: &[u8]) -> Result<(), EditError> {
        let mut at = Decoder::new(changes);
        while !at.is_at_end() {
            SetChange::decode(&mut at)?;
        }
        Ok(())
    }
    fn change_small(pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self> {
        let mut large = thresholds.is_large.then(|| Set::new(thresholds.seed));
        for change in verified(changes) {
            match &mut large {
                Some(large) => large.apply(change),
                None if change_pack(pack, change, thresholds) => {}
                None => {
                    let mut set = Set::of(Self::view_small(pack), thresholds.seed);
                    set.apply(change);
                    large = Some(set);
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
    fn view_small(pack: &[u8]) -> SetRef<'_> {
        match pack.split_first() {
            None => SetRef::Strings(&[]),
            Some((&STRINGS, bytes)) => SetRef::Strings(bytes),
            Some((&width, bytes)) => SetRef::Integers(Integers { width: width as usize, bytes }),
        }
    }
    fn view(&self) -> SetRef<'_> {
        SetRef::Large(&self.members)
    }
    fn bytes_used(&self) -> usize {
        self.members.bytes_used()
    }
    fn free(&mut self, nodes: usize) -> bool {
        self.members.free(nodes)
    }
    fn check_invariants(&self) {
        self.members.check_invariants();
    }
}

/// Makes a change to a pack; `false`, with nothing changed, if it has to become large for it.
fn change_pack(pack: &mut Vec<u8>, change: SetChange<'_>, thresholds: &Thresholds) -> bool {
    let view = Set::view_small(pack);
    match change {
        SetChange::Add { member } => {
            if pack.is_empty() {
                pack.push(parse_integer(member).map_or(STRINGS, |value| width(value) as u8));
            }
            match (Set::view_small(pack), parse_integer(member)) {
                (SetRef::Integers(integers), Some(value)) => match integers.find(value) {
                    Ok(_) => true,
                    Err(_) if integers.len() >= thresholds.set_integers => false,
                    Err(at) => {
                        insert_integer(pack, at, value);
                        true
                    }
                },
                (SetRef::Integers(integers), None) => {
                    let fits = integers.len() < STRINGS_MAX && member.len() <= STRING_BYTES_MAX;
                    if fits {
                        become_strings(pack);
                        string(pack, member);
                    }
                    fits
                }
                (SetRef::Strings(bytes), _) => {
                    let (mut len, mut there) = (0, false);
                    strings(bytes).for_each(|other| {
                        len += 1;
                        there |= other == member;
                    });
                    let fits = len < STRINGS_MAX && member.len() <= STRING_BYTES_MAX;
                    if !there && fits {
                        string(pack, member);
                    }
                    there || fits
                }
                (SetRef::Large(_), _) => unreachable!("a pack is small"),
            }
        }
        SetChange::Remove { member } => {
            match view {
                SetRef::Integers(integers) => {
                    if let Some(Ok(at)) = parse_integer(member).map(|value| integers.find(value)) {
                        let width = integers.width;
                        pack.drain(1 + at * width..1 + (at + 1) * width);
                    }
                }
                SetRef::Strings(bytes) => {
                    let mut at = Decoder::new(bytes);
                    while !at.is_at_end() {
                        let start = at.at();
                        if at.string().expect("a pack holds whole members") == member {
                            let end = at.at();
                            pack.drain(1 + start..1 + end);
                            break;
                        }
                    }
                }
                SetRef::Large(_) => unreachable!("a pack is small"),
            }
            true
        }
        SetChange::AsStrings => {
            match view {
                SetRef::Integers(integers) if integers.len() > STRINGS_MAX => return false,
                SetRef::Integers(_) => become_strings(pack),
                SetRef::Strings(_) if pack.is_empty() => pack.push(STRINGS),
                SetRef::Strings(_) | SetRef::Large(_) => {}
            }
            true
        }
    }
}

fn insert_integer(pack: &mut Vec<u8>, at: usize, value: i64) {
    if width(value) > pack[0] as usize {
        let SetRef::Integers(integers) = Set::view_small(pack) else { unreachable!("it holds integers") };
        let width = width(value);
        let wide = integers.iter().flat_map(|old| old.to_le_bytes().into_iter().take(width));
        let wide: Vec<u8> = std::iter::once(width as u8).chain(wide).collect();
        *pack = wide;
    }
    let width = pack[0] as usize;
    let at = 1 + at * width;
    pack.splice(at..at, value.to_le_bytes().into_iter().take(width));
}

fn become_strings(pack: &mut Vec<u8>) {
    let members = Set::view_small(pack).members();
    pack.clear();
    pack.push(STRINGS);
    members.iter().for_each(|member| string(pack, member));
}

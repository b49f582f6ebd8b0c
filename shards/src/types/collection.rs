//! What the keyspace knows of values that have elements: hashes, lists, sets, sorted sets, streams.
//!
//! A collection is small or large. A small one is a *pack*, bytes that lie in the entry beside the key. A large one is a
//! structure of its own, made of nodes that are shared until one side changes them (`Rc::make_mut`): its `clone` takes
//! time for nodes, not for elements, and is how a snapshot keeps a moment of it.
//!
//! Whatever happens to a collection is *changes*: bytes in an encoding of its type (append-only, as it is in logs). A command
//! looks, decides, and hands changes to the keyspace, which makes them here and logs them as they are; recovery and replicas
//! make the same changes. The rule that must hold: the same changes in the same order give the same content, in either
//! form. A collection that changes leave without elements is gone (but for a stream).

use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::stream::Stream;
use crate::units::{Deadline, Now};
use crate::wire::EditError;

/// The types of collections, by their numbers on disk: append-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Hash = 1,
    List = 2,
    Set = 3,
    SortedSet = 4,
    Stream = 5,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Hash, Kind::List, Kind::Set, Kind::SortedSet, Kind::Stream];

    pub fn from_byte(byte: u8) -> Result<Kind, EditError> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(EditError::UnknownKind(byte))
    }
    /// The name that TYPE replies.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hash => "hash",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Stream => "stream",
        }
    }
}

/// Where a small collection becomes a large one: live settings with Redis' names and defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// `hash-max-listpack-entries`, `hash-max-listpack-value`
    pub hash_entries: usize,
    pub hash_value_bytes: usize,
    /// `list-max-listpack-size`: elements of a node, or for -1 to -5 its bytes, 4 KiB to 64 KiB.
    pub list_node: i64,
    /// `set-max-intset-entries`
    pub set_integers: usize,
    /// `zset-max-listpack-entries`, `zset-max-listpack-value`
    pub sorted_set_entries: usize,
    pub sorted_set_value_bytes: usize,
    /// `stream-node-max-bytes`, `stream-node-max-entries`; 0: no limit
    pub stream_node_bytes: usize,
    pub stream_node_entries: usize,
    /// Nothing is small: how one that is large is read back as large.
    pub is_large: bool,
    /// For the hash functions of large collections: the shard's, so that nobody can choose elements that collide. Content and
    /// its digest must not depend on it; the order of elements may.
    pub seed: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            hash_entries: 512,
            hash_value_bytes: 64,
            list_node: -2,
            set_integers: 512,
            sorted_set_entries: 128,
            sorted_set_value_bytes: 64,
            stream_node_bytes: 4096,
            stream_node_entries: 100,
            is_large: false,
            seed: 0,
        }
    }
}

/// The large form of a type, with all that the keyspace asks of either form.
pub trait Collection: Clone {
    /// What readers see of it, the same for both forms.
    type View<'a>: View<'a>
    where
        Self: 'a;

    /// Whether bytes from outside are changes of this type: what passes can be handed to `change` and `change_small`, which then
    /// neither panic nor take more memory than in proportion to the changes. Changes that make no sense for the content at hand
    /// (the removal of what isn't there, an index beyond the end) do nothing.
    fn verify(changes: &[u8]) -> Result<(), EditError>;
    /// Makes verified changes to a small one, which may be empty, as a new one is. `Some`: it has outgrown the pack, this is the
    /// whole of it, with all changes made; the pack is left in any state.
    fn change_small(pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Self>;
    /// Makes verified changes.
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds);
    /// Reads a pack that `change_small` left.
    fn view_small(pack: &[u8]) -> Self::View<'_>;
    fn view(&self) -> Self::View<'_>;
    /// Bytes of memory that it holds outside of itself, kept as a running count. (Nodes shared with a clone count for both.)
    fn bytes_used(&self) -> usize;
    /// Frees about `nodes` of its nodes; whether there are more. It is read no more once this has begun.
    fn free(&mut self, nodes: usize) -> bool;
    /// Panics unless its structures agree with each other.
    fn check_invariants(&self);
}

/// A collection of either form, as readers see it.
pub trait View<'a>: Copy {
    /// Elements; of a stream, entries. Those that have expired and were not removed yet included.
    fn len(self) -> usize;
    fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// The same for the same content in either form, on every machine; made with `digest_bytes` and `mix`.
    fn digest(self) -> u64;
    /// The name that OBJECT ENCODING replies.
    fn encoding(self) -> &'static str;
    /// Appends changes that make this collection from an empty one, from `from` on (0: from the start), until about `bytes_max`
    /// bytes were appended or one element, if that is longer. Where to go on, if there is more.
    fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64>;
    /// Appends changes that make what a command with this need must see of it: all of it, unless the type can do with less.
    fn excerpt(self, _need: Need<'_>, out: &mut Vec<u8>) {
        self.export(0, usize::MAX, out);
    }
    /// When the first of its elements expires (fields of hashes), in the order of `Deadline` on each clock.
    fn next_deadlines(self) -> [Option<Deadline>; 2] {
        [None, None]
    }
    /// Appends changes that remove expired elements, at most `limit`; how many.
    fn expire(self, _now: Now, _limit: usize, _changes: &mut Vec<u8>) -> usize {
        0
    }
}

/// What a command needs of the collections at its keys where it runs elsewhere, on copies of them, and only its edits come back. Of
/// a large one the rest is left behind. One element more than is named comes along, so that an edit which takes all those
/// named leaves the copy empty only if that empties the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need<'a> {
    All,
    /// So many elements from each end.
    Ends(u64),
    /// Whether it has this element.
    Element(&'a [u8]),
}

impl<'a> Need<'a> {
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            Need::All => out.push(0),
            Need::Ends(count) => {
                out.push(1);
                out.extend_from_slice(&count.to_le_bytes());
            }
            Need::Element(element) => {
                out.push(2);
                out.extend_from_slice(element);
            }
        }
    }
    pub fn decode(bytes: &'a [u8]) -> Need<'a> {
        match bytes.split_first().expect("written by `encode`") {
            (0, _) => Need::All,
            (1, count) => Need::Ends(u64::from_le_bytes(count.try_into().expect("eight bytes"))),
            (_, element) => Need::Element(element),
        }
    }
}

/// A large collection of any type.
#[derive(Clone)]
pub enum Large {
    Hash(Hash),
    List(List),
    Set(Set),
    SortedSet(SortedSet),
    Stream(Stream),
}

/// Does the same for each type: `$large` becomes the inner value, `$type` its type.
macro_rules! for_each_type {
    ($value:expr, $inner:ident => $do:expr) => {
        match $value {
            Large::Hash($inner) => $do,
            Large::List($inner) => $do,
            Large::Set($inner) => $do,
            Large::SortedSet($inner) => $do,
            Large::Stream($inner) => $do,
        }
    };
}

impl Large {
    pub fn kind(&self) -> Kind {
        match self {
            Large::Hash(_) => Kind::Hash,
            Large::List(_) => Kind::List,
            Large::Set(_) => Kind::Set,
            Large::SortedSet(_) => Kind::SortedSet,
            Large::Stream(_) => Kind::Stream,
        }
    }
    pub fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        for_each_type!(self, large => large.change(changes, thresholds))
    }
    /// With what the enum itself takes.
    pub fn bytes_used(&self) -> usize {
        size_of::<Large>() + for_each_type!(self, large => large.bytes_used())
    }
    pub fn free(&mut self, nodes: usize) -> bool {
        for_each_type!(self, large => large.free(nodes))
    }
    pub fn check_invariants(&self) {
        for_each_type!(self, large => large.check_invariants())
    }
    pub fn view(&self) -> CollectionRef<'_> {
        match self {
            Large::Hash(large) => CollectionRef::Hash(large.view()),
            Large::List(large) => CollectionRef::List(large.view()),
            Large::Set(large) => CollectionRef::Set(large.view()),
            Large::SortedSet(large) => CollectionRef::SortedSet(large.view()),
            Large::Stream(large) => CollectionRef::Stream(large.view()),
        }
    }
}

/// `Collection::verify` of a type.
pub fn verify(kind: Kind, changes: &[u8]) -> Result<(), EditError> {
    match kind {
        Kind::Hash => Hash::verify(changes),
        Kind::List => List::verify(changes),
        Kind::Set => Set::verify(changes),
        Kind::SortedSet => SortedSet::verify(changes),
        Kind::Stream => Stream::verify(changes),
    }
}

/// `Collection::change_small` of a type.
pub fn change_small(kind: Kind, pack: &mut Vec<u8>, changes: &[u8], thresholds: &Thresholds) -> Option<Large> {
    match kind {
        Kind::Hash => Hash::change_small(pack, changes, thresholds).map(Large::Hash),
        Kind::List => List::change_small(pack, changes, thresholds).map(Large::List),
        Kind::Set => Set::change_small(pack, changes, thresholds).map(Large::Set),
        Kind::SortedSet => SortedSet::change_small(pack, changes, thresholds).map(Large::SortedSet),
        Kind::Stream => Stream::change_small(pack, changes, thresholds).map(Large::Stream),
    }
}

/// A view of any type.
#[derive(Clone, Copy)]
pub enum CollectionRef<'a> {
    Hash(<Hash as Collection>::View<'a>),
    List(<List as Collection>::View<'a>),
    Set(<Set as Collection>::View<'a>),
    SortedSet(<SortedSet as Collection>::View<'a>),
    Stream(<Stream as Collection>::View<'a>),
}

/// Does the same for each type of view.
macro_rules! for_each_view {
    ($value:expr, $view:ident => $do:expr) => {
        match $value {
            CollectionRef::Hash($view) => $do,
            CollectionRef::List($view) => $do,
            CollectionRef::Set($view) => $do,
            CollectionRef::SortedSet($view) => $do,
            CollectionRef::Stream($view) => $do,
        }
    };
}

impl<'a> CollectionRef<'a> {
    pub fn small(kind: Kind, pack: &'a [u8]) -> Self {
        match kind {
            Kind::Hash => CollectionRef::Hash(Hash::view_small(pack)),
            Kind::List => CollectionRef::List(List::view_small(pack)),
            Kind::Set => CollectionRef::Set(Set::view_small(pack)),
            Kind::SortedSet => CollectionRef::SortedSet(SortedSet::view_small(pack)),
            Kind::Stream => CollectionRef::Stream(Stream::view_small(pack)),
        }
    }
    pub fn kind(self) -> Kind {
        match self {
            CollectionRef::Hash(_) => Kind::Hash,
            CollectionRef::List(_) => Kind::List,
            CollectionRef::Set(_) => Kind::Set,
            CollectionRef::SortedSet(_) => Kind::SortedSet,
            CollectionRef::Stream(_) => Kind::Stream,
        }
    }
    /// Whether there is nothing to keep: a stream may be empty, the others not.
    pub fn is_gone(self) -> bool {
        !matches!(self, CollectionRef::Stream(_)) && for_each_view!(self, view => view.is_empty())
    }
    pub fn digest(self) -> u64 {
        for_each_view!(self, view => view.digest())
    }
    pub fn encoding(self) -> &'static str {
        for_each_view!(self, view => view.encoding())
    }
    pub fn export(self, from: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<u64> {
        for_each_view!(self, view => view.export(from, bytes_max, out))
    }
    pub fn excerpt(self, need: Need<'_>, out: &mut Vec<u8>) {
        for_each_view!(self, view => view.excerpt(need, out))
    }
    pub fn next_deadlines(self) -> [Option<Deadline>; 2] {
        for_each_view!(self, view => view.next_deadlines())
    }
    pub fn expire(self, now: Now, limit: usize, changes: &mut Vec<u8>) -> usize {
        for_each_view!(self, view => view.expire(now, limit, changes))
    }
}

/// Length and bytes, eight at a time, into a digest.
pub fn digest_bytes(digest: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(mix(digest, bytes.len() as u64), mix)
}

/// A step of splitmix64 (Steele et al., OOPSLA 2014) over the digest so far and a word.
pub fn mix(digest: u64, word: u64) -> u64 {
    let z = (digest ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

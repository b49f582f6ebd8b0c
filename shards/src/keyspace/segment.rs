//! One segment of the table: 64 buckets of 8 slots, each bucket one cache line.
//!
//! ```text
//! slot:   | tag 16 | address of the entry, 45 bits | 3 |
//! bucket: | slot 0 .. slot 7 |   the low 3 bits of slots 0 to 2 hold `passes`, 9 bits
//! ```
//! A key lives in its home bucket, or, when that is full, in the next one with room (wrapping round). `passes` of a
//! bucket counts the keys that went past it, exactly: a search stops at the first bucket nobody went past, and
//! removals leave no tombstones.

use super::packed::Packed;

pub(super) const BUCKETS: usize = 64;
const SLOTS: usize = 8;
/// Keys that a segment can hold.
pub(super) const KEYS_MAX: usize = BUCKETS * SLOTS;

const HOME_SHIFT: u32 = 16;
const TAG_SHIFT: u32 = 48;
const ADDRESS_MASK: u64 = (1 << TAG_SHIFT) - 8;
const SPARE_MASK: u64 = 7;
const SPARE_BITS: u32 = 3;

/// The bucket where a key of this hash lives if there is room.
pub(super) fn home(hash: u64) -> usize {
    (hash >> HOME_SHIFT) as usize % BUCKETS
}

/// Sixteen bits of the hash that neither the directory nor the bucket uses.
fn tag(hash: u64) -> u64 {
    hash & 0xffff
}

#[repr(C, align(64))]
pub(super) struct Segment {
    len: u16,
    /// Bits of the prefix that all keys here share.
    pub(super) depth: u8,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket([u64; SLOTS]);

/// Where a key was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot {
    bucket: usize,
    slot: usize,
    /// Buckets between home and here.
    distance: usize,
}

impl Segment {
    pub(super) fn new(depth: u8) -> Self {
        Segment { len: 0, depth, buckets: [Bucket([0; SLOTS]); BUCKETS] }
    }
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
    /// The entry of this hash for which `is_it` says yes.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Packed) -> bool) -> Option<Spot> {
        let tag = tag(hash);
        for distance in 0..BUCKETS {
            let at = (home(hash) + distance) % BUCKETS;
            let bucket = &self.buckets[at];
            let mut matches = bucket.matches(tag);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                if bucket.entry(slot).is_some_and(&mut is_it) {
                    return Some(Spot { bucket: at, slot, distance });
                }
            }
            if !bucket.is_passed() {
                return None;
            }
        }
        None
    }
    pub(super) fn entry(&self, spot: Spot) -> Packed {
        self.buckets[spot.bucket].entry(spot.slot).expect("a spot names a slot in use")
    }
    /// Points a slot in use to where its entry moved.
    pub(super) fn replace(&mut self, spot: Spot, entry: Packed) {
        let slot = &mut self.buckets[spot.bucket].0[spot.slot];
        *slot = *slot & !ADDRESS_MASK | entry.address();
    }
    /// Puts an entry at most `reach` buckets from home; whether there was room.
    pub(super) fn insert(&mut self, hash: u64, entry: Packed, reach: usize) -> bool {
        let home = home(hash);
        for distance in 0..reach.min(BUCKETS) {
            let bucket = &mut self.buckets[(home + distance) % BUCKETS];
            if let Some(slot) = bucket.free() {
                bucket.0[slot] |= tag(hash) << TAG_SHIFT | entry.address();
                self.len += 1;
                for passed in 0..distance {
                    self.buckets[(home + passed) % BUCKETS].add_passes(1);
                }
                return true;
            }
        }
        false
    }
    pub(super) fn remove(&mut self, spot: Spot) {
        self.buckets[spot.bucket].0[spot.slot] &= SPARE_MASK;
        self.len -= 1;
        for back in 1..=spot.distance {
            self.buckets[(spot.bucket + BUCKETS - back) % BUCKETS].add_passes(-1);
        }
    }
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.buckets = [Bucket([0; SLOTS]); BUCKETS];
    }
    /// All entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Packed> + '_ {
        self.buckets.iter().flat_map(|bucket| (0..SLOTS).filter_map(|slot| bucket.entry(slot)))
    }
    /// Slot `number` of `KEYS_MAX`.
    pub(super) fn nth(&self, number: usize) -> Option<Packed> {
        self.buckets[number / SLOTS].entry(number % SLOTS)
    }
    /// Entries that may have bucket `home` as theirs: those in it and, where keys went past, behind it.
    pub(super) fn near_home(&self, home: usize) -> impl Iterator<Item = Packed> + '_ {
        let mut ended = false;
        let buckets = (0..BUCKETS).map(move |distance| &self.buckets[(home + distance) % BUCKETS]);
        let reached = buckets.take_while(move |bucket| !std::mem::replace(&mut ended, !bucket.is_passed()));
        reached.flat_map(|bucket| (0..SLOTS).filter_map(|slot| bucket.entry(slot)))
    }
    /// The cache line to load first for this hash.
    pub(super) fn line(&self, hash: u64) -> *const u8 {
        (&raw const self.buckets[home(hash)]).cast()
    }
    /// Entries in the home bucket whose tag fits, most likely one or none.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = Packed> + '_ {
        let bucket = &self.buckets[home(hash)];
        let matches = bucket.matches(tag(hash));
        (0..SLOTS).filter(move |slot| matches >> slot & 1 == 1).filter_map(|slot| bucket.entry(slot))
    }
    /// Whether a search for this hash may have to look behind its home bucket.
    pub(super) fn overflows(&self, hash: u64) -> bool {
        self.buckets[home(hash)].is_passed()
    }

    /// Panics unless counts agree with contents, given the hash of each entry.
    pub(super) fn check_invariants(&self, hash_of: impl Fn(Packed) -> u64) {
        let mut passes = [0u32; BUCKETS];
        let mut len = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            for slot in 0..SLOTS {
                let Some(entry) = bucket.entry(slot) else {
                    assert_eq!(bucket.0[slot] & !SPARE_MASK, 0, "a free slot holds no tag");
                    continue;
                };
                let hash = hash_of(entry);
                assert_eq!(bucket.0[slot] >> TAG_SHIFT, tag(hash), "a slot's tag is its key's");
                let distance = (at + BUCKETS - home(hash)) % BUCKETS;
                (0..distance).for_each(|passed| passes[(home(hash) + passed) % BUCKETS] += 1);
                len += 1;
            }
        }
        assert_eq!(len, self.len(), "a segment counts its keys");
        for (bucket, passes) in self.buckets.iter().zip(passes) {
            assert_eq!(bucket.passes(), passes, "a bucket counts who went past it");
        }
    }
}

impl Bucket {
    /// Bit per slot whose tag is this one; free slots may be among them when it is 0.
    #[inline]
    fn matches(&self, tag: u64) -> u32 {
        let mut found = 0;
        for (slot, bits) in self.0.iter().enumerate() {
            found |= ((bits >> TAG_SHIFT == tag) as u32) << slot;
        }
        found
    }
    #[inline]
    fn entry(&self, slot: usize) -> Option<Packed> {
        // SAFETY: `Segment::insert` and `replace` put only addresses of live entries here, and the table takes an
        // entry out before it frees it.
        unsafe { Packed::from_address(self.0[slot] & ADDRESS_MASK) }
    }
    fn free(&self) -> Option<usize> {
        self.0.iter().position(|bits| bits & ADDRESS_MASK == 0)
    }
    #[inline]
    fn is_passed(&self) -> bool {
        (self.0[0] | self.0[1] | self.0[2]) & SPARE_MASK != 0
    }
    fn passes(&self) -> u32 {
        (0..3).map(|slot| ((self.0[slot] & SPARE_MASK) as u32) << (SPARE_BITS * slot as u32)).sum()
    }
    fn add_passes(&mut self, change: i32) {
        let passes = self.passes().checked_add_signed(change).expect("a key that went past is counted");
        for slot in 0..3 {
            let bits = (passes >> (SPARE_BITS * slot as u32)) as u64 & SPARE_MASK;
            self.0[slot] = self.0[slot] & !SPARE_MASK | bits;
        }
    }
}

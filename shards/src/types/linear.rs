//! Linear hashing (Litwin, VLDB 1980): the low bits of a hash name a leaf; when leaves are full on average, the next in turn is
//! split in two, and when they are nearly empty, the last one goes back into the one it came from. So a map grows and shrinks a
//! leaf at a time, has no directory, and takes the same memory per element at any size. Here is which leaf it is; `leaves` is how
//! many there are, at least one.

/// Bits of a scan's cursor.
const CURSOR_BITS: u32 = 48;

/// Leaves that have been split in this round, and those that came of it, go by one bit more.
#[inline]
pub(super) fn leaf_of(hash: u64, leaves: usize) -> usize {
    let bits = leaves.ilog2();
    let index = hash as usize & ((2 << bits) - 1);
    if index < leaves { index } else { index & ((1 << bits) - 1) }
}

/// The leaf that is split next, or the one into which the leaf behind these is joined.
pub(super) fn next_split(leaves: usize) -> usize {
    leaves - (1 << leaves.ilog2())
}

/// Leaf by leaf from `cursor` on (0: from the start) for as long as `visit` says so; where to go on, 0 at the end. What has a leaf
/// from a scan's start to its end is in a visited one at least once, however many leaves there are meanwhile. Cursors are
/// below 2^48.
pub(super) fn scan(cursor: u64, leaves: usize, mut visit: impl FnMut(usize) -> bool) -> u64 {
    // A leaf has the hashes that end in its bits; reversed, those are one range, which splits and joins divide and unite.
    let mut at = cursor;
    while at >> CURSOR_BITS == 0 {
        let index = leaf_of((at << (64 - CURSOR_BITS)).reverse_bits(), leaves);
        let goes_on = visit(index);
        let span = 1 << (CURSOR_BITS - bits_of(index, leaves));
        at = (at | (span - 1)) + 1;
        if !goes_on && at >> CURSOR_BITS == 0 {
            return at;
        }
    }
    0
}

/// How many bits of a hash name this leaf.
fn bits_of(index: usize, leaves: usize) -> u32 {
    let bits = leaves.ilog2();
    let round = 1 << bits;
    if index >= round || index + round < leaves { bits + 1 } else { bits }
}

//! How much memory the bytes of a node get: what allocators give anyway. Sizes in between are rounded up by the allocator, and
//! what they were rounded up by would lie idle.

/// The least size of at least so many bytes of which allocators have blocks: multiples of 16, from 128 on four sizes for each
/// power of two.
pub(super) fn block_bytes(bytes: usize) -> usize {
    let step = if bytes <= 128 { 16 } else { bytes.next_power_of_two() / 8 };
    bytes.next_multiple_of(step)
}

/// Makes room for `more`, as little as there is to be had.
#[inline]
pub(super) fn reserve(bytes: &mut Vec<u8>, more: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        bytes.reserve_exact(block_bytes(needed) - bytes.len());
    }
}

/// Gives back what was left behind by removals, but not so much that the next addition needs it again.
#[inline]
pub(super) fn trim(bytes: &mut Vec<u8>) {
    if block_bytes(bytes.len() + bytes.len() / 4) < bytes.capacity() {
        bytes.shrink_to(block_bytes(bytes.len()));
    }
}

//! Memory for entries and table segments: pages cut into objects of one size, so that a small entry costs its
//! bytes rounded up to 8 and nothing more. What is larger than a page class comes from the global allocator.
//!
//! A page knows its own class and free objects; a pointer finds its page by masking. Objects never touched are
//! not linked into free lists, so an almost empty page costs only the memory it uses. Who frees an object says
//! its size again: entries know theirs, and no header per object is needed.

use super::segment::Segment;
use crate::types::Large;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

/// Largest object that lives in a page of its class.
pub(super) const SMALL_BYTES_MAX: usize = 512;
/// Step between the classes, and the alignment of every object.
const STEP: usize = 8;
const SEGMENT_CLASS: usize = SMALL_BYTES_MAX / STEP;
const CLASSES: usize = SEGMENT_CLASS + 1;
const PAGE_BYTES: usize = 64 << 10;
/// 63 segments and the page's header fill this exactly.
const SEGMENT_PAGE_BYTES: usize = 256 << 10;
/// Objects start here: keeps segments on cache lines.
const HEADER_BYTES: usize = 64;
/// Sizes beyond the classes are rounded to this, so that a value that grows a little stays where it is.
const LARGE_STEP: usize = 128;
/// Nodes of a large collection that are freed at a time: some 10 us.
const BURIED_NODES: usize = 128;
/// Slots of the table hold this many bits of an address.
const ADDRESS_BITS: u32 = 48;

const _: () = assert!(HEADER_BYTES + 63 * size_of::<Segment>() == SEGMENT_PAGE_BYTES);
const _: () = assert!(size_of::<Page>() <= HEADER_BYTES);

/// Bytes that an object of `bytes` really gets.
pub(super) fn capacity(bytes: usize) -> usize {
    let step = if bytes <= SMALL_BYTES_MAX { STEP } else { LARGE_STEP };
    bytes.next_multiple_of(step)
}

/// Head of a page. Offsets count from the page's start; 0 is none.
struct Page {
    /// Neighbours in the list of pages of this class with room.
    next: *mut Page,
    previous: *mut Page,
    class: u32,
    used: u32,
    /// First object of the chain of freed ones.
    free: u32,
    /// First byte that was never handed out.
    fresh: u32,
}

pub(super) struct Arena {
    /// Per class: pages with room, the one in use first.
    with_room: [*mut Page; CLASSES],
    used: usize,
    pages: usize,
    /// Large collections nobody sees any more, to be freed piece by piece.
    buried: Vec<Large>,
}

// SAFETY: the arena owns its pages and what is buried alone; nothing of them is bound to a thread.
unsafe impl Send for Arena {}

impl Default for Arena {
    fn default() -> Self {
        Arena { with_room: [std::ptr::null_mut(); CLASSES], used: 0, pages: 0, buried: Vec::new() }
    }
}

impl Arena {
    /// Uninitialised memory for `bytes`, aligned to 8.
    pub(super) fn alloc(&mut self, bytes: usize) -> NonNull<u8> {
        let size = capacity(bytes.max(1));
        self.used += size;
        if size <= SMALL_BYTES_MAX { self.take(size / STEP - 1) } else { alloc_aligned(size, STEP) }
    }
    /// Gives back what `alloc` gave.
    ///
    /// # Safety
    /// `object` came from `alloc` of this arena with the same `bytes` (up to `capacity`), and is used no more.
    pub(super) unsafe fn free(&mut self, object: NonNull<u8>, bytes: usize) {
        let size = capacity(bytes.max(1));
        self.used -= size;
        if size <= SMALL_BYTES_MAX {
            // SAFETY: the caller's promise; the size gives the class it was taken from.
            unsafe { self.give_back(object, size / STEP - 1) }
        } else {
            // SAFETY: the caller's promise; `alloc` used this layout.
            unsafe { dealloc(object.as_ptr(), layout(size, STEP)) }
        }
    }
    /// Moves a large object (more than `SMALL_BYTES_MAX` before and after) to another size, keeping its bytes.
    ///
    /// # Safety
    /// As `free`.
    pub(super) unsafe fn resize_large(&mut self, object: NonNull<u8>, from: usize, to: usize) -> NonNull<u8> {
        assert!(from > SMALL_BYTES_MAX && to > SMALL_BYTES_MAX, "only large objects are resized");
        let (from, to) = (capacity(from), capacity(to));
        self.used = self.used - from + to;
        // SAFETY: the caller's promise; `to` is not 0.
        let moved = unsafe { realloc(object.as_ptr(), layout(from, STEP), to) };
        NonNull::new(moved).inspect(check_address).unwrap_or_else(|| handle_alloc_error(layout(to, STEP)))
    }
    /// A segment of no keys.
    pub(super) fn alloc_segment(&mut self, depth: u8) -> NonNull<Segment> {
        self.used += size_of::<Segment>();
        let segment = self.take(SEGMENT_CLASS).cast::<Segment>();
        // SAFETY: the class has objects of a segment's size and alignment.
        unsafe { segment.write(Segment::new(depth)) };
        segment
    }
    /// # Safety
    /// `segment` came from `alloc_segment` of this arena and is used no more.
    pub(super) unsafe fn free_segment(&mut self, segment: NonNull<Segment>) {
        self.used -= size_of::<Segment>();
        // SAFETY: the caller's promise.
        unsafe { self.give_back(segment.cast(), SEGMENT_CLASS) };
    }
    /// Counts the memory of large collections, which is the global allocator's.
    pub(super) fn large_changed(&mut self, before: usize, after: usize) {
        self.used = self.used - before + after;
    }
    /// Takes a large collection that was counted, and frees it: at once, if it isn't too large for that.
    pub(super) fn bury(&mut self, large: Large) {
        self.buried.push(large);
        self.free_buried();
    }
    /// Frees a piece of what is buried; whether there is more.
    pub(super) fn free_buried(&mut self) -> bool {
        let Some(large) = self.buried.last_mut() else { return false };
        let before = large.bytes_used();
        let more = large.free(BURIED_NODES);
        let after = if more { large.bytes_used() } else { 0 };
        self.used = self.used - before + after;
        if !more {
            self.buried.pop();
        }
        !self.buried.is_empty()
    }
    /// Bytes of large collections that are buried and not freed yet.
    pub(super) fn buried_bytes(&self) -> usize {
        self.buried.iter().map(Large::bytes_used).sum()
    }
    /// Bytes of all objects handed out, segments and large ones included, and of large collections.
    pub(super) fn used(&self) -> usize {
        self.used
    }
    /// Bytes of pages held from the global allocator.
    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    fn take(&mut self, class: usize) -> NonNull<u8> {
        let mut at = self.with_room[class];
        if at.is_null() {
            at = self.new_page(class);
        }
        // SAFETY: pages in the lists are live, and only this arena reaches them.
        let page = unsafe { &mut *at };
        let offset = if page.free != 0 { page.free } else { page.fresh };
        // SAFETY: both offsets lie within the page.
        let object = unsafe { NonNull::new_unchecked(at.cast::<u8>().add(offset as usize)) };
        if page.free != 0 {
            // SAFETY: a freed object begins with the offset of the next one, and objects are aligned to 8.
            page.free = unsafe { object.cast::<u32>().read() };
        } else {
            page.fresh += object_bytes(class) as u32;
        }
        page.used += 1;
        if page.free == 0 && page.fresh as usize + object_bytes(class) > page_bytes(class) {
            self.unlink(at, class);
        }
        object
    }

    /// # Safety
    /// `object` was taken from `class` and is used no more.
    unsafe fn give_back(&mut self, object: NonNull<u8>, class: usize) {
        let base = object.as_ptr().map_addr(|address| address & !(page_bytes(class) - 1)).cast::<Page>();
        // SAFETY: pages are aligned to their size, so the masked address is the header of the object's page.
        let page = unsafe { &mut *base };
        assert_eq!(page.class as usize, class, "an object is given back to the class it came from");
        let was_full = page.free == 0 && page.fresh as usize + object_bytes(class) > page_bytes(class);
        // SAFETY: the object is ours again, at least 8 bytes, and aligned to 8.
        unsafe { object.cast::<u32>().write(page.free) };
        page.free = (object.as_ptr().addr() - base.addr()) as u32;
        page.used -= 1;
        if page.used == 0 && !was_full && !(page.next.is_null() && page.previous.is_null()) {
            // The last page of a class stays: it would be wanted again at once.
            self.unlink(base, class);
            self.pages -= page_bytes(class);
            // SAFETY: no object of the page is in use, and no list holds it any more.
            unsafe { dealloc(base.cast(), layout(page_bytes(class), page_bytes(class))) };
        } else if was_full {
            self.link(base, class);
        }
    }

    fn new_page(&mut self, class: usize) -> *mut Page {
        let page = alloc_aligned(page_bytes(class), page_bytes(class)).as_ptr().cast::<Page>();
        let (next, previous) = (std::ptr::null_mut(), std::ptr::null_mut());
        let head = Page { next, previous, class: class as u32, used: 0, free: 0, fresh: HEADER_BYTES as u32 };
        // SAFETY: fresh memory, large and aligned enough for the header.
        unsafe { page.write(head) };
        self.pages += page_bytes(class);
        self.link(page, class);
        page
    }

    fn link(&mut self, at: *mut Page, class: usize) {
        let first = self.with_room[class];
        // SAFETY: `at` is a live page of this arena.
        let page = unsafe { &mut *at };
        page.next = first;
        page.previous = std::ptr::null_mut();
        if !first.is_null() {
            // SAFETY: pages in the lists are live; `first` is another page than `at`.
            unsafe { (*first).previous = at };
        }
        self.with_room[class] = at;
    }

    fn unlink(&mut self, at: *mut Page, class: usize) {
        // SAFETY: `at` is a live page of this arena.
        let page = unsafe { &mut *at };
        let (next, previous) = (page.next, page.previous);
        page.next = std::ptr::null_mut();
        page.previous = std::ptr::null_mut();
        if previous.is_null() {
            self.with_room[class] = next;
        } else {
            // SAFETY: neighbours in a list are live, and other pages than `at`.
            unsafe { (*previous).next = next };
        }
        if !next.is_null() {
            // SAFETY: as above.
            unsafe { (*next).previous = previous };
        }
    }
}

impl Drop for Arena {
    /// The pages kept in reserve. Pages in use would leak: who owns entries frees them first.
    fn drop(&mut self) {
        for class in 0..CLASSES {
            let mut at = self.with_room[class];
            while !at.is_null() {
                // SAFETY: pages in the lists are live.
                let (next, used) = unsafe { ((*at).next, (*at).used) };
                debug_assert_eq!(used, 0, "entries are freed before their arena");
                // SAFETY: the list is not walked again, and nothing in the page is in use.
                unsafe { dealloc(at.cast(), layout(page_bytes(class), page_bytes(class))) };
                at = next;
            }
        }
    }
}

fn object_bytes(class: usize) -> usize {
    if class == SEGMENT_CLASS { size_of::<Segment>() } else { (class + 1) * STEP }
}

fn page_bytes(class: usize) -> usize {
    if class == SEGMENT_CLASS { SEGMENT_PAGE_BYTES } else { PAGE_BYTES }
}

fn layout(bytes: usize, align: usize) -> Layout {
    Layout::from_size_align(bytes, align).expect("sizes stay far below isize::MAX, alignments are powers of two")
}

fn alloc_aligned(bytes: usize, align: usize) -> NonNull<u8> {
    // SAFETY: no caller asks for 0 bytes.
    let memory = unsafe { alloc(layout(bytes, align)) };
    NonNull::new(memory).inspect(check_address).unwrap_or_else(|| handle_alloc_error(layout(bytes, align)))
}

fn check_address(memory: &NonNull<u8>) {
    assert!(memory.as_ptr().addr() >> ADDRESS_BITS == 0, "an address has more than 48 bits");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_of_all_sizes_returns_every_byte_and_nearly_every_page() {
        let seed = 7;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut arena = Arena::default();
        let mut live: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
        for round in 0..200_000 {
            let grow = if round < 100_000 { 60 } else { 40 };
            if live.is_empty() || random.u32(0..100) < grow {
                let bytes = if random.u8(0..50) == 0 { random.usize(1..3000) } else { random.usize(1..100) };
                let (object, fill) = (arena.alloc(bytes), random.u8(..));
                assert_eq!(object.as_ptr().addr() % 8, 0);
                // SAFETY: just allocated with that many bytes.
                unsafe { object.as_ptr().write_bytes(fill, bytes) };
                live.push((object, bytes, fill));
            } else {
                let (object, bytes, fill) = live.swap_remove(random.usize(..live.len()));
                // SAFETY: live, and written over its whole length.
                let held = unsafe { std::slice::from_raw_parts(object.as_ptr(), bytes) };
                assert!(held.iter().all(|&byte| byte == fill), "no two objects overlap");
                // SAFETY: allocated with these bytes, dropped from the list.
                unsafe { arena.free(object, bytes) };
            }
            assert!(round % 1000 != 0 || arena.used() == live.iter().map(|o| capacity(o.1)).sum::<usize>());
        }
        for (object, bytes, _) in live {
            // SAFETY: allocated with these bytes, dropped from the list.
            unsafe { arena.free(object, bytes) };
        }
        assert_eq!(arena.used(), 0);
        assert!(arena.pages() <= CLASSES * PAGE_BYTES);
    }
}

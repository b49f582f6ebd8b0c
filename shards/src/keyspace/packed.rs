//! One entry, packed into one allocation of the arena:
//!
//! ```text
//! | flags 1 | access 3 | key length 1 or 4 | value length 1 or 2 | deadline 0 or 8 | key | value |
//! ```
//! The value is the text, or an integer in as few of 1, 2, 4, 8 bytes as hold it, or, for a text longer than
//! `INLINE_BYTES_MAX`, the address, length and capacity of a buffer of its own, which can grow without moving the
//! entry. A small collection is like a text: a byte for its kind, and its pack. Of a large one there is the address.
//! All numbers little endian, unaligned.
//!
//! The flags: kind of value 3 (bit 6 is kept for more), deadline, long key, long value, and, on top, the mark, which is
//! the table's: it says for which frozen moment the entry is saved, and nothing about the entry's shape.
//!
//! A `Packed` is the address of a live entry. The rule that makes reading it safe: it is copied only by the table,
//! which forgets every copy before it frees the entry.

use super::arena::{Arena, SMALL_BYTES_MAX, capacity};
use super::entry::{Entry, NextDeadlines, StringRef, Value};
use crate::types::{self, Kind, Large, Thresholds};
use crate::units::Deadline;
use std::ptr::NonNull;

/// Longest text kept in the entry itself.
pub(super) const INLINE_BYTES_MAX: usize = 1024;
const _: () = assert!(INLINE_BYTES_MAX > SMALL_BYTES_MAX, "buffers can be resized by the global allocator");

/// Growing buffers get this share of their size as room, at most.
const GROWTH_BYTES_MAX: usize = 1 << 20;

const ACCESS_AT: usize = 1;
const LENGTHS_AT: usize = 4;
const DEADLINE_BYTES: usize = 8;
const BUFFER_BYTES: usize = 24;
const ADDRESS_BYTES: usize = 8;

const KIND_MASK: u8 = 7;
const INTEGER: u8 = 0;
const BYTES: u8 = 1;
const RAW: u8 = 2;
const BYTES_BUFFER: u8 = 3;
const RAW_BUFFER: u8 = 4;
const PACK: u8 = 5;
const PACK_BUFFER: u8 = 6;
const LARGE: u8 = 7;

const HAS_DEADLINE: u8 = 1 << 3;
const LONG_KEY: u8 = 1 << 4;
const LONG_VALUE: u8 = 1 << 5;
const MARK: u8 = 1 << 7;

/// One bit of an entry, to tell entries that were seen to from those that were not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark(u8);

impl Mark {
    /// The other one.
    pub(super) fn flipped(self) -> Self {
        Mark(self.0 ^ MARK)
    }
}

/// A value to be kept.
pub(super) enum NewValue<'a> {
    String(StringRef<'a>),
    /// The pack of a small collection.
    Small(Kind, &'a [u8]),
    Large(Box<Large>),
}

impl<'a> From<StringRef<'a>> for NewValue<'a> {
    fn from(value: StringRef<'a>) -> Self {
        NewValue::String(value)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packed(NonNull<u8>);

/// The lengths of an entry, and what follows from them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Without the mark.
    flags: u8,
    key_len: usize,
    /// Bytes of the value within the entry.
    value_len: usize,
    key_at: usize,
}

impl Shape {
    fn new(kind: u8, key_len: usize, value_len: usize, has_deadline: bool) -> Self {
        let (long_key, long_value) = (key_len > u8::MAX as usize, value_len > u8::MAX as usize);
        let mut flags = kind;
        flags |= if has_deadline { HAS_DEADLINE } else { 0 };
        flags |= if long_key { LONG_KEY } else { 0 };
        flags |= if long_value { LONG_VALUE } else { 0 };
        Shape { flags, key_len, value_len, key_at: key_at(flags) }
    }
    fn kind(&self) -> u8 {
        self.flags & KIND_MASK
    }
    fn has_deadline(&self) -> bool {
        self.flags & HAS_DEADLINE != 0
    }
    fn value_at(&self) -> usize {
        self.key_at + self.key_len
    }
    fn bytes(&self) -> usize {
        self.value_at() + self.value_len
    }
}

fn key_at(flags: u8) -> usize {
    let key_length = if flags & LONG_KEY != 0 { 4 } else { 1 };
    let value_length = if flags & LONG_VALUE != 0 { 2 } else { 1 };
    LENGTHS_AT + key_length + value_length + if flags & HAS_DEADLINE != 0 { DEADLINE_BYTES } else { 0 }
}

/// A text outside its entry.
#[derive(Clone, Copy)]
struct Buffer {
    memory: Packed,
    len: usize,
    capacity: usize,
}

impl Packed {
    /// The address as slots hold it: 48 bits, a multiple of 8.
    pub(super) fn address(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }
    /// The entry at an address, `None` for 0.
    ///
    /// # Safety
    /// `address` is 0 or came from `address` of an entry that still lives.
    pub(super) unsafe fn from_address(address: u64) -> Option<Self> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(address as usize)).map(Packed)
    }

    // ---- reading -----------------------------------------------------------------------------------------

    #[inline]
    pub(super) fn key<'a>(self) -> &'a [u8] {
        let shape = self.shape();
        self.slice(shape.key_at, shape.key_len)
    }
    pub(super) fn deadline(self) -> Option<Deadline> {
        let shape = self.shape();
        shape.has_deadline().then(|| Deadline::from_bits(self.u64(shape.key_at - DEADLINE_BYTES)))?
    }
    /// When the first of its elements expires, on each clock.
    #[inline]
    pub(super) fn next_deadlines(self) -> NextDeadlines {
        match self.byte(0) & KIND_MASK {
            PACK | PACK_BUFFER | LARGE => self.entry().next_deadlines(),
            _ => [None, None],
        }
    }
    #[inline]
    pub(super) fn mark(self) -> Mark {
        Mark(self.byte(0) & MARK)
    }
    fn access(self) -> u32 {
        u32::from_le_bytes(self.slice(0, 4).try_into().expect("four bytes")) >> 8
    }
    /// Everything, for as long as the table keeps the entry: the caller picks a lifetime within its borrow of the table.
    #[inline]
    pub(super) fn entry<'a>(self) -> Entry<'a> {
        let shape = self.shape();
        Entry {
            key: self.slice(shape.key_at, shape.key_len),
            value: self.value(&shape),
            deadline: shape
                .has_deadline()
                .then(|| Deadline::from_bits(self.u64(shape.key_at - DEADLINE_BYTES)))
                .flatten(),
            access: self.access(),
        }
    }
    /// Notes the time of an access (24 bits), without dirtying the cache line when it is the same.
    #[inline]
    pub(super) fn note_access(self, access: u32) {
        if self.access() != access {
            self.write(ACCESS_AT, &access.to_le_bytes()[..3]);
        }
    }

    // ---- making and changing: what replaces an entry keeps its mark --------------------------------------

    pub(super) fn build(
        arena: &mut Arena,
        mark: Mark,
        key: &[u8],
        access: u32,
        deadline: Option<Deadline>,
        value: NewValue<'_>,
    ) -> Self {
        let (kind, value_len) = stored(&value);
        let shape = Shape::new(kind, key.len(), value_len, deadline.is_some());
        let new = Self::begin(arena, shape, mark, key, access, deadline);
        new.write_value(arena, &shape, value);
        new
    }
    /// Gives the entry another value and deadline, in place when the bytes it takes stay of one class. The result
    /// replaces `self`.
    #[inline]
    pub(super) fn overwrite(self, arena: &mut Arena, value: NewValue<'_>, deadline: Option<Deadline>) -> Self {
        let old = self.shape();
        let (kind, value_len) = stored(&value);
        let new = Shape::new(kind, old.key_len, value_len, deadline.is_some());
        if capacity(new.bytes()) != capacity(old.bytes()) {
            let moved = Self::build(arena, self.mark(), self.key(), self.access(), deadline, value);
            // SAFETY: `self` is replaced by `moved`.
            unsafe { self.free(arena) };
            return moved;
        }
        if let Some(buffer) = self.buffer(&old) {
            if let (BYTES_BUFFER | RAW_BUFFER, NewValue::String(StringRef::Bytes(bytes) | StringRef::Raw(bytes))) =
                (kind, &value)
                && bytes.len() <= buffer.capacity
                && bytes.len() >= buffer.capacity / 2
            {
                buffer.memory.write(0, bytes);
                self.reshape(&old, &new, deadline);
                self.write_buffer(&new, Buffer { len: bytes.len(), ..buffer });
                return self;
            }
            // SAFETY: the value that names the buffer is overwritten below.
            unsafe { arena.free(buffer.memory.0, buffer.capacity) };
        }
        if old.kind() == LARGE {
            arena.bury(*self.take_large(&old));
        }
        self.reshape(&old, &new, deadline);
        self.write_value(arena, &new, value);
        self
    }
    pub(super) fn set_mark(self, mark: Mark) {
        self.write(0, &[self.byte(0) & !MARK | mark.0]);
    }
    /// Gives the entry another deadline. The result replaces `self`.
    pub(super) fn with_deadline(self, arena: &mut Arena, deadline: Option<Deadline>) -> Self {
        let old = self.shape();
        let new = Shape::new(old.kind(), old.key_len, old.value_len, deadline.is_some());
        if old == new {
            self.write_deadline(&new, deadline);
            return self;
        }
        self.rebuild(arena, new, self.key(), deadline)
    }
    /// Gives the entry another key. The result replaces `self`.
    pub(super) fn with_key(self, arena: &mut Arena, key: &[u8]) -> Self {
        let old = self.shape();
        let new = Shape::new(old.kind(), key.len(), old.value_len, old.has_deadline());
        self.rebuild(arena, new, key, self.deadline())
    }
    /// Writes into the text, which becomes raw and long enough. The result replaces `self`.
    pub(super) fn splice(self, arena: &mut Arena, offset: usize, bytes: &[u8]) -> Self {
        let old = self.shape();
        if old.kind() != PACK_BUFFER
            && let Some(buffer) = self.buffer(&old)
        {
            self.splice_buffer(arena, &old, buffer, offset, bytes);
            return self;
        }
        let mut digits = itoa::Buffer::new();
        let value = match self.value(&old) {
            Value::String(value) => value,
            // Commands have looked; edits from outside replace what doesn't fit them.
            Value::Small(..) | Value::Large(_) => StringRef::Raw(b""),
        };
        let text = value.as_bytes(&mut digits);
        let len = text.len().max(offset + bytes.len());
        let (kind, value_len) = if len <= INLINE_BYTES_MAX { (RAW, len) } else { (RAW_BUFFER, BUFFER_BYTES) };
        let new = Shape::new(kind, old.key_len, value_len, old.has_deadline());
        let in_place = kind == RAW
            && matches!(old.kind(), BYTES | RAW)
            && new.key_at == old.key_at
            && capacity(new.bytes()) == capacity(old.bytes());
        if in_place {
            self.write_lengths(&new, self.mark());
            self.splice_text(new.value_at(), text.len(), offset, bytes);
            return self;
        }
        let moved = Self::begin(arena, new, self.mark(), self.key(), self.access(), self.deadline());
        let (target, at) = if kind == RAW {
            (moved, new.value_at())
        } else {
            let capacity = grown(len);
            let memory = Packed(arena.alloc(capacity));
            moved.write_buffer(&new, Buffer { memory, len, capacity });
            (memory, 0)
        };
        target.write(at, text);
        target.splice_text(at, text.len(), offset, bytes);
        // SAFETY: `self` is replaced by `moved`, and its text was copied.
        unsafe { self.free(arena) };
        moved
    }
    /// Makes changes to the collection, in place where that is possible. The result replaces `self`; `None`: nothing is left of it,
    /// and `self` is to be freed. An entry of another type becomes a new collection. `pack` is room to work in.
    pub(super) fn change(
        self,
        arena: &mut Arena,
        pack: &mut Vec<u8>,
        (kind, changes): (Kind, &[u8]),
        thresholds: &Thresholds,
    ) -> Option<Self> {
        let shape = self.shape();
        if shape.kind() == LARGE {
            // SAFETY: the entry owns it alone, and no reference to it is left while the table is changed.
            let large = unsafe { &mut *self.large(&shape) };
            if large.kind() == kind {
                let before = large.bytes_used();
                large.change(changes, thresholds);
                arena.large_changed(before, large.bytes_used());
                return (!large.view().is_gone()).then_some(self);
            }
        }
        pack.clear();
        if let Value::Small(old_kind, old) = self.value(&shape)
            && old_kind == kind
        {
            pack.extend_from_slice(old);
        }
        let value = new_collection(pack, kind, changes, thresholds)?;
        Some(self.overwrite(arena, value, self.deadline()))
    }
    /// Frees the entry and its buffer.
    ///
    /// # Safety
    /// No copy of `self` is used any more, and no reference into it is left.
    pub(super) unsafe fn free(self, arena: &mut Arena) {
        let shape = self.shape();
        if let Some(buffer) = self.buffer(&shape) {
            // SAFETY: the buffer belongs to this entry alone; it was allocated with its capacity.
            unsafe { arena.free(buffer.memory.0, buffer.capacity) };
        }
        if shape.kind() == LARGE {
            arena.bury(*self.take_large(&shape));
        }
        // SAFETY: the caller's promise; entries are allocated with the bytes of their shape, or of one with the same
        // capacity.
        unsafe { arena.free(self.0, shape.bytes()) };
    }
    /// Bytes of the arena that the entry takes.
    pub(super) fn bytes_used(self) -> usize {
        let shape = self.shape();
        let large = if let Value::Large(large) = self.value(&shape) { large.bytes_used() } else { 0 };
        capacity(shape.bytes()) + self.buffer(&shape).map_or(0, |buffer| capacity(buffer.capacity)) + large
    }
    /// Where to start loading, and the last place worth loading with it.
    pub(super) fn lines(self) -> [*const u8; 2] {
        let start = self.0.as_ptr().cast_const();
        [start, start.wrapping_add(40)]
    }

    // ---- pieces ------------------------------------------------------------------------------------------

    #[inline]
    fn shape(self) -> Shape {
        let flags = self.byte(0) & !MARK;
        let (key_len, value_at) = if flags & LONG_KEY == 0 {
            (self.byte(LENGTHS_AT) as usize, LENGTHS_AT + 1)
        } else {
            let bytes = self.slice(LENGTHS_AT, 4).try_into().expect("four bytes");
            (u32::from_le_bytes(bytes) as usize, LENGTHS_AT + 4)
        };
        let value_len = if flags & LONG_VALUE == 0 {
            self.byte(value_at) as usize
        } else {
            u16::from_le_bytes([self.byte(value_at), self.byte(value_at + 1)]) as usize
        };
        Shape { flags, key_len, value_len, key_at: key_at(flags) }
    }
    #[inline]
    fn value<'a>(self, shape: &Shape) -> Value<'a> {
        let inline = self.slice(shape.value_at(), shape.value_len);
        match shape.kind() {
            INTEGER => Value::String(StringRef::Integer(unpack_integer(inline))),
            BYTES => Value::String(StringRef::Bytes(inline)),
            RAW => Value::String(StringRef::Raw(inline)),
            PACK => small(inline),
            // SAFETY: the entry owns it; the caller picks a lifetime within its borrow of the table.
            LARGE => Value::Large(unsafe { &*self.large(shape) }),
            kind => {
                let buffer = self.buffer(shape).expect("the other kinds have one");
                let bytes = buffer.memory.slice(0, buffer.len);
                match kind {
                    RAW_BUFFER => Value::String(StringRef::Raw(bytes)),
                    BYTES_BUFFER => Value::String(StringRef::Bytes(bytes)),
                    _ => small(bytes),
                }
            }
        }
    }
    /// Where the large collection is.
    fn large(self, shape: &Shape) -> *mut Large {
        std::ptr::with_exposed_provenance_mut(self.u64(shape.value_at()) as usize)
    }
    /// The entry's large collection, which the entry has no longer: its address is to be overwritten, or the entry freed.
    fn take_large(self, shape: &Shape) -> Box<Large> {
        // SAFETY: it came from a box in `write_value`, and callers forget the address.
        unsafe { Box::from_raw(self.large(shape)) }
    }
    fn buffer(self, shape: &Shape) -> Option<Buffer> {
        if !matches!(shape.kind(), BYTES_BUFFER | RAW_BUFFER | PACK_BUFFER) {
            return None;
        }
        let at = shape.value_at();
        let address = self.u64(at) as usize;
        let memory = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("a buffer has an address");
        Some(Buffer { memory: Packed(memory), len: self.u64(at + 8) as usize, capacity: self.u64(at + 16) as usize })
    }
    /// An entry without its value.
    fn begin(arena: &mut Arena, shape: Shape, mark: Mark, key: &[u8], access: u32, deadline: Option<Deadline>) -> Self {
        assert!(key.len() <= u32::MAX as usize, "a key is shorter than 4 GiB");
        let new = Packed(arena.alloc(shape.bytes()));
        new.write_lengths(&shape, mark);
        new.write(ACCESS_AT, &access.to_le_bytes()[..3]);
        new.write_deadline(&shape, deadline);
        new.write(shape.key_at, key);
        new
    }
    /// The same value under another shape; frees `self`.
    fn rebuild(self, arena: &mut Arena, shape: Shape, key: &[u8], deadline: Option<Deadline>) -> Self {
        let new = Self::begin(arena, shape, self.mark(), key, self.access(), deadline);
        let old = self.shape();
        new.write(shape.value_at(), self.slice(old.value_at(), old.value_len));
        // SAFETY: `new` replaces `self`, and has its buffer, if any.
        unsafe { arena.free(self.0, old.bytes()) };
        new
    }
    /// Changes lengths, flags and deadline in place; the key moves to where it belongs now, the value is to be written.
    fn reshape(self, old: &Shape, new: &Shape, deadline: Option<Deadline>) {
        if old != new {
            if old.key_at != new.key_at {
                // SAFETY: both ranges lie within the entry's capacity, which covers both shapes.
                unsafe { self.0.add(old.key_at).copy_to(self.0.add(new.key_at), old.key_len) };
            }
            self.write_lengths(new, self.mark());
        }
        self.write_deadline(new, deadline);
    }
    fn write_lengths(self, shape: &Shape, mark: Mark) {
        self.write(0, &[shape.flags | mark.0]);
        let value_at = if shape.flags & LONG_KEY == 0 {
            self.write(LENGTHS_AT, &[shape.key_len as u8]);
            LENGTHS_AT + 1
        } else {
            self.write(LENGTHS_AT, &(shape.key_len as u32).to_le_bytes());
            LENGTHS_AT + 4
        };
        if shape.flags & LONG_VALUE == 0 {
            self.write(value_at, &[shape.value_len as u8]);
        } else {
            self.write(value_at, &(shape.value_len as u16).to_le_bytes());
        }
    }
    fn write_deadline(self, shape: &Shape, deadline: Option<Deadline>) {
        if let Some(deadline) = deadline {
            self.write(shape.key_at - DEADLINE_BYTES, &deadline.to_bits().to_le_bytes());
        }
    }
    fn write_value(self, arena: &mut Arena, shape: &Shape, value: NewValue<'_>) {
        match value {
            NewValue::String(StringRef::Integer(value)) => {
                self.write(shape.value_at(), &value.to_le_bytes()[..shape.value_len])
            }
            NewValue::String(StringRef::Bytes(bytes) | StringRef::Raw(bytes)) => {
                self.write_bytes(arena, shape, [&[], bytes])
            }
            NewValue::Small(kind, pack) => self.write_bytes(arena, shape, [&[kind as u8], pack]),
            NewValue::Large(large) => {
                arena.large_changed(0, large.bytes_used());
                let address = Box::into_raw(large).expose_provenance() as u64;
                self.write(shape.value_at(), &address.to_le_bytes());
            }
        }
    }
    /// Within the entry or in a buffer, as the shape says.
    fn write_bytes(self, arena: &mut Arena, shape: &Shape, [head, bytes]: [&[u8]; 2]) {
        let len = head.len() + bytes.len();
        let (target, at) = if len <= INLINE_BYTES_MAX {
            (self, shape.value_at())
        } else {
            let memory = Packed(arena.alloc(len));
            self.write_buffer(shape, Buffer { memory, len, capacity: len });
            (memory, 0)
        };
        target.write(at, head);
        target.write(at + head.len(), bytes);
    }
    fn write_buffer(self, shape: &Shape, buffer: Buffer) {
        let at = shape.value_at();
        self.write(at, &buffer.memory.address().to_le_bytes());
        self.write(at + 8, &(buffer.len as u64).to_le_bytes());
        self.write(at + 16, &(buffer.capacity as u64).to_le_bytes());
    }
    fn splice_buffer(self, arena: &mut Arena, old: &Shape, mut buffer: Buffer, offset: usize, bytes: &[u8]) {
        let len = buffer.len.max(offset + bytes.len());
        if len > buffer.capacity {
            let to = grown(len);
            // SAFETY: the buffer is this entry's alone, was allocated with its capacity, and is replaced below.
            buffer.memory = Packed(unsafe { arena.resize_large(buffer.memory.0, buffer.capacity, to) });
            buffer.capacity = to;
        }
        buffer.memory.splice_text(0, buffer.len, offset, bytes);
        let new = Shape::new(RAW_BUFFER, old.key_len, BUFFER_BYTES, old.has_deadline());
        self.write_lengths(&new, self.mark());
        self.write_buffer(&new, Buffer { len, ..buffer });
    }
    /// Writes into the text of `len` bytes that starts `at` here, zeros between its end and `offset`.
    fn splice_text(self, at: usize, len: usize, offset: usize, bytes: &[u8]) {
        if offset > len {
            // SAFETY: the caller made room for `offset` bytes and more.
            unsafe { self.0.add(at + len).write_bytes(0, offset - len) };
        }
        self.write(at + offset, bytes);
    }

    #[inline]
    fn byte(self, at: usize) -> u8 {
        // SAFETY: callers stay within the entry (or buffer).
        unsafe { self.0.add(at).read() }
    }
    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.slice(at, 8).try_into().expect("eight bytes"))
    }
    #[inline]
    fn slice<'a>(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: callers stay within the initialised part of the entry (or buffer); the table keeps it alive
        // and unchanged while the reference is used (access bits, which change, are only ever copied out).
        unsafe { std::slice::from_raw_parts(self.0.add(at).as_ptr(), len) }
    }
    #[inline]
    fn write(self, at: usize, bytes: &[u8]) {
        // SAFETY: callers stay within the entry's (or buffer's) capacity, and no reference to these bytes is left.
        // `bytes` is never part of the entry written to.
        unsafe { self.0.add(at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }
}

/// How a value is kept: kind, and bytes within the entry.
#[inline]
fn stored(value: &NewValue<'_>) -> (u8, usize) {
    let (inline, buffer, len) = match *value {
        NewValue::String(StringRef::Integer(value)) => return (INTEGER, integer_bytes(value)),
        NewValue::String(StringRef::Bytes(bytes)) => (BYTES, BYTES_BUFFER, bytes.len()),
        NewValue::String(StringRef::Raw(bytes)) => (RAW, RAW_BUFFER, bytes.len()),
        NewValue::Small(_, pack) => (PACK, PACK_BUFFER, pack.len() + 1),
        NewValue::Large(_) => return (LARGE, ADDRESS_BYTES),
    };
    if len <= INLINE_BYTES_MAX { (inline, len) } else { (buffer, BUFFER_BYTES) }
}

/// A small collection as it is kept: its kind, and the pack.
fn small(bytes: &[u8]) -> Value<'_> {
    let (kind, pack) = bytes.split_first().expect("a small collection has a kind");
    Value::Small(Kind::from_byte(*kind).expect("entries hold kinds that there are"), pack)
}

/// What changes make of the small collection in `pack`; `None` if nothing is left.
pub(super) fn new_collection<'a>(
    pack: &'a mut Vec<u8>,
    kind: Kind,
    changes: &[u8],
    thresholds: &Thresholds,
) -> Option<NewValue<'a>> {
    match types::change_small(kind, pack, changes, thresholds) {
        Some(large) => (!large.view().is_gone()).then(|| NewValue::Large(Box::new(large))),
        None => (!pack.is_empty()).then_some(NewValue::Small(kind, pack)),
    }
}

fn integer_bytes(value: i64) -> usize {
    if value == value as i8 as i64 {
        1
    } else if value == value as i16 as i64 {
        2
    } else if value == value as i32 as i64 {
        4
    } else {
        8
    }
}

fn unpack_integer(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unused = 64 - 8 * bytes.len() as u32;
    // Up and down again: the shift down copies the sign.
    i64::from_le_bytes(wide) << unused >> unused
}

/// Capacity for a buffer that must hold `len` bytes and grew: appending stays amortised, large ones waste little.
fn grown(len: usize) -> usize {
    capacity(len + (len / 4).max(len.min(GROWTH_BYTES_MAX)))
}

//! A connection's replies in the order of its requests, however many shards they came from.
//!
//! Rule: bytes reach `out` only when every earlier reply has. A reply that waits, for another core or for the
//! log, holds a slot; what comes after it queues behind.

use crate::router::gather::Gathering;
use shards::units::Offset;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Most replies are smaller than this and need no allocation while they wait.
type SlotBytes = SmallVec<[u8; 32]>;

#[derive(Debug)]
enum Slot {
    /// Written, and released once the local log is committed up to `until` (0: at once).
    Written { bytes: SlotBytes, until: Offset },
    /// Another core will write it.
    Remote,
    /// Several cores will write it.
    Gathering(Box<Gathering>),
}

#[derive(Default, Debug)]
pub struct ReplyQueue {
    /// Ready to be sent.
    pub out: Vec<u8>,
    slots: VecDeque<Slot>,
    first_slot: u64,
    waiting_bytes: usize,
}

impl ReplyQueue {
    /// Whether nothing waits, so that a reply may be written to `out` directly.
    pub fn is_direct(&self) -> bool {
        self.slots.is_empty()
    }
    /// Whether the next reply comes from another core, so that what is ready might as well wait for it and be sent along.
    pub fn expects_a_peer(&self) -> bool {
        match self.slots.front() {
            Some(Slot::Remote | Slot::Gathering(_)) => true,
            Some(Slot::Written { .. }) | None => false,
        }
    }
    pub fn waiting(&self) -> usize {
        self.slots.len()
    }
    /// Bytes held for this connection: ready or waiting.
    pub fn bytes(&self) -> usize {
        self.out.len() + self.waiting_bytes
    }
    /// The direct reply in `out[from..]` turned out to depend on the log: let it wait.
    pub fn hold_back(&mut self, from: usize, until: Offset) {
        debug_assert!(self.is_direct());
        self.waiting_bytes += self.out.len() - from;
        let bytes = SlotBytes::from(&self.out[from..]);
        self.out.truncate(from);
        self.slots.push_back(Slot::Written { bytes, until });
    }
    /// Queues a reply that may go out once the log is committed up to `until`.
    pub fn push(&mut self, reply: &[u8], until: Offset) {
        self.waiting_bytes += reply.len();
        if let Some(Slot::Written { bytes, until: last }) = self.slots.back_mut() {
            // One flush commits a whole batch, so neighbours wait for the later of the two offsets.
            bytes.extend_from_slice(reply);
            *last = (*last).max(until);
            return;
        }
        self.slots.push_back(Slot::Written { bytes: SlotBytes::from(reply), until });
    }
    /// A place for a reply that another core will write.
    pub fn reserve(&mut self) -> u64 {
        self.slots.push_back(Slot::Remote);
        self.first_slot + self.slots.len() as u64 - 1
    }
    pub fn reserve_gathering(&mut self, gathering: Gathering) -> u64 {
        self.slots.push_back(Slot::Gathering(Box::new(gathering)));
        self.first_slot + self.slots.len() as u64 - 1
    }
    /// The gathering that waits in `slot`.
    pub fn gathering(&mut self, slot: u64) -> Option<&mut Box<Gathering>> {
        match self.slot(slot) {
            Some(Slot::Gathering(gathering)) => Some(gathering),
            Some(Slot::Written { .. } | Slot::Remote) | None => None,
        }
    }
    fn slot(&mut self, slot: u64) -> Option<&mut Slot> {
        self.slots.get_mut(slot.checked_sub(self.first_slot)? as usize)
    }
    /// Takes the gathering out of `slot`, which stays reserved until it is filled.
    pub fn take_gathering(&mut self, slot: u64) -> Option<Gathering> {
        let place = self.slot(slot)?;
        match std::mem::replace(place, Slot::Remote) {
            Slot::Gathering(gathering) => Some(*gathering),
            other @ (Slot::Written { .. } | Slot::Remote) => {
                *place = other;
                None
            }
        }
    }
    /// The next round of a command over several shards, in the same place.
    pub fn put_gathering(&mut self, slot: u64, gathering: Gathering) {
        *self.slot(slot).expect("a slot outlives its ticket") = Slot::Gathering(Box::new(gathering));
    }
    /// The reply for `slot` is here; it may go out once the local log is committed up to `until`.
    pub fn fill(&mut self, slot: u64, reply: &[u8], until: Offset) {
        if slot == self.first_slot && self.slots.len() == 1 && until == Offset(0) {
            // The usual case, one remote command at a time: no detour.
            self.slots.pop_front();
            self.first_slot += 1;
            self.out.extend_from_slice(reply);
            return;
        }
        let filled = Slot::Written { bytes: SlotBytes::from(reply), until };
        let place = self.slot(slot).expect("a slot outlives its ticket");
        debug_assert!(!matches!(place, Slot::Written { .. }), "a slot is filled once");
        *place = filled;
        self.waiting_bytes += reply.len();
    }
    /// Moves what may go to `out`. Returns whether the first reply left waits for the local log.
    pub fn release(&mut self, released: Offset) -> bool {
        while let Some(slot) = self.slots.front() {
            match slot {
                Slot::Written { bytes, until } if *until <= released => {
                    self.waiting_bytes -= bytes.len();
                    self.out.extend_from_slice(bytes);
                    self.slots.pop_front();
                    self.first_slot += 1;
                }
                Slot::Written { .. } => return true,
                Slot::Remote | Slot::Gathering(_) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_request_order_whoever_is_first() {
        let mut queue = ReplyQueue::default();
        let first = queue.reserve();
        queue.push(b"b", Offset(0));
        let third = queue.reserve();
        queue.fill(third, b"c", Offset(0));
        queue.release(Offset(0));
        assert_eq!(queue.out, b"");
        queue.fill(first, b"a", Offset(0));
        queue.release(Offset(0));
        assert_eq!(queue.out, b"abc");
        assert!(queue.is_direct());
        assert_eq!(queue.bytes(), 3);
    }

    #[test]
    fn a_reply_waits_for_its_offset_and_holds_what_follows() {
        let mut queue = ReplyQueue::default();
        queue.out.extend_from_slice(b"old|new");
        queue.hold_back(4, Offset(10));
        queue.push(b"|read", Offset(0));
        assert!(queue.release(Offset(9)));
        assert_eq!(queue.out, b"old|");
        assert!(!queue.release(Offset(10)));
        assert_eq!(queue.out, b"old|new|read");
    }
}

//! Makes segments ahead, step by step: the file, its space, its name on disk. As `runtime::prepare`, but for the thread.

use super::disk::Disk;
use fastrand::Rng;
use shards::wal::{BLOCK_BYTES, Layout, SegmentId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepared {
    pub id: SegmentId,
    pub layout: Layout,
    pub bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Created(Prepared),
    Reserved(Prepared),
    Ready(Prepared),
    Failed(Prepared),
}

#[derive(Debug)]
pub struct Preparer {
    state: State,
    /// Why the last attempt failed, until one succeeds.
    obstacle: Option<String>,
    first_bytes: u64,
}

impl Preparer {
    pub fn new(first_bytes: u64) -> Preparer {
        Preparer { state: State::Idle, obstacle: None, first_bytes }
    }

    pub fn ask(&mut self, id: SegmentId, layout: Layout, bytes_min: u64, bytes_max: u64, disk: &mut Disk) {
        if self.state == State::Idle {
            let bytes = bytes_min.max(self.first_bytes.min(bytes_max)).next_multiple_of(BLOCK_BYTES as u64);
            self.start(Prepared { id, layout, bytes }, disk);
        }
    }

    fn start(&mut self, order: Prepared, disk: &mut Disk) {
        disk.create(order.id);
        self.state = State::Created(order);
    }

    /// One step, or all of them, or none.
    pub fn advance(&mut self, rng: &mut Rng, swift: bool, disk: &mut Disk) {
        while swift || rng.bool() {
            match self.state {
                State::Created(order) if disk.reserve(order.id, order.bytes as usize) => {
                    self.state = State::Reserved(order);
                }
                State::Created(order) => {
                    disk.remove(order.id);
                    self.obstacle = Some("no space".to_string());
                    self.state = State::Failed(order);
                }
                State::Reserved(order) => {
                    disk.sync_directory();
                    self.obstacle = None;
                    self.state = State::Ready(order);
                }
                State::Idle | State::Ready(_) | State::Failed(_) => return,
            }
        }
    }

    /// The segment, if there is one with room for `bytes_min`.
    pub fn take(&mut self, bytes_min: u64) -> Option<Prepared> {
        let State::Ready(made) = self.state else { return None };
        self.state = State::Idle;
        (made.bytes >= bytes_min).then_some(made)
    }

    pub fn obstacle(&self) -> Option<String> {
        self.obstacle.clone()
    }
    pub fn retry(&mut self, disk: &mut Disk) {
        if let State::Failed(order) = self.state {
            self.start(order, disk);
        }
    }
}

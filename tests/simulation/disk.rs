//! One shard's directory on a simulated disk: bytes written are with the kernel, and survive kill -9; only what was synced,
//! or written durably, is on the disk and survives a power cut. Of the rest any subset of sectors does, in any order.
//!
//! Writes and syncs are requests that complete later, in the order of the times drawn for them, not of their beginning. The
//! rule: the same calls with the same draws leave the same bytes.

use fastrand::Rng;
use shards::wal::{SegmentId, Sequence};
use std::collections::{BTreeMap, BTreeSet};

/// The unit that is written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

pub const EIO: i32 = 5;

/// Whose request it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    Header(SegmentId),
    Record(Sequence),
    Sync,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    pub token: Token,
    /// Bytes written, or 0; negative for an error.
    pub result: i32,
}

/// How the disk behaves for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub write_ns_max: u64,
    pub sync_ns_max: u64,
    /// Of a hundred writes, so many end early.
    pub short_writes: u8,
    /// A failed sync leaves its pages clean, so that the next one passes over them, as ext4 does.
    pub forgets_failed_syncs: bool,
    /// A planted bug: what is to be on disk stays with the kernel, whatever is reported.
    pub never_syncs: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    kernel: Vec<u8>,
    disk: Vec<u8>,
    /// Sectors in which the two differ, but for those that a failed sync forgot.
    dirty: BTreeSet<usize>,
    /// Its name is on disk.
    is_named: bool,
    /// Removed, but its name is still on disk.
    is_gone: bool,
}

/// Its bytes are read only under its last name.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    bytes: Vec<u8>,
    is_synced: bool,
    has_last_name: bool,
    is_named: bool,
    is_gone: bool,
}

#[derive(Clone, Debug)]
enum Work {
    Write { position: usize, bytes: Vec<u8>, durable: bool },
    Sync { held: Vec<(usize, Vec<u8>)> },
}

#[derive(Clone, Debug)]
struct Request {
    token: Token,
    segment: SegmentId,
    work: Work,
    due_ns: u64,
}

#[derive(Clone, Debug)]
pub struct Disk {
    habits: Habits,
    rng: Rng,
    files: BTreeMap<SegmentId, File>,
    snapshots: BTreeMap<u64, Snapshot>,
    requests: Vec<Request>,
    /// No file can be given space.
    pub is_full: bool,
    /// What the next write or sync finds.
    pub fails_write: bool,
    pub fails_sync: bool,
}

impl Disk {
    pub fn new(habits: Habits, seed: u64) -> Disk {
        let rng = Rng::with_seed(seed);
        let (files, snapshots, requests) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Disk { habits, rng, files, snapshots, requests, is_full: false, fails_write: false, fails_sync: false }
    }

    pub fn segments(&self) -> Vec<SegmentId> {
        self.files.iter().filter(|(_, file)| !file.is_gone).map(|(id, _)| *id).collect()
    }
    pub fn read(&self, segment: SegmentId) -> &[u8] {
        &self.files[&segment].kernel
    }

    // ---- files ---------------------------------------------------------------------------------------------

    /// An empty file, in the place of one of that name.
    pub fn create(&mut self, segment: SegmentId) {
        let was_named = self.files.get(&segment).is_some_and(|file| file.is_named);
        self.files.insert(segment, File { is_named: was_named, ..File::default() });
    }
    /// Zeros of that length, on disk; or no space.
    pub fn reserve(&mut self, segment: SegmentId, bytes: usize) -> bool {
        let file = self.files.get_mut(&segment).expect("it was created");
        if !self.is_full {
            (file.kernel, file.disk) = (vec![0; bytes], vec![0; bytes]);
        }
        !self.is_full
    }
    pub fn remove(&mut self, segment: SegmentId) {
        self.files.get_mut(&segment).expect("it is there").is_gone = true;
    }
    pub fn sync_directory(&mut self) {
        self.files.retain(|_, file| !file.is_gone);
        self.files.values_mut().for_each(|file| file.is_named = true);
        self.snapshots.retain(|_, snapshot| !snapshot.is_gone);
        self.snapshots.values_mut().for_each(|snapshot| snapshot.is_named = snapshot.has_last_name);
    }
    /// As a start does it, which waits for the end.
    pub fn sync_now(&mut self, segment: SegmentId) {
        let held = self.dirty_sectors(segment);
        self.settle(segment, held);
    }

    // ---- snapshots -----------------------------------------------------------------------------------------

    /// Under a temporary name.
    pub fn begin_snapshot(&mut self, number: u64) {
        self.snapshots.insert(number, Snapshot::default());
    }
    pub fn extend_snapshot(&mut self, number: u64, bytes: &[u8]) {
        self.snapshot_mut(number).bytes.extend_from_slice(bytes);
    }
    pub fn sync_snapshot(&mut self, number: u64) {
        self.snapshot_mut(number).is_synced = true;
    }
    pub fn rename_snapshot(&mut self, number: u64) {
        self.snapshot_mut(number).has_last_name = true;
    }
    fn snapshot_mut(&mut self, number: u64) -> &mut Snapshot {
        self.snapshots.get_mut(&number).expect("it was begun")
    }
    pub fn remove_snapshots_but(&mut self, number: Option<u64>) {
        let others = self.snapshots.iter_mut().filter(|(other, _)| Some(**other) != number);
        others.for_each(|(_, snapshot)| snapshot.is_gone = true);
    }
    pub fn read_snapshot(&self, number: u64) -> Option<&[u8]> {
        let snapshot = self.snapshots.get(&number)?;
        (snapshot.has_last_name && !snapshot.is_gone).then_some(&snapshot.bytes[..])
    }

    // ---- requests ------------------------------------------------------------------------------------------

    pub fn write(&mut self, now_ns: u64, token: Token, segment: SegmentId, at: usize, bytes: &[u8], durable: bool) {
        let work = Work::Write { position: at, bytes: bytes.to_vec(), durable };
        let due_ns = now_ns + self.rng.u64(1_000..=self.habits.write_ns_max);
        self.requests.push(Request { token, segment, work, due_ns });
    }

    /// Covers what has been written by now; what is being written may be left out.
    pub fn sync(&mut self, now_ns: u64, segment: SegmentId) {
        let work = Work::Sync { held: self.dirty_sectors(segment) };
        let due_ns = now_ns + self.rng.u64(1_000..=self.habits.sync_ns_max);
        self.requests.push(Request { token: Token::Sync, segment, work, due_ns });
    }

    /// Whether a request completes by now, or whenever it may.
    pub fn is_due(&self, now_ns: Option<u64>) -> bool {
        self.requests.iter().any(|request| now_ns.is_none_or(|now_ns| request.due_ns <= now_ns))
    }

    /// Carries out the request that is due first.
    pub fn complete(&mut self) -> Completion {
        let first = (0..self.requests.len()).min_by_key(|at| self.requests[*at].due_ns).expect("one is due");
        let Request { token, segment, work, .. } = self.requests.remove(first);
        let result = match work {
            Work::Write { position, bytes, durable } => {
                // One of a header would be a failure to the writer.
                let may_be_short = !matches!(token, Token::Header(_));
                self.complete_write(segment, position, &bytes, durable, may_be_short)
            }
            Work::Sync { held } => self.complete_sync(segment, held),
        };
        Completion { token, result }
    }

    fn complete_write(
        &mut self,
        segment: SegmentId,
        position: usize,
        bytes: &[u8],
        durable: bool,
        may_be_short: bool,
    ) -> i32 {
        let unit = if durable { SECTOR_BYTES } else { 1 };
        let is_short = may_be_short && bytes.len() > unit && self.rng.u8(..100) < self.habits.short_writes;
        let fails = std::mem::take(&mut self.fails_write);
        let len = match is_short || fails {
            true => self.rng.usize(1..=(bytes.len() / unit - 1).max(1)) * unit,
            false => bytes.len(),
        };
        let written = self.put(segment, position, &bytes[..len]);
        if durable && !fails && !self.habits.never_syncs {
            self.settle(segment, written);
        }
        if fails { -EIO } else { len as i32 }
    }

    fn complete_sync(&mut self, segment: SegmentId, held: Vec<(usize, Vec<u8>)>) -> i32 {
        let fails = std::mem::take(&mut self.fails_sync);
        if !fails && !self.habits.never_syncs {
            self.settle(segment, held);
        } else if fails && self.habits.forgets_failed_syncs {
            let file = self.files.get_mut(&segment).expect("it is open");
            file.dirty.retain(|sector| held.iter().all(|(at, _)| at != sector));
        }
        if fails { -EIO } else { 0 }
    }

    /// Puts bytes where the kernel has them; the sectors that they touch, as they are now.
    fn put(&mut self, segment: SegmentId, position: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let file = self.files.get_mut(&segment).expect("it is open");
        file.kernel[position..position + bytes.len()].copy_from_slice(bytes);
        let touched = sectors_of(position, bytes.len());
        file.dirty.extend(touched.clone());
        touched.map(|at| (at, sector(&file.kernel, at).to_vec())).collect()
    }

    fn dirty_sectors(&self, segment: SegmentId) -> Vec<(usize, Vec<u8>)> {
        let file = &self.files[&segment];
        file.dirty.iter().map(|at| (*at, sector(&file.kernel, *at).to_vec())).collect()
    }

    /// These sectors are on disk now.
    fn settle(&mut self, segment: SegmentId, held: Vec<(usize, Vec<u8>)>) {
        let file = self.files.get_mut(&segment).expect("it is open");
        for (at, bytes) in held {
            sector_mut(&mut file.disk, at).copy_from_slice(&bytes);
            if sector(&file.kernel, at) == bytes {
                file.dirty.remove(&at);
            }
        }
    }

    // ---- accidents -----------------------------------------------------------------------------------------

    /// The process is gone. What it was just writing is with the kernel in part.
    pub fn kill(&mut self, rng: &mut Rng) {
        for request in std::mem::take(&mut self.requests) {
            let Work::Write { position, bytes, durable } = request.work else { continue };
            if !durable {
                let len = [0, bytes.len(), rng.usize(..=bytes.len())][rng.usize(..3)];
                self.put(request.segment, position, &bytes[..len]);
                continue;
            }
            for (index, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if rng.bool() {
                    self.put(request.segment, position + index * SECTOR_BYTES, part);
                }
            }
        }
    }

    /// The power is gone. For each thing that may or may not have come to the disk `choose` is told how many states it may be
    /// in, the oldest first, and picks one.
    pub fn cut_power(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let unsure = self.unsure_sectors();
        for ((segment, at), mut states) in unsure {
            let state = states.swap_remove(choose(states.len()));
            sector_mut(&mut self.files.get_mut(&segment).expect("just seen").disk, at).copy_from_slice(&state);
        }
        self.files.retain(|_, file| match (file.is_gone, file.is_named) {
            (false, true) => true,
            (true, true) => choose(2) == 0,
            (false, false) => choose(2) == 1,
            (true, false) => false,
        });
        self.snapshots.retain(|_, snapshot| match (snapshot.is_gone, snapshot.is_named) {
            (false, true) => true,
            (true, true) => choose(2) == 0,
            (false, false) => snapshot.has_last_name && choose(2) == 1,
            (true, false) => false,
        });
        for snapshot in self.snapshots.values_mut() {
            if !snapshot.is_synced {
                snapshot.bytes.clear();
            }
            (snapshot.is_synced, snapshot.is_named, snapshot.is_gone) = (true, true, false);
        }
        for file in self.files.values_mut() {
            file.kernel = file.disk.clone();
            file.dirty.clear();
            (file.is_named, file.is_gone) = (true, false);
        }
        self.requests.clear();
    }

    /// Sectors that are not the same with the kernel and on disk, or are being written: every state that they may be left in.
    fn unsure_sectors(&self) -> BTreeMap<(SegmentId, usize), Vec<Vec<u8>>> {
        let mut unsure = BTreeMap::<_, Vec<Vec<u8>>>::new();
        let mut add = |segment: SegmentId, at: usize, state: &[u8]| {
            let on_disk = || vec![sector(&self.files[&segment].disk, at).to_vec()];
            let states = unsure.entry((segment, at)).or_insert_with(on_disk);
            if states.iter().all(|known| known != state) {
                states.push(state.to_vec());
            }
        };
        for request in &self.requests {
            let Work::Sync { held } = &request.work else { continue };
            held.iter().for_each(|(at, bytes)| add(request.segment, *at, bytes));
        }
        for (id, file) in &self.files {
            file.dirty.iter().for_each(|at| add(*id, *at, sector(&file.kernel, *at)));
        }
        for request in &self.requests {
            let Work::Write { position, bytes, .. } = &request.work else { continue };
            let mut kernel = self.files[&request.segment].kernel.clone();
            kernel[*position..position + bytes.len()].copy_from_slice(bytes);
            sectors_of(*position, bytes.len()).for_each(|at| add(request.segment, at, sector(&kernel, at)));
        }
        unsure.retain(|_, states| states.len() > 1);
        unsure
    }

    /// How many choices a power cut has now.
    pub fn unsure_count(&self) -> usize {
        let names = self.files.values().filter(|file| file.is_gone || !file.is_named).count();
        self.unsure_sectors().len() + names
    }
}

fn sectors_of(position: usize, len: usize) -> std::ops::Range<usize> {
    position / SECTOR_BYTES..(position + len).div_ceil(SECTOR_BYTES)
}

fn sector(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES]
}

fn sector_mut(bytes: &mut [u8], at: usize) -> &mut [u8] {
    &mut bytes[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES]
}

//! A shard's log on disk: writes and syncs through the core's ring, segments prepared in the background.
//!
//! Under `always` a record is whole 4096-byte blocks, written with O_DIRECT and O_DSYNC over zeros that are on disk
//! already: when the write completes it is durable. Under `everysec` and `no` the write is buffered, and complete
//! when the kernel has the bytes, so that kill -9 loses nothing. Which replies that releases is the pure
//! `Commit`'s decision; here is only the doing.

use super::prepare::{Prepared, Preparer};
use super::ring::Ring;
use super::token::{Operation, token};
use io_uring::{opcode, types};
use shards::units::{Now, Offset, ShardId};
use shards::wal::{
    BLOCK_BYTES, Commit, FsyncPolicy, GroupTable, Groups, Layout, Predecessor, RecordHeader, SegmentHeader, SegmentId,
    Sequence, SyncTicket, encode_into, record_bytes,
};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;

/// Where a log goes on: what recovery found, or the start of an empty one.
#[derive(Clone, Copy, Debug)]
pub struct LogStart {
    pub next_segment: SegmentId,
    pub next_sequence: Sequence,
    pub offset: Offset,
    pub predecessor: Option<Predecessor>,
    /// No record after this one holds a group; `NONE` if none does. All groups were found complete, and are on disk on all
    /// shards before any of them goes on; or were skipped, and the first record that is written now undoes them.
    pub last_group: Sequence,
}

/// A segment that is full, or was there at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OldSegment {
    pub path: PathBuf,
    /// No record in it comes after this one.
    pub last_sequence: Sequence,
    pub bytes: u64,
}

/// What goes into one record.
#[derive(Debug, Default)]
pub struct Batch {
    /// May be empty if there are groups or closings.
    pub edits: Vec<u8>,
    pub groups: GroupTable,
    pub start: Offset,
    /// How many edits.
    pub count: u32,
    /// Every group of this shard's records up to this one is out of danger (`Groups::settled`).
    pub settled: Sequence,
}

pub struct LogWriter {
    shard: ShardId,
    epoch: u64,
    policy: FsyncPolicy,
    pub commit: Commit,
    next_sequence: Sequence,
    next_segment: SegmentId,
    predecessor: Option<Predecessor>,
    after_recovery: bool,
    segment: Option<Segment>,
    /// Segments that are full, or of the old layout, with writes or syncs still under way.
    retired: Vec<Segment>,
    /// Those before the one that is written to, until a snapshot takes their place.
    old: Vec<OldSegment>,
    preparer: Preparer,
    segment_bytes: u64,
    /// How much of the disk all segments may take; 0 for no limit.
    pub bytes_max: u64,
    /// Why there is no further segment: it would go over that.
    over_limit: Option<String>,
    /// A place in the stream of edits, and the last record that ends there or before.
    watched: Option<(Offset, Sequence)>,
    in_flight: VecDeque<InFlight>,
    /// A batch that waits for a segment.
    pending: Option<Batch>,
    /// The last record with a group, and up to where the log says that all are settled.
    last_group: Sequence,
    settled_said: Sequence,
    /// What the start knew to be settled.
    settled_at_start: Sequence,
    spare: Vec<AlignedBuffer>,
    sync: Option<SyncUnderWay>,
    /// Why nothing is written any more.
    pub failure: Option<String>,
    salt: fn() -> u32,
    pub records: u64,
    pub bytes: u64,
    pub syncs: u64,
}

struct Segment {
    prepared: Rc<Prepared>,
    position: u64,
    header_written: bool,
    /// Something of it is with the kernel only: the next sync must cover it. Set when a write completes, too: a sync that
    /// began before that need not have covered it.
    dirty: bool,
    salt: u32,
}

struct InFlight {
    sequence: Sequence,
    segment: Rc<Prepared>,
    position: u64,
    buffer: AlignedBuffer,
    len: usize,
    written: usize,
    complete: bool,
    started_ticks: u64,
}

struct SyncUnderWay {
    ticket: SyncTicket,
    outstanding: usize,
    files: Vec<Rc<Prepared>>,
}

/// Records under way at a time: under `always` a second one hides the latency of the first; buffered ones gain nothing.
const DIRECT_WRITES_MAX: usize = 2;
const BUFFERED_WRITES_MAX: usize = 1;
/// Under `no` nobody asks for a sync; with more full segments than this still open, one is made all the same.
const RETIRED_MAX: usize = 4;
/// A buffer that one large record has grown is given back beyond this.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl LogWriter {
    #[allow(clippy::too_many_arguments)] // made in one place, from parts that have no other bond
    pub fn new(
        shard: ShardId,
        epoch: u64,
        policy: FsyncPolicy,
        start: LogStart,
        preparer: Preparer,
        segment_bytes: u64,
        old: Vec<OldSegment>,
        salt: fn() -> u32,
    ) -> Self {
        LogWriter {
            shard,
            epoch,
            policy,
            commit: Commit::new(policy, start.next_sequence.previous(), start.offset),
            next_sequence: start.next_sequence,
            next_segment: start.next_segment,
            predecessor: start.predecessor,
            after_recovery: true,
            segment: None,
            retired: Vec::new(),
            old,
            preparer,
            segment_bytes,
            bytes_max: 0,
            over_limit: None,
            watched: None,
            in_flight: VecDeque::new(),
            pending: None,
            last_group: start.last_group,
            settled_said: Sequence::NONE,
            settled_at_start: start.last_group,
            spare: Vec::new(),
            sync: None,
            failure: None,
            salt,
            records: 0,
            bytes: 0,
            syncs: 0,
        }
    }

    /// A segment for the first writes, made before the shard serves.
    pub fn ask_for_segment(&mut self) {
        let layout = layout_of(self.policy);
        self.preparer.ask(self.next_segment, layout, BLOCK_BYTES as u64, self.segment_bytes);
    }

    /// The setting changed: records in the other layout need another segment, and go out once it is there.
    pub fn set_policy(&mut self, policy: FsyncPolicy) {
        self.policy = policy;
        let switches = self.segment.as_ref().is_some_and(|segment| segment.prepared.layout != layout_of(policy));
        if switches {
            self.preparer.discard();
            self.ask_for_segment();
        } else {
            self.commit.set_policy(policy);
        }
    }

    /// Whether a batch of edits can be taken now.
    pub fn accepts(&self) -> bool {
        let most = match layout_of(self.policy) {
            Layout::Blocks => DIRECT_WRITES_MAX,
            Layout::Bytes => BUFFERED_WRITES_MAX,
        };
        self.failure.is_none() && self.pending.is_none() && self.in_flight.len() < most
    }

    /// Takes a batch: writes it, or keeps it until there is a segment with room. The sequence of its record.
    pub fn append(&mut self, batch: Batch, now: Now, ticks: u64, ring: &mut Ring) -> Sequence {
        debug_assert!(self.accepts());
        assert!(!batch.edits.is_empty() || !batch.groups.is_empty(), "a record says something");
        assert!(batch.settled < self.next_sequence, "nothing is settled before it is written");
        // Found at a start, it would be damage, and the start refused.
        let misplaced = batch.groups.groups(batch.settled).misplaced(self.shard, u16::MAX);
        assert_eq!(misplaced, None, "a shard logs the groups that it takes part in");
        let sequence = self.next_sequence;
        self.pending = Some(batch);
        self.write_pending(now, ticks, ring);
        sequence
    }

    /// Writes the batch that waits, if there is one and now a segment for it.
    pub fn write_pending(&mut self, now: Now, ticks: u64, ring: &mut Ring) {
        let Some(pending) = &self.pending else { return };
        let layout = layout_of(self.policy);
        let needed = record_bytes(self.groups_of(pending).as_ref(), pending.edits.len(), layout) as u64;
        let fits = self.segment.as_ref().is_some_and(|segment| {
            segment.prepared.layout == layout && segment.position + needed <= segment.prepared.bytes
        });
        if !fits && !self.next_segment(layout, needed, now, ring) {
            return;
        }
        let pending = self.pending.take().expect("looked at above");
        self.write(pending, layout, now, ticks, ring);
        self.prepare_ahead(layout);
    }

    /// The batch's group table: if it has groups, or if there is news of earlier ones, so that a start after a quiet time
    /// need not ask about them.
    fn groups_of<'b>(&self, batch: &'b Batch) -> Option<Groups<'b>> {
        let settled = batch.settled.max(self.settled_at_start);
        let is_news = self.settled_said < self.last_group && settled > self.settled_said;
        (!batch.groups.is_empty() || is_news).then(|| batch.groups.groups(settled))
    }

    /// Turns to a prepared segment, or asks for one.
    fn next_segment(&mut self, layout: Layout, needed: u64, now: Now, ring: &mut Ring) -> bool {
        let bytes_min = needed + BLOCK_BYTES as u64;
        self.over_limit = self.limit_reached(bytes_min);
        if self.over_limit.is_some() {
            return false;
        }
        let Some(prepared) = self.preparer.take(layout, bytes_min) else {
            self.preparer.ask(self.next_segment, layout, bytes_min, self.segment_bytes);
            return false;
        };
        if let Some(old) = self.segment.take() {
            let last_sequence = self.next_sequence.previous();
            let end = old.position;
            self.predecessor = Some(Predecessor { segment: old.prepared.id, last_sequence, end });
            self.old.push(OldSegment { path: old.prepared.path.clone(), last_sequence, bytes: old.prepared.bytes });
            self.retired.push(old);
        }
        self.commit.set_policy(self.policy);
        let salt = (self.salt)();
        let header = SegmentHeader {
            id: prepared.id,
            epoch: self.epoch,
            shard: self.shard,
            layout,
            salt,
            wall_ms: now.wall_ms,
            steady_ms: now.steady_ms,
            first_sequence: self.next_sequence,
            first_offset: self.pending.as_ref().expect("a segment is opened for a batch").start,
            durable_mark: self.commit.durable_mark(),
            predecessor: self.predecessor,
            after_recovery: self.after_recovery,
        };
        self.after_recovery = false;
        self.next_segment = prepared.id.next();
        let prepared = Rc::new(prepared);
        self.write_header(&prepared, &header, ring);
        let position = BLOCK_BYTES as u64;
        self.segment = Some(Segment { prepared, position, header_written: false, dirty: true, salt });
        true
    }

    /// The header's write is no record: its completion only lets those of the segment's records count.
    fn write_header(&mut self, prepared: &Rc<Prepared>, header: &SegmentHeader, ring: &mut Ring) {
        prepared.header.borrow_mut().bytes_mut(BLOCK_BYTES).copy_from_slice(&header.encode());
        let address = prepared.header.borrow().address();
        let entry = opcode::Write::new(types::Fd(prepared.file.as_raw_fd()), address, BLOCK_BYTES as u32)
            .offset(0)
            .build()
            .user_data(token(Operation::LogHeader, prepared.id.0));
        // SAFETY: the header's buffer belongs to `prepared`, which `segment` or `retired` keeps until the header is written.
        unsafe { ring.push(entry) };
    }

    fn write(&mut self, pending: Batch, layout: Layout, now: Now, ticks: u64, ring: &mut Ring) {
        let groups = self.groups_of(&pending);
        let segment = self.segment.as_mut().expect("a segment was chosen");
        let sequence = self.next_sequence;
        let header = RecordHeader {
            segment: segment.prepared.id,
            salt: segment.salt,
            sequence,
            durable_mark: self.commit.durable_mark(),
            offset: pending.start,
            edit_count: pending.count,
            wall_ms: now.wall_ms,
            steady_ms: now.steady_ms,
            term: 0,
        };
        let len = record_bytes(groups.as_ref(), pending.edits.len(), layout);
        let mut buffer = self.spare.pop().unwrap_or_default();
        encode_into(buffer.bytes_mut(len), &header, groups.as_ref(), &pending.edits, layout);
        if let Some(groups) = groups {
            self.settled_said = self.settled_said.max(groups.settled());
            if groups.iter().next().is_some() {
                self.last_group = sequence;
            }
        }
        let end = Offset(pending.start.0 + pending.edits.len() as u64);
        self.commit.begin(sequence, end, now.steady_ms);
        self.next_sequence = sequence.next();
        if let Some((offset, last)) = &mut self.watched
            && end <= *offset
        {
            *last = sequence;
        }
        let position = segment.position;
        segment.position += len as u64;
        segment.dirty = true;
        self.records += 1;
        self.bytes += len as u64;
        let segment = segment.prepared.clone();
        let write =
            InFlight { sequence, segment, position, buffer, len, written: 0, complete: false, started_ticks: ticks };
        write.submit(ring);
        self.in_flight.push_back(write);
    }

    /// Has the next segment made before this one is full.
    fn prepare_ahead(&mut self, layout: Layout) {
        let segment = self.segment.as_ref().expect("just written to");
        if segment.position > segment.prepared.bytes / 2 {
            let bytes = (segment.prepared.bytes * 2).min(self.segment_bytes);
            self.preparer.ask(self.next_segment, layout, bytes, self.segment_bytes);
        }
    }

    /// A record's write completed. When the whole record is written, how long it took.
    pub fn written(&mut self, sequence: u64, result: i32, ticks: u64, ring: &mut Ring) -> Option<u64> {
        let write = self.in_flight.iter_mut().find(|write| write.sequence.0 == sequence);
        let write = write.expect("a completion belongs to a write under way");
        if result <= 0 {
            let error = std::io::Error::from_raw_os_error(-result);
            let what = format!("writing {} at byte {}: {error}", write.segment.path.display(), write.position);
            self.fail(what);
            return None;
        }
        write.written += result as usize;
        if write.written < write.len {
            write.submit(ring);
            return None;
        }
        write.complete = true;
        let took = ticks.saturating_sub(write.started_ticks);
        self.count_complete();
        Some(took)
    }

    pub fn header_written(&mut self, segment: u64, result: i32) {
        let found = self.segment.iter_mut().chain(&mut self.retired).find(|found| found.prepared.id.0 == segment);
        let found = found.expect("a segment stays until its header is written");
        if result != BLOCK_BYTES as i32 {
            let error = std::io::Error::from_raw_os_error(-result.min(0));
            let what = format!("writing the header of {}: {error}", found.prepared.path.display());
            return self.fail(what);
        }
        found.header_written = true;
        found.dirty = true;
        self.count_complete();
    }

    /// Tells the commit of records that are complete in segments whose header is there.
    fn count_complete(&mut self) {
        let mut at = 0;
        while at < self.in_flight.len() {
            let write = &self.in_flight[at];
            let id = write.segment.id;
            let segments = self.segment.iter().chain(&self.retired);
            let ready = write.complete && segments.filter(|s| s.prepared.id == id).all(|s| s.header_written);
            if ready {
                let write = self.in_flight.remove(at).expect("index is in range");
                let mut segments = self.segment.iter_mut().chain(&mut self.retired);
                if let Some(segment) = segments.find(|segment| segment.prepared.id == id) {
                    segment.dirty = true;
                }
                self.commit.written(write.sequence);
                if write.buffer.capacity <= SPARE_BYTES_MAX {
                    self.spare.push(write.buffer);
                }
            } else {
                at += 1;
            }
        }
        self.forget_retired();
    }

    fn forget_retired(&mut self) {
        let in_flight = &self.in_flight;
        self.retired.retain(|segment| {
            let written = !in_flight.iter().any(|write| write.segment.id == segment.prepared.id);
            let needs_sync = segment.dirty && segment.prepared.layout == Layout::Bytes;
            !segment.header_written || !written || needs_sync
        });
    }

    /// Starts a sync if one is due, or if `now_or_never` and there is anything to sync.
    pub fn sync(&mut self, now: Now, now_or_never: bool, ring: &mut Ring) {
        let due = self.commit.sync_due(now.steady_ms).is_some_and(|due| due <= now.steady_ms);
        let crowded = self.retired.len() > RETIRED_MAX;
        if !(due || crowded || now_or_never) || self.sync.is_some() || self.failure.is_some() {
            return;
        }
        let Some(ticket) = self.commit.sync_begin() else { return };
        let mut files = Vec::new();
        for segment in self.segment.iter_mut().chain(&mut self.retired) {
            if segment.dirty && segment.prepared.layout == Layout::Bytes {
                files.push(segment.prepared.clone());
                // Bytes written from here on are for the next sync.
                segment.dirty = false;
            }
        }
        for file in &files {
            let entry = opcode::Fsync::new(types::Fd(file.file.as_raw_fd()))
                .flags(types::FsyncFlags::DATASYNC)
                .build()
                .user_data(token(Operation::LogSync, 0));
            // SAFETY: the request points to nothing; the file stays open in `files`.
            unsafe { ring.push(entry) };
        }
        self.syncs += 1;
        let outstanding = files.len();
        self.sync = Some(SyncUnderWay { ticket, outstanding, files });
        if outstanding == 0 {
            self.finish_sync();
        }
    }

    pub fn synced(&mut self, result: i32) {
        let sync = self.sync.as_mut().expect("a sync completes after it began");
        sync.outstanding -= 1;
        if result < 0 {
            let error = std::io::Error::from_raw_os_error(-result);
            let paths: Vec<String> = sync.files.iter().map(|file| file.path.display().to_string()).collect();
            // Never tried again: the kernel may have dropped the pages and would call the next one a success.
            return self.fail(format!("syncing {}: {error}", paths.join(", ")));
        }
        if sync.outstanding == 0 {
            self.finish_sync();
        }
    }

    fn finish_sync(&mut self) {
        if let Some(sync) = self.sync.take() {
            self.commit.synced(sync.ticket);
        }
        self.forget_retired();
    }

    fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            tracing::error!(shard = self.shard.0, "the log has failed, no more writes until a restart: {what}");
            self.failure = Some(what);
            self.commit.failed();
        }
    }

    // ---- snapshots -----------------------------------------------------------------------------------------

    /// A snapshot holds everything up to this offset, where a record will end.
    pub fn watch(&mut self, offset: Offset) {
        self.watched = Some((offset, self.next_sequence.previous()));
    }
    /// The last record before the watched offset, once all up to there are on disk.
    pub fn watched(&self) -> Option<Sequence> {
        let (offset, last) = self.watched?;
        (self.commit.durable_offset() >= offset).then_some(last)
    }
    /// Records up to this one are in a snapshot that is on disk: their segments are used again, go to the archive, or go.
    pub fn recycle(&mut self, through: Sequence, archive: Option<PathBuf>) {
        self.watched = None;
        let retired = &self.retired;
        let is_done = |old: &OldSegment| {
            old.last_sequence <= through && !retired.iter().any(|segment| segment.prepared.path == old.path)
        };
        let (done, left) = std::mem::take(&mut self.old).into_iter().partition(is_done);
        self.old = left;
        self.over_limit = None;
        self.preparer.recycle(done.into_iter().map(|old: OldSegment| old.path).collect(), archive);
    }
    /// Whether there are segments that a snapshot would replace.
    pub fn has_old(&self) -> bool {
        !self.old.is_empty()
    }
    /// Bytes of all segments, one that is being made not counted.
    pub fn bytes_on_disk(&self) -> u64 {
        let current = self.segment.as_ref().map_or(0, |segment| segment.prepared.bytes);
        current + self.old.iter().map(|old| old.bytes).sum::<u64>()
    }

    fn limit_reached(&self, wanted: u64) -> Option<String> {
        let (max, used) = (self.bytes_max, self.bytes_on_disk());
        let is_over = max > 0 && used + wanted > max;
        is_over.then(|| format!("it has {used} bytes on disk, and wal-max-size is {max}; a snapshot makes room"))
    }

    /// Why there is no segment to write to, as long as that lasts (a full disk).
    pub fn obstacle(&self) -> Option<String> {
        self.over_limit.clone().or_else(|| self.preparer.obstacle())
    }
    /// Tries again what a full disk prevented.
    pub fn retry(&mut self) {
        self.preparer.retry();
    }
    /// Everything taken is written (and, but for the policy `no`, synced).
    pub fn is_settled(&self) -> bool {
        self.failure.is_some()
            || (self.pending.is_none()
                && self.in_flight.is_empty()
                && self.sync.is_none()
                && self.commit.unsynced_bytes() == 0)
    }
    /// Bytes of the largest batch that is being written, or waits for a segment.
    pub fn largest_under_way(&self) -> u64 {
        let written = self.in_flight.iter().map(|write| write.len);
        let pending = self.pending.iter().map(|pending| pending.edits.len() + pending.groups.bytes().len());
        written.chain(pending).max().unwrap_or(0) as u64
    }
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }
}

impl InFlight {
    fn submit(&self, ring: &mut Ring) {
        // SAFETY: `written` is at most `len`, which the buffer holds.
        let rest = unsafe { self.buffer.address().add(self.written) };
        let entry =
            opcode::Write::new(types::Fd(self.segment.file.as_raw_fd()), rest, (self.len - self.written) as u32)
                .offset(self.position + self.written as u64)
                .build()
                .user_data(token(Operation::LogWrite, self.sequence.0));
        // SAFETY: the buffer's memory stays in place until the record is complete: it is in `in_flight`, and moving an
        // AlignedBuffer doesn't move what it points to.
        unsafe { ring.push(entry) };
    }
}

pub fn layout_of(policy: FsyncPolicy) -> Layout {
    match policy {
        FsyncPolicy::Always => Layout::Blocks,
        FsyncPolicy::EverySec | FsyncPolicy::No => Layout::Bytes,
    }
}

/// Memory aligned for direct I/O.
pub struct AlignedBuffer {
    memory: NonNull<u8>,
    capacity: usize,
}

impl AlignedBuffer {
    pub fn new() -> Self {
        AlignedBuffer { memory: NonNull::dangling(), capacity: 0 }
    }
    /// The first `len` bytes, whatever they hold; grows the buffer if it must.
    pub fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        if self.capacity < len {
            *self = Self::with_capacity(len.next_multiple_of(BLOCK_BYTES).next_power_of_two());
        }
        // SAFETY: the allocation holds `capacity` bytes, at least `len`, zeroed when made; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), len) }
    }
    pub fn address(&self) -> *const u8 {
        self.memory.as_ptr()
    }
    fn with_capacity(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the size isn't 0: it is a power of two.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        AlignedBuffer { memory, capacity }
    }
    fn layout(capacity: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(capacity, BLOCK_BYTES).expect("a record's size fits a layout")
    }
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated with this very layout.
            unsafe { std::alloc::dealloc(self.memory.as_ptr(), Self::layout(self.capacity)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Background;
    use crate::runtime::prepare::segment_file_name;
    use shards::wal::{GroupId, RecordReader};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    /// A writer with a segment ready, and its ring.
    async fn writer(directory: &std::path::Path, wake: i32) -> (LogWriter, Ring) {
        let preparer = Preparer::new(directory.to_path_buf(), Background::new(wake));
        let start = LogStart {
            next_segment: SegmentId::FIRST,
            next_sequence: Sequence::FIRST,
            offset: Offset(0),
            predecessor: None,
            last_group: Sequence::NONE,
        };
        let mut log = LogWriter::new(ShardId(0), 1, FsyncPolicy::EverySec, start, preparer, 4 << 20, Vec::new(), || 7);
        log.ask_for_segment();
        while !log.preparer.is_ready() {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        (log, Ring::new().expect("the tests' machine has io_uring"))
    }

    fn batch(edits: &[u8], start: u64) -> Batch {
        Batch { edits: edits.to_vec(), start: Offset(start), count: 1, ..Batch::default() }
    }

    /// The tokens of what completed.
    fn wait(ring: &mut Ring, count: usize) -> Vec<(Operation, u64, i32)> {
        let mut completions = Vec::new();
        while completions.len() < count {
            ring.enter(Some(Duration::from_secs(1))).expect("the ring works");
            ring.completions(&mut completions);
        }
        let each = completions.iter().map(|done| (token::split(done.token), done.result));
        each.map(|((operation, number), result)| (operation, number, result)).collect()
    }

    use crate::runtime::token;

    #[test]
    fn a_write_that_was_under_way_when_a_sync_began_waits_for_the_next() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().to_path_buf();
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).spawn(|| async move {
            let wake = crate::runtime::eventfd().expect("an eventfd");
            let (mut log, mut ring) = writer(&path, wake.as_raw_fd()).await;
            let sequence = log.append(batch(b"one", 0), Now::at(1_000), 0, &mut ring);
            assert_eq!(sequence, Sequence(1));
            for (operation, number, result) in wait(&mut ring, 2) {
                match operation {
                    Operation::LogHeader => log.header_written(number, result),
                    _ => drop(log.written(number, result, 0, &mut ring)),
                }
            }
            log.append(batch(b"two", 3), Now::at(2_000), 0, &mut ring);
            log.sync(Now::at(2_000), false, &mut ring);
            let done = wait(&mut ring, 2);
            // The sync is reported first: it can't have waited for the write.
            log.synced(0);
            assert_eq!(log.commit.durable_offset(), Offset(3));
            let (_, number, result) = done.into_iter().find(|done| done.0 == Operation::LogWrite).expect("it wrote");
            log.written(number, result, 0, &mut ring);
            log.sync(Now::at(3_000), false, &mut ring);
            assert_eq!(log.commit.durable_offset(), Offset(3), "on disk only once a sync has said so");
            wait(&mut ring, 1);
            log.synced(0);
            assert_eq!(log.commit.durable_offset(), Offset(6));
        });
        executor.expect("an executor").join().expect("the test ran");
    }

    #[test]
    fn a_record_may_hold_groups_alone_and_a_later_one_says_that_they_are_settled() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().to_path_buf();
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).spawn(|| async move {
            let wake = crate::runtime::eventfd().expect("an eventfd");
            let (mut log, mut ring) = writer(&path, wake.as_raw_fd()).await;
            let group = GroupId { front: ShardId(1), number: 5 };
            let mut alone = Batch::default();
            alone.groups.push(group, &[ShardId(0), ShardId(1)], 0..0);

            let later = |settled, start| Batch { settled: Sequence(settled), ..batch(b"one", start) };
            for (at, batch) in [alone, later(0, 0), later(1, 3), later(1, 6)].into_iter().enumerate() {
                assert_eq!(log.append(batch, Now::at(1_000), 0, &mut ring), Sequence(at as u64 + 1));
                for (operation, number, result) in wait(&mut ring, if at == 0 { 2 } else { 1 }) {
                    match operation {
                        Operation::LogHeader => log.header_written(number, result),
                        _ => drop(log.written(number, result, 0, &mut ring)),
                    }
                }
            }
            let file = std::fs::read(path.join(segment_file_name(SegmentId::FIRST))).expect("it was written");
            let header = SegmentHeader::decode(&file).expect("it has a header");
            let mut reader = RecordReader::new(&header, &file);
            let mut seen = Vec::new();
            while let Some(record) = reader.read().expect("whole records") {
                let groups = record.groups().map(|groups| (groups.settled().0, groups.iter().count()));
                seen.push((record.edits().len(), groups));
            }
            let news = Some((1, 0));
            assert_eq!(seen, [(0, Some((0, 1))), (3, None), (3, news), (3, None)]);
        });
        executor.expect("an executor").join().expect("the test ran");
    }
}

//! A shard's log on the simulated disk: real segment files, made of the same pure parts, and in the same order, as by
//! `runtime::disk::LogWriter`.

use super::disk::{Completion, Disk, Token};
use super::preparer::{Prepared, Preparer};
use fastrand::Rng;
use shards::units::{Now, Offset, ShardId};
use shards::wal::{
    BLOCK_BYTES, Commit, FsyncPolicy, GroupTable, Groups, Layout, Predecessor, RecordHeader, SegmentHeader, SegmentId,
    Sequence, SyncTicket, encode_into, record_bytes,
};

pub const EPOCH: u64 = 1;

/// Where a log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogStart {
    pub next_segment: SegmentId,
    pub next_sequence: Sequence,
    pub offset: Offset,
    pub predecessor: Option<Predecessor>,
    pub last_group: Sequence,
}

impl LogStart {
    pub const EMPTY: LogStart = LogStart {
        next_segment: SegmentId::FIRST,
        next_sequence: Sequence::FIRST,
        offset: Offset(0),
        predecessor: None,
        last_group: Sequence::NONE,
    };
}

/// What goes into one record.
pub struct Batch {
    pub edits: Vec<u8>,
    pub groups: GroupTable,
    pub start: Offset,
    pub count: u32,
    pub settled: Sequence,
}

struct Segment {
    prepared: Prepared,
    position: u64,
    header_written: bool,
    dirty: bool,
    salt: u32,
}

/// A segment that is full, or was there at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OldSegment {
    pub id: SegmentId,
    /// No record in it comes after this one.
    pub last_sequence: Sequence,
}

struct InFlight {
    sequence: Sequence,
    segment: SegmentId,
    position: u64,
    bytes: Vec<u8>,
    written: usize,
}

impl InFlight {
    fn is_complete(&self) -> bool {
        self.written == self.bytes.len()
    }
}

struct SyncUnderWay {
    ticket: SyncTicket,
    outstanding: usize,
}

/// The same for every life of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    pub shard: ShardId,
    pub policy: FsyncPolicy,
    pub first_segment_bytes: u64,
    pub segment_bytes_max: u64,
    /// A planted bug: a record counts as written when its write has begun.
    pub acknowledges_early: bool,
}

pub struct Writer {
    options: LogOptions,
    pub commit: Commit,
    next_sequence: Sequence,
    next_segment: SegmentId,
    predecessor: Option<Predecessor>,
    after_recovery: bool,
    segment: Option<Segment>,
    retired: Vec<Segment>,
    preparer: Preparer,
    in_flight: Vec<InFlight>,
    pending: Option<Batch>,
    last_group: Sequence,
    settled_said: Sequence,
    settled_at_start: Sequence,
    sync: Option<SyncUnderWay>,
    pub failure: Option<String>,
    old: Vec<OldSegment>,
    /// A place in the stream of edits, and the last record that ends there or before.
    watched: Option<(Offset, Sequence)>,
    salts: Rng,
    now: Now,
    now_ns: u64,
}

const DIRECT_WRITES_MAX: usize = 2;
const BUFFERED_WRITES_MAX: usize = 1;
const RETIRED_MAX: usize = 4;

impl Writer {
    pub fn new(options: LogOptions, start: LogStart, old: Vec<OldSegment>, salts: Rng) -> Writer {
        Writer {
            options,
            commit: Commit::new(options.policy, start.next_sequence.previous(), start.offset),
            next_sequence: start.next_sequence,
            next_segment: start.next_segment,
            predecessor: start.predecessor,
            after_recovery: true,
            segment: None,
            retired: Vec::new(),
            preparer: Preparer::new(options.first_segment_bytes),
            in_flight: Vec::new(),
            pending: None,
            last_group: start.last_group,
            settled_said: Sequence::NONE,
            settled_at_start: start.last_group,
            sync: None,
            failure: None,
            old,
            watched: None,
            salts,
            now: Now::default(),
            now_ns: 0,
        }
    }

    fn layout(&self) -> Layout {
        match self.options.policy {
            FsyncPolicy::Always => Layout::Blocks,
            FsyncPolicy::EverySec | FsyncPolicy::No => Layout::Bytes,
        }
    }

    /// The beginning of a turn.
    pub fn set_now(&mut self, now: Now, now_ns: u64) {
        (self.now, self.now_ns) = (now, now_ns);
    }

    pub fn ask_for_segment(&mut self, disk: &mut Disk) {
        self.ask(BLOCK_BYTES as u64, disk);
    }

    fn ask(&mut self, bytes_min: u64, disk: &mut Disk) {
        self.preparer.ask(self.next_segment, self.layout(), bytes_min, self.options.segment_bytes_max, disk);
    }

    pub fn prepare(&mut self, rng: &mut Rng, swift: bool, disk: &mut Disk) {
        self.preparer.advance(rng, swift, disk);
    }

    pub fn accepts(&self) -> bool {
        let most = match self.layout() {
            Layout::Blocks => DIRECT_WRITES_MAX,
            Layout::Bytes => BUFFERED_WRITES_MAX,
        };
        self.failure.is_none() && self.pending.is_none() && self.in_flight.len() < most
    }

    pub fn append(&mut self, batch: Batch, disk: &mut Disk) -> Sequence {
        assert!(self.accepts());
        assert!(!batch.edits.is_empty() || !batch.groups.is_empty(), "a record says something");
        assert!(batch.settled < self.next_sequence, "nothing is settled before it is written");
        let misplaced = batch.groups.groups(batch.settled).misplaced(self.options.shard, u16::MAX);
        assert_eq!(misplaced, None, "a shard logs the groups that it takes part in");
        let sequence = self.next_sequence;
        self.pending = Some(batch);
        self.write_pending(disk);
        sequence
    }

    /// Writes the batch that waits, if there is one and now a segment for it.
    pub fn write_pending(&mut self, disk: &mut Disk) {
        let Some(pending) = &self.pending else { return };
        let needed = record_bytes(self.groups_of(pending).as_ref(), pending.edits.len(), self.layout()) as u64;
        let fits = self.segment.as_ref().is_some_and(|segment| segment.position + needed <= segment.prepared.bytes);
        if !fits && !self.turn_to_next_segment(needed, disk) {
            return;
        }
        let pending = self.pending.take().expect("looked at above");
        self.write(pending, disk);
        let segment = self.segment.as_ref().expect("just written to");
        if segment.position > segment.prepared.bytes / 2 {
            let bytes = (segment.prepared.bytes * 2).min(self.options.segment_bytes_max);
            self.ask(bytes, disk);
        }
    }

    fn groups_of<'b>(&self, batch: &'b Batch) -> Option<Groups<'b>> {
        let settled = batch.settled.max(self.settled_at_start);
        let is_news = self.settled_said < self.last_group && settled > self.settled_said;
        (!batch.groups.is_empty() || is_news).then(|| batch.groups.groups(settled))
    }

    fn turn_to_next_segment(&mut self, needed: u64, disk: &mut Disk) -> bool {
        let bytes_min = needed + BLOCK_BYTES as u64;
        let Some(prepared) = self.preparer.take(bytes_min) else {
            self.ask(bytes_min, disk);
            return false;
        };
        if let Some(old) = self.segment.take() {
            let (segment, last_sequence, end) = (old.prepared.id, self.next_sequence.previous(), old.position);
            self.predecessor = Some(Predecessor { segment, last_sequence, end });
            self.old.push(OldSegment { id: segment, last_sequence });
            self.retired.push(old);
        }
        let salt = self.salts.u32(..);
        let header = SegmentHeader {
            id: prepared.id,
            epoch: EPOCH,
            shard: self.options.shard,
            layout: prepared.layout,
            salt,
            wall_ms: self.now.wall_ms,
            steady_ms: self.now.steady_ms,
            first_sequence: self.next_sequence,
            first_offset: self.pending.as_ref().expect("a segment is opened for a batch").start,
            durable_mark: self.commit.durable_mark(),
            predecessor: self.predecessor,
            after_recovery: self.after_recovery,
        };
        self.after_recovery = false;
        self.next_segment = prepared.id.next();
        let durable = prepared.layout == Layout::Blocks;
        disk.write(self.now_ns, Token::Header(prepared.id), prepared.id, 0, &header.encode(), durable);
        self.segment =
            Some(Segment { prepared, position: BLOCK_BYTES as u64, header_written: false, dirty: true, salt });
        true
    }

    fn write(&mut self, pending: Batch, disk: &mut Disk) {
        let groups = self.groups_of(&pending);
        let layout = self.layout();
        let sequence = self.next_sequence;
        let segment = self.segment.as_mut().expect("a segment was chosen");
        let header = RecordHeader {
            segment: segment.prepared.id,
            salt: segment.salt,
            sequence,
            durable_mark: self.commit.durable_mark(),
            offset: pending.start,
            edit_count: pending.count,
            wall_ms: self.now.wall_ms,
            steady_ms: self.now.steady_ms,
            term: 0,
        };
        let mut bytes = vec![0; record_bytes(groups.as_ref(), pending.edits.len(), layout)];
        encode_into(&mut bytes, &header, groups.as_ref(), &pending.edits, layout);
        if let Some(groups) = groups {
            self.settled_said = self.settled_said.max(groups.settled());
            if groups.iter().next().is_some() {
                self.last_group = sequence;
            }
        }
        let end = Offset(pending.start.0 + pending.edits.len() as u64);
        self.commit.begin(sequence, end, self.now.steady_ms);
        if let Some((offset, last)) = &mut self.watched
            && end <= *offset
        {
            *last = sequence;
        }
        if self.options.acknowledges_early {
            self.commit.written(sequence);
        }
        self.next_sequence = sequence.next();
        let position = segment.position;
        segment.position += bytes.len() as u64;
        segment.dirty = true;
        let write = InFlight { sequence, segment: segment.prepared.id, position, bytes, written: 0 };
        self.submit(&write, disk);
        self.in_flight.push(write);
    }

    fn submit(&self, write: &InFlight, disk: &mut Disk) {
        let at = write.position as usize + write.written;
        let durable = self.layout() == Layout::Blocks;
        let token = Token::Record(write.sequence);
        disk.write(self.now_ns, token, write.segment, at, &write.bytes[write.written..], durable);
    }

    // ---- completions ---------------------------------------------------------------------------------------

    pub fn complete(&mut self, completion: Completion, disk: &mut Disk) {
        let Completion { token, result } = completion;
        match token {
            Token::Header(_) | Token::Record(_) if result <= 0 => self.fail("a write failed"),
            Token::Header(segment) => self.header_written(segment, result),
            Token::Record(sequence) => self.written(sequence, result, disk),
            Token::Sync => self.synced(result),
        }
    }

    fn written(&mut self, sequence: Sequence, result: i32, disk: &mut Disk) {
        let at = self.in_flight.iter().position(|write| write.sequence == sequence);
        let at = at.expect("a completion belongs to a write under way");
        self.in_flight[at].written += result as usize;
        if self.in_flight[at].is_complete() {
            return self.count_complete();
        }
        let write = self.in_flight.remove(at);
        self.submit(&write, disk);
        self.in_flight.insert(at, write);
    }

    fn header_written(&mut self, segment: SegmentId, result: i32) {
        if result != BLOCK_BYTES as i32 {
            return self.fail("a header was written in part");
        }
        let found = self.segment.iter_mut().chain(&mut self.retired).find(|found| found.prepared.id == segment);
        let found = found.expect("a segment stays until its header is written");
        found.header_written = true;
        found.dirty = true;
        self.count_complete();
    }

    /// Tells the commit of records that are complete in segments whose header is there.
    fn count_complete(&mut self) {
        let mut complete = Vec::new();
        let segments = &mut self.segment;
        self.in_flight.retain(|write| {
            let mut segments = segments.iter_mut().chain(&mut self.retired);
            let segment = segments.find(|segment| segment.prepared.id == write.segment);
            let segment = segment.expect("a segment stays until its records are written");
            let ready = write.is_complete() && segment.header_written;
            if ready {
                segment.dirty = true;
                complete.push(write.sequence);
            }
            !ready
        });
        if !self.options.acknowledges_early {
            complete.into_iter().for_each(|sequence| self.commit.written(sequence));
        }
        self.forget_retired();
    }

    fn forget_retired(&mut self) {
        let in_flight = &self.in_flight;
        self.retired.retain(|segment| {
            let written = !in_flight.iter().any(|write| write.segment == segment.prepared.id);
            let needs_sync = segment.dirty && segment.prepared.layout == Layout::Bytes;
            !segment.header_written || !written || needs_sync
        });
    }

    /// Starts a sync if one is due, or if `now_or_never` and there is anything to sync.
    pub fn sync(&mut self, now_or_never: bool, disk: &mut Disk) {
        let now_ms = self.now.steady_ms;
        let due = self.commit.sync_due(now_ms).is_some_and(|due| due <= now_ms);
        let crowded = self.retired.len() > RETIRED_MAX;
        if !(due || crowded || now_or_never) || self.sync.is_some() || self.failure.is_some() {
            return;
        }
        let Some(ticket) = self.commit.sync_begin() else { return };
        let mut outstanding = 0;
        for segment in self.segment.iter_mut().chain(&mut self.retired) {
            if segment.dirty && segment.prepared.layout == Layout::Bytes {
                disk.sync(self.now_ns, segment.prepared.id);
                outstanding += 1;
                segment.dirty = false;
            }
        }
        self.sync = Some(SyncUnderWay { ticket, outstanding });
        if outstanding == 0 {
            self.finish_sync();
        }
    }

    fn synced(&mut self, result: i32) {
        let sync = self.sync.as_mut().expect("a sync completes after it began");
        sync.outstanding -= 1;
        if result < 0 {
            return self.fail("a sync failed");
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

    fn fail(&mut self, what: &str) {
        self.failure.get_or_insert_with(|| what.to_string());
        self.commit.failed();
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
    /// Records up to this one are in a snapshot: their segments go. Whether there are any.
    pub fn recycle(&mut self, through: Sequence, disk: &mut Disk) -> bool {
        self.watched = None;
        let retired = &self.retired;
        let is_retired = |old: &OldSegment| retired.iter().any(|segment| segment.prepared.id == old.id);
        let is_done = |old: &OldSegment| old.last_sequence <= through && !is_retired(old);
        let (done, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.old).into_iter().partition(is_done);
        self.old = left;
        done.iter().for_each(|old| disk.remove(old.id));
        !done.is_empty()
    }

    // ---- what others ask -----------------------------------------------------------------------------------

    pub fn obstacle(&self) -> Option<String> {
        self.preparer.obstacle()
    }
    pub fn retry(&mut self, disk: &mut Disk) {
        self.preparer.retry(disk);
    }
    /// Everything taken is with the kernel.
    pub fn is_written(&self) -> bool {
        self.pending.is_none() && self.in_flight.is_empty()
    }
    /// And on disk.
    pub fn is_settled(&self) -> bool {
        self.failure.is_some() || (self.is_written() && self.sync.is_none() && self.commit.unsynced_bytes() == 0)
    }
}

//! What a start makes of the segments it finds: which records are the log, where it ends, and whether to go on at all.
//!
//! Fed the first block of every segment at once and then one whole segment at a time; hands each verified record to the
//! caller and touches no file. The rule: what is applied is a prefix of what was written, and if anything known to have
//! been on disk is not in it, the start is refused (unless a repair was asked for, which cuts there).
//!
//! A table for each of the three questions; the first row that matches decides, and none can match in two ways.
//! `next` is the sequence that is to come.
//!
//! A segment, in order of its number, while no gap is open:
//!
//! | its header                                        | verdict                                                  |
//! |---------------------------------------------------|----------------------------------------------------------|
//! | a later recovery cut it off (see below)           | passed over, not even searched                           |
//! | version unknown, checksum good                    | refuse, repair or not: a newer program wrote it          |
//! | blank, and no record of this segment behind it    | passed over: never begun, or recycled and not begun      |
//! | blank                                             | gap at `next`                                            |
//! | fails to verify                                   | gap at `next`                                            |
//! | names another segment, shard or epoch             | gap at `next`, certain: no power cut moves files         |
//! | starts after `next`                               | gap at `next`, where the log before it ended             |
//! | starts before `next`, or with the wrong offset    | gap at `next`, certain                                   |
//! | starts with `next`                                | its records are read                                     |
//!
//! The bytes where a record may start, up to the end that the following segment gives for this one, else to the file's:
//!
//! | bytes                                             | verdict                                                  |
//! |---------------------------------------------------|----------------------------------------------------------|
//! | nothing but zeros, or no bytes                    | end of the segment; the next one's start is the check    |
//! | verified, version unknown                         | refuse, repair or not                                    |
//! | verified, its turn, edits readable, groups fit    | applied, but for groups that the caller skips            |
//! | verified, its turn                                | gap at `next`, certain: it was written like that         |
//! | anything else                                     | gap at `next`                                            |
//!
//! Once a gap is open nothing more is applied. The rest of its segment and all later ones are searched for records and
//! headers that were written when `next` was known to be on disk (durable mark >= `next`). At the end:
//!
//! | gap                                               | verdict                                                  |
//! |---------------------------------------------------|----------------------------------------------------------|
//! | none                                              | recovered                                                |
//! | certain, or a durable mark reaches it; no repair  | refused: damage                                          |
//! | any other                                         | recovered; the log is cut at the gap, which is reported  |
//!
//! The log then continues in a fresh segment whose header is marked `after_recovery` and names the true end as its
//! predecessor: what lies between the two is the first row of the first table from then on.
//!
//! With a snapshot (`from_base`) the log starts behind the last record whose edits are in it. Segments that end before that are
//! passed over, as if cut off; of the one that holds the place, the records before it are verified and not applied, and
//! where they can't be, the place is where a gap would be: what is in the snapshot is not missing.
//!
//! A second reading (`until`) stops where all shards' logs agree to end, which may be before a mark: what it leaves out
//! was found sound by the first, so it judges nothing, and anything but the same records again is an error.

use super::record::Record;
use super::segment::{Predecessor, RecordReader, SegmentError, SegmentHeader, Stop, StopReason};
use super::{BLOCK_BYTES, Layout, SegmentId, Sequence, u32_at};
use crate::keyspace::{Edit, EditError};
use crate::units::{Offset, ShardId};
use std::fmt;

/// Bytes that a search may checksum, as a multiple of those it searches: what fails its checksum claims any length, and
/// a segment full of such claims would take for ever.
const SEARCH_FACTOR_MAX: u64 = 16;

/// What to do where records are missing that were on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDamage {
    Refuse,
    /// Keep what comes before, as the operator accepts to lose the rest.
    Repair,
}

/// Where a log is read from: what a snapshot holds ends here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// The first record that isn't in it.
    pub next_sequence: Sequence,
    /// Where that record's edits start.
    pub offset: Offset,
    pub wall_ms: u64,
    pub steady_ms: u64,
}

/// A log that was read, and what its continuation needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    pub next_sequence: Sequence,
    pub next_segment_id: SegmentId,
    pub next_offset: Offset,
    /// For the header of the next segment, together with `after_recovery`.
    pub predecessor: Option<Predecessor>,
    pub cut: Option<Cut>,
    /// Of the last record, or of the last segment's header if that is younger; 0 without any.
    pub last_wall_ms: u64,
    pub last_steady_ms: u64,
    pub records: u64,
    pub edits: u64,
    /// Bytes of edits.
    pub bytes: u64,
}

/// A tail that was cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    pub segment: SegmentId,
    /// Bytes from the start of that segment's file.
    pub position: u64,
    pub sequence: Sequence,
    pub reason: StopReason,
    /// Bytes given up, here and in later segments, zeros at their ends not counted.
    pub bytes: u64,
    /// Whole records among them.
    pub records_dropped: u64,
    /// What a repair overrode: the loss is more than a tail.
    pub damage: Option<Damage>,
}

/// Records are missing that were on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    pub segment: SegmentId,
    /// Bytes from the start of that segment's file.
    pub position: u64,
    /// The first record that is missing.
    pub sequence: Sequence,
    pub reason: StopReason,
    /// Who says that it was on disk; `None` where the reason itself is no work of a power cut.
    pub evidence: Option<Evidence>,
}

/// A record or a segment header that was written when a missing record was known to be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evidence {
    pub segment: SegmentId,
    pub position: u64,
    pub durable_mark: Sequence,
}

/// Why a start is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{0}")]
    Damage(Damage),
    #[error("segment {}, position {position}: written by a newer version (format {version})", .segment.0)]
    Unsupported { segment: SegmentId, position: u64, version: u16 },
    #[error("segment {}, position {position}: record {} cannot be applied: {error}", .segment.0, .sequence.0)]
    Rejected { segment: SegmentId, position: u64, sequence: Sequence, error: EditError },
    #[error("segment {} has another header than at its first reading", .0.0)]
    Changed(SegmentId),
    #[error("the log ends before record {} that was there at its first reading", .0.0)]
    Shrunk(Sequence),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, position, sequence, reason, evidence } = self;
        write!(f, "segment {}, position {position}: record {} is missing ({reason})", segment.0, sequence.0)?;
        match evidence {
            Some(Evidence { segment, position, durable_mark }) => write!(
                f,
                ", although segment {}, position {position} says that all up to {} were on disk",
                segment.0, durable_mark.0
            ),
            None => Ok(()),
        }
    }
}

/// A segment as its name and its first block show it.
#[derive(Clone, Copy, Debug)]
struct Found {
    id: SegmentId,
    header: Result<SegmentHeader, StopReason>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Part of the log; where it ends, if a later segment says so.
    Live(Option<Predecessor>),
    /// An earlier recovery ended the log before this segment.
    CutOff,
}

/// Where the log stops making sense.
#[derive(Clone, Copy, Debug)]
struct Gap {
    segment: SegmentId,
    position: u64,
    sequence: Sequence,
    reason: StopReason,
    certain: bool,
    evidence: Option<Evidence>,
    bytes: u64,
    records_dropped: u64,
}

/// One start's reading of one shard's log.
#[derive(Clone, Debug)]
pub struct Recovery {
    shard: ShardId,
    shards: u16,
    epoch: u64,
    on_damage: OnDamage,
    base: Base,
    /// The record before which a second reading ends.
    until: Option<Sequence>,
    segments: Vec<Found>,
    /// The segment to read next.
    turn: usize,
    gap: Option<Gap>,
    end: Option<Predecessor>,
    next_sequence: Sequence,
    next_offset: Offset,
    last_wall_ms: u64,
    last_steady_ms: u64,
    records: u64,
    edits: u64,
}

/// Takes a verified record's edits, all of them or, on an error, the start with it.
pub type Apply<'f> = dyn FnMut(&Record<'_>) -> Result<(), EditError> + 'f;

impl Recovery {
    /// `shards`: how many the epoch has. `starts`: every segment of the shard, in ascending order, its number taken from
    /// its name, with the first `BLOCK_BYTES` of its file (fewer if it is shorter).
    pub fn new(
        shard: ShardId,
        shards: u16,
        epoch: u64,
        starts: &[(SegmentId, &[u8])],
        on_damage: OnDamage,
    ) -> Result<Recovery, RecoveryError> {
        assert!(starts.is_sorted_by(|a, b| a.0 < b.0), "segments come in ascending order");
        let mut segments: Vec<Found> = starts
            .iter()
            .map(|&(id, start)| Found { id, header: open(id, shard, epoch, start), place: Place::Live(None) })
            .collect();
        place(&mut segments);
        for found in &segments {
            if let (Err(StopReason::Header(SegmentError::UnsupportedVersion(version))), Place::Live(_)) =
                (found.header, found.place)
            {
                return Err(RecoveryError::Unsupported { segment: found.id, position: 0, version });
            }
        }
        Ok(Recovery {
            shard,
            shards,
            epoch,
            on_damage,
            base: Base { next_sequence: Sequence::FIRST, offset: Offset(0), wall_ms: 0, steady_ms: 0 },
            until: None,
            segments,
            turn: 0,
            gap: None,
            end: None,
            next_sequence: Sequence::FIRST,
            next_offset: Offset(0),
            last_wall_ms: 0,
            last_steady_ms: 0,
            records: 0,
            edits: 0,
        })
    }

    /// Makes it a reading of what a snapshot lacks. Before anything is read.
    pub fn from_base(mut self, base: Base) -> Self {
        assert!(self.turn == 0 && self.until.is_none(), "a reading's base comes before all else");
        let firsts = self.segments.iter().map(|found| found.header.ok().map(|header| header.first_sequence));
        let firsts: Vec<Option<Sequence>> = firsts.collect();
        for (at, found) in self.segments.iter_mut().enumerate() {
            let next = firsts[at + 1..].iter().find_map(|first| *first);
            if next.is_some_and(|next| next <= base.next_sequence) {
                found.place = Place::CutOff;
            }
        }
        self.base = base;
        (self.next_sequence, self.next_offset) = (base.next_sequence, base.offset);
        (self.last_wall_ms, self.last_steady_ms) = (base.wall_ms, base.steady_ms);
        self
    }

    /// Makes it a second reading, up to but without the record `until`, which the first one found or was to come next.
    pub fn until(mut self, until: Sequence) -> Self {
        assert!(until >= self.next_sequence, "what was read is not taken back");
        self.until = Some(until);
        self
    }

    /// The record that comes next; all before it were applied.
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }

    /// The segment that `read` wants now; `None` when all were read.
    pub fn next_segment(&self) -> Option<SegmentId> {
        if self.is_complete() {
            return None;
        }
        let wanted = |found: &&Found| found.place != Place::CutOff;
        self.segments[self.turn..].iter().find(wanted).map(|found| found.id)
    }

    /// Reads the segment that `next_segment` named, `bytes` being its whole file. Records come in order, each once. After an
    /// error the shard's state is of no use.
    pub fn read(&mut self, bytes: &[u8], apply: &mut Apply<'_>) -> Result<(), RecoveryError> {
        let id = self.next_segment().expect("a segment is wanted");
        let wanted = self.segments[self.turn..].iter().position(|found| found.id == id);
        self.turn += wanted.expect("the segment was found a moment ago") + 1;
        let found = self.segments[self.turn - 1];
        if open(id, self.shard, self.epoch, bytes) != found.header {
            return Err(RecoveryError::Changed(id));
        }
        if self.gap.is_none() {
            self.gap = self.read_live(&found, bytes, apply)?;
        }
        if self.until.is_some() {
            return self.gap.map_or(Ok(()), |gap| Err(RecoveryError::Shrunk(gap.sequence)));
        }
        if let Some(gap) = self.gap.take() {
            self.gap = Some(search(gap, &found, bytes)?);
        }
        self.judge().map(|_| ())
    }

    /// After the last segment.
    pub fn finish(self) -> Result<Recovered, RecoveryError> {
        assert_eq!(self.next_segment(), None, "all segments were read");
        if self.until.is_some() && !self.is_complete() {
            return Err(RecoveryError::Shrunk(self.next_sequence));
        }
        let damage = self.judge()?;
        let cut = self.gap.map(|gap| Cut {
            segment: gap.segment,
            position: gap.position,
            sequence: gap.sequence,
            reason: gap.reason,
            bytes: gap.bytes,
            records_dropped: gap.records_dropped,
            damage,
        });
        Ok(Recovered {
            next_sequence: self.next_sequence,
            next_segment_id: self.segments.last().map_or(SegmentId::FIRST, |found| found.id.next()),
            next_offset: self.next_offset,
            predecessor: self.end,
            cut,
            last_wall_ms: self.last_wall_ms,
            last_steady_ms: self.last_steady_ms,
            records: self.records,
            edits: self.edits,
            bytes: self.next_offset.0 - self.base.offset.0,
        })
    }

    fn is_complete(&self) -> bool {
        self.until == Some(self.next_sequence)
    }

    /// The first table.
    fn read_live(&mut self, found: &Found, bytes: &[u8], apply: &mut Apply<'_>) -> Result<Option<Gap>, RecoveryError> {
        let header = match found.header {
            Ok(header) => header,
            Err(reason @ StopReason::Header(SegmentError::Blank)) => {
                let gap = self.gap_at(found.id, 0, reason);
                let begun = search(gap, found, bytes)?.records_dropped > 0;
                return Ok(begun.then_some(gap));
            }
            Err(reason) => return Ok(Some(self.gap_at(found.id, 0, reason))),
        };
        let start = (header.id, header.first_sequence);
        if header.first_sequence > self.next_sequence {
            return Ok(Some(self.gap_at_end(start)));
        }
        if header.first_sequence < self.next_sequence
            && self.end.is_none()
            && self.base.next_sequence == self.next_sequence
        {
            // The snapshot's place is somewhere in it, or was to be.
            (self.next_sequence, self.next_offset) = (header.first_sequence, header.first_offset);
            let gap = self.read_records(found, &header, bytes, apply)?;
            return Ok(self.behind_base(gap));
        }
        if header.first_sequence < self.next_sequence {
            let reason = StopReason::Overlap { segment: start.0, sequence: start.1 };
            return Ok(Some(self.gap_at(found.id, 0, reason)));
        }
        if header.first_offset != self.next_offset {
            let reason = StopReason::WrongStart { expected: self.next_offset, found: header.first_offset };
            return Ok(Some(self.gap_at(found.id, 0, reason)));
        }
        self.read_records(found, &header, bytes, apply)
    }

    /// The second table.
    fn read_records(
        &mut self,
        found: &Found,
        header: &SegmentHeader,
        bytes: &[u8],
        apply: &mut Apply<'_>,
    ) -> Result<Option<Gap>, RecoveryError> {
        let mut reader = RecordReader::new(header, found.up_to_end(bytes));
        self.advance(&reader, header.wall_ms, header.steady_ms);
        while !self.is_complete() {
            let position = reader.position();
            let record = match reader.read() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(Stop { position, reason: StopReason::UnsupportedVersion(version) }) => {
                    return Err(RecoveryError::Unsupported { segment: found.id, position, version });
                }
                Err(Stop { position, reason }) => return Ok(Some(self.gap_at(found.id, position, reason))),
            };
            if self.until.is_none()
                && let Err(reason) = check_edits(&record).and_then(|()| self.check_groups(&record))
            {
                return Ok(Some(self.gap_at(found.id, position, reason)));
            }
            let sequence = record.header().sequence;
            if sequence < self.base.next_sequence {
                self.advance(&reader, record.header().wall_ms, record.header().steady_ms);
                if sequence.next() == self.base.next_sequence && self.next_offset != self.base.offset {
                    let reason = StopReason::WrongOffset { expected: self.base.offset, found: self.next_offset };
                    return Ok(Some(self.gap_at(found.id, position, reason)));
                }
                continue;
            }
            apply(&record).map_err(|error| RecoveryError::Rejected { segment: found.id, position, sequence, error })?;
            self.records += 1;
            self.edits += record.header().edit_count as u64;
            self.advance(&reader, record.header().wall_ms, record.header().steady_ms);
        }
        // Whether it ended too early is seen from where the next segment starts.
        Ok(None)
    }

    /// The log ended before the snapshot's place: it goes on from there.
    fn behind_base(&mut self, gap: Option<Gap>) -> Option<Gap> {
        if self.next_sequence < self.base.next_sequence {
            (self.next_sequence, self.next_offset) = (self.base.next_sequence, self.base.offset);
            (self.last_wall_ms, self.last_steady_ms) = (self.base.wall_ms, self.base.steady_ms);
            if let Some(end) = &mut self.end {
                end.last_sequence = self.base.next_sequence.previous();
            }
        }
        gap.map(|gap| Gap { sequence: gap.sequence.max(self.base.next_sequence), ..gap })
    }

    fn check_groups(&self, record: &Record<'_>) -> Result<(), StopReason> {
        match record.groups().and_then(|groups| groups.misplaced(self.shard, self.shards)) {
            Some(group) => Err(StopReason::BadGroup { group, shards: self.shards }),
            None => Ok(()),
        }
    }

    fn advance(&mut self, reader: &RecordReader<'_>, wall_ms: u64, steady_ms: u64) {
        self.next_sequence = reader.next_sequence();
        self.next_offset = reader.next_offset();
        self.end = Some(Predecessor {
            segment: reader.segment(),
            last_sequence: self.next_sequence.previous(),
            end: reader.position(),
        });
        self.last_wall_ms = wall_ms;
        self.last_steady_ms = steady_ms;
    }

    /// The third table, as far as it is decided: the damage that a repair overrides, if any.
    fn judge(&self) -> Result<Option<Damage>, RecoveryError> {
        let Some(gap) = self.gap.filter(|gap| gap.certain || gap.evidence.is_some()) else { return Ok(None) };
        let damage = Damage {
            segment: gap.segment,
            position: gap.position,
            sequence: gap.sequence,
            reason: gap.reason,
            evidence: gap.evidence,
        };
        match self.on_damage {
            OnDamage::Refuse => Err(RecoveryError::Damage(damage)),
            OnDamage::Repair => Ok(Some(damage)),
        }
    }

    fn gap_at(&self, segment: SegmentId, position: u64, reason: StopReason) -> Gap {
        let certain = is_no_power_cut(&reason);
        let sequence = self.next_sequence;
        Gap { segment, position, sequence, reason, certain, evidence: None, bytes: 0, records_dropped: 0 }
    }

    /// A gap behind what was read so far, because a segment knows of later records.
    fn gap_at_end(&self, (segment, sequence): (SegmentId, Sequence)) -> Gap {
        let (at, position) = self.end.map_or((segment, 0), |end| (end.segment, end.end));
        self.gap_at(at, position, StopReason::Missing { segment, sequence })
    }
}

impl Found {
    fn said_end(&self) -> Option<Predecessor> {
        match self.place {
            Place::Live(end) => end,
            Place::CutOff => None,
        }
    }

    /// The segment's bytes without what lies behind the end that its successor knows.
    fn up_to_end<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let end = self.said_end().map_or(bytes.len() as u64, |end| end.end);
        &bytes[..(bytes.len() as u64).min(end) as usize]
    }
}

/// What the start of a segment is, for a file of this name in this place.
fn open(id: SegmentId, shard: ShardId, epoch: u64, start: &[u8]) -> Result<SegmentHeader, StopReason> {
    let header = SegmentHeader::decode(start).map_err(StopReason::Header)?;
    if (header.id, header.shard, header.epoch) == (id, shard, epoch) {
        Ok(header)
    } else {
        Err(StopReason::Misplaced { id: header.id, shard: header.shard, epoch: header.epoch })
    }
}

/// Finds out from the headers, the last one first, where each segment ends and which were cut off.
fn place(segments: &mut [Found]) {
    let mut after: Option<SegmentHeader> = None;
    for found in segments.iter_mut().rev() {
        let predecessor = after.and_then(|after| after.predecessor);
        let is_predecessor = predecessor.filter(|end| end.segment == found.id);
        let beyond = predecessor.is_none_or(|end| end.segment < found.id);
        if after.is_some_and(|after| after.after_recovery) && beyond {
            found.place = Place::CutOff;
            continue;
        }
        found.place = Place::Live(is_predecessor);
        // An unreadable header may have cut off older segments; those speak for themselves then.
        after = found.header.ok().or(after);
    }
}

/// Whether only a mistake, of a program or an operator, can leave this behind.
fn is_no_power_cut(reason: &StopReason) -> bool {
    match reason {
        StopReason::Misplaced { .. }
        | StopReason::Overlap { .. }
        | StopReason::WrongStart { .. }
        | StopReason::WrongOffset { .. }
        | StopReason::Impossible
        | StopReason::Header(SegmentError::Impossible)
        | StopReason::BadEdits(_)
        | StopReason::BadGroup { .. }
        | StopReason::BadGroupRange(_)
        | StopReason::EditCount { .. } => true,
        StopReason::Hole
        | StopReason::Truncated
        | StopReason::OtherSegment
        | StopReason::BadLength
        | StopReason::BadChecksum
        | StopReason::OutOfTurn { .. }
        | StopReason::UnsupportedVersion(_)
        | StopReason::Header(_)
        | StopReason::Missing { .. } => false,
    }
}

/// All edits can be read and are as many as the header says, and those of a group are whole ones; so that no half of a
/// record or of an edit is ever applied.
fn check_edits(record: &Record<'_>) -> Result<(), StopReason> {
    let edits = record.edits();
    // Where edits of groups begin and end, in order.
    let mut bounds = (record.groups().into_iter().flat_map(|groups| groups.iter()))
        .flat_map(|group| [group.edits().start, group.edits().end].map(|bound| (bound, group.id)))
        .peekable();
    let mut at = 0;
    let mut count = 0u32;
    loop {
        while bounds.next_if(|(bound, _)| *bound == at).is_some() {}
        if let Some((_, group)) = bounds.next_if(|(bound, _)| *bound < at) {
            return Err(StopReason::BadGroupRange(group));
        }
        if at == edits.len() {
            break;
        }
        let (_, used) = Edit::decode(&edits[at..]).map_err(StopReason::BadEdits)?;
        at += used;
        count = count.saturating_add(1);
    }
    let expected = record.header().edit_count;
    if count == expected { Ok(()) } else { Err(StopReason::EditCount { expected, found: count }) }
}

/// Looks through one segment behind a gap for what survived, and for evidence that the gap was on disk.
fn search(mut gap: Gap, found: &Found, bytes: &[u8]) -> Result<Gap, RecoveryError> {
    let (salt, layout) = match found.header {
        Ok(header) => (Some(header.salt), header.layout),
        // Unreadable: any salt may be right, and records may start wherever either layout puts them.
        Err(_) => (None, Layout::Bytes),
    };
    let is_here = gap.segment == found.id;
    if let Ok(header) = found.header {
        gap.consider(Evidence { segment: found.id, position: 0, durable_mark: header.durable_mark });
    }
    let bytes = found.up_to_end(bytes);
    let from = if is_here { gap.position as usize } else { 0 };
    let written = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    gap.bytes += written.saturating_sub(from) as u64;

    let mut position = from.max(BLOCK_BYTES);
    let mut checksummed = 0u64;
    while position < written {
        let rest = &bytes[position..];
        position += match Record::verify(rest, found.id, salt) {
            Ok(record) => {
                gap.count(&record, found.id, position as u64);
                record.padded_bytes(layout)
            }
            Err(StopReason::UnsupportedVersion(version)) => {
                return Err(RecoveryError::Unsupported { segment: found.id, position: position as u64, version });
            }
            Err(StopReason::BadChecksum) => {
                checksummed += u32_at(rest, 0) as u64;
                layout.alignment()
            }
            Err(_) => layout.alignment(),
        };
        if checksummed > bytes.len() as u64 * SEARCH_FACTOR_MAX {
            // Nobody can say what is in there: leave it to the operator.
            gap.certain = true;
            break;
        }
    }
    Ok(gap)
}

impl Gap {
    fn count(&mut self, record: &Record<'_>, segment: SegmentId, position: u64) {
        let header = record.header();
        if header.sequence >= self.sequence {
            self.records_dropped += 1;
        }
        self.consider(Evidence { segment, position, durable_mark: header.durable_mark });
    }

    fn consider(&mut self, evidence: Evidence) {
        if evidence.durable_mark >= self.sequence && self.evidence.is_none() {
            self.evidence = Some(evidence);
        }
    }
}

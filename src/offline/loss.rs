//! What has to be given up so that a start works: everything from the first damage on, and on the other shards what
//! builds on it.
//!
//! A start takes back only transactions that are not settled: what all shards' disks hold, no crash takes away. Damage
//! does. So no settled mark is trusted here, and a transaction that a damaged log has lost is taken back on all shards,
//! however old. For a log that is whole this comes to what a start does.

use super::Obstacle;
use super::examine::{Examined, Part, end_before, header, read};
use super::walk::{Piece, Walk, written};
use crate::runtime::recovery;
use shards::wal::{ConsistentCut, Layout, Recovered, SegmentHeader, SegmentId, Sequence, Step, Verdict};
use std::path::PathBuf;

/// How the shards' logs agree.
pub struct Agreement {
    /// What a start would do; `None` where it is refused.
    pub start: Option<Vec<Verdict>>,
    /// What leaves no half of a transaction, on any shard.
    pub whole: Vec<Verdict>,
}

impl Agreement {
    pub fn reach(shards: &[Examined]) -> Result<Agreement, Obstacle> {
        let all = shards.iter().map(|shard| shard.all.clone()).collect();
        let whole = match ConsistentCut::new(all).step() {
            Step::Done(verdicts) => verdicts,
            Step::Ask(_) => unreachable!("every record was kept, so nothing is left to be asked"),
        };
        if shards.iter().any(Examined::is_damaged) {
            return Ok(Agreement { start: None, whole });
        }
        let places: Vec<_> = shards.iter().map(|shard| shard.place.clone()).collect();
        let settled = shards.iter().map(|shard| shard.settled.clone()).collect();
        let start = recovery::consistent_cut(&places, settled).map_err(Obstacle::World)?;
        Ok(Agreement { start: Some(start), whole })
    }

    /// Whether a start would go on with halves of transactions on this shard, as their other halves were settled when they
    /// were lost.
    pub fn leaves_halves(&self, shard: usize) -> bool {
        let start = self.start.as_ref().map(|start| start[shard].cut);
        start.is_some_and(|start| start.map(|cut| cut.before) != self.whole[shard].cut.map(|cut| cut.before))
    }

    pub fn is_sound(&self) -> bool {
        self.start.is_some() && (0..self.whole.len()).all(|shard| !self.leaves_halves(shard))
    }
}

/// What one shard gives up.
pub struct Loss {
    /// Its log without that.
    pub end: Recovered,
    /// The last record that anything says was there.
    pub last: Sequence,
    /// Records that are whole, and the transactions over several shards in them.
    pub readable: u64,
    pub groups: u64,
    /// The ends of files, or whole ones.
    pub pieces: Vec<Lost>,
    /// Whether the log itself is damaged; if not, others' damage is the reason.
    pub is_own: bool,
}

/// From `from` to the end of the file. `bytes`: those of the log, without zeros at the end and what was cut off earlier.
pub struct Lost {
    pub path: PathBuf,
    pub from: u64,
    pub bytes: u64,
}

impl Loss {
    pub fn first(&self) -> Sequence {
        self.end.next_sequence
    }
    pub fn records(&self) -> u64 {
        (self.last.0 + 1).saturating_sub(self.first().0)
    }
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }
}

/// `None` where the shard keeps all that it has: a torn tail is left to the start.
pub fn loss(examined: &Examined, verdict: &Verdict) -> Result<Option<Loss>, Obstacle> {
    let end = match verdict.cut {
        Some(cut) => end_before(examined, cut.before)?,
        None if examined.is_damaged() => examined.recovered.clone(),
        None => return Ok(None),
    };
    let first = end.next_sequence;
    let last = examined.recovered.next_sequence.previous();
    let mut loss = Loss { end, last, readable: 0, groups: 0, pieces: Vec::new(), is_own: examined.is_damaged() };
    let (segment, position) = loss.end.predecessor.map_or((SegmentId(0), 0), |end| (end.segment, end.end));
    let mut bytes = Vec::new();
    for file in examined.live().filter(|file| file.id >= segment) {
        let from = if file.id == segment { position } else { 0 };
        read(&file.path, &mut bytes)?;
        if let Part::Log(Some(end)) = file.part {
            bytes.truncate(usize::try_from(end.end).unwrap_or(usize::MAX));
        }
        let (path, lost) = (file.path.clone(), (written(&bytes) as u64).saturating_sub(from));
        if lost == 0 {
            continue;
        }
        loss.pieces.push(Lost { path, from, bytes: lost });
        let header = header(&bytes);
        let is_ours = |header: &SegmentHeader| {
            (header.id, header.shard, header.epoch) == (file.id, examined.place.shard, examined.place.epoch)
        };
        if header.is_none_or(|header| is_ours(&header)) {
            loss.last = loss.last.max(header.map_or(Sequence::NONE, |header| header.durable_mark));
            loss.count(Walk::new(&bytes, file.id, header.as_ref(), from), first);
        }
    }
    Ok(Some(loss))
}

impl Loss {
    fn count(&mut self, walk: Walk<'_>, first: Sequence) {
        for piece in walk {
            let Piece::Record(_, record) = piece else { continue };
            let header = record.header();
            self.last = self.last.max(header.durable_mark).max(header.sequence);
            if header.sequence >= first {
                self.readable += 1;
                self.groups += record.groups().map_or(0, |groups| groups.iter().count() as u64);
            }
        }
    }
}

/// Where the log ends with it, as a segment's header names it.
pub fn header_behind(examined: &Examined, loss: &Loss, id: SegmentId) -> SegmentHeader {
    SegmentHeader {
        id,
        epoch: examined.place.epoch,
        shard: examined.place.shard,
        layout: Layout::Bytes,
        // It never has a record that could be mistaken for another's: a start begins a segment of its own.
        salt: 0,
        wall_ms: loss.end.last_wall_ms,
        steady_ms: loss.end.last_steady_ms,
        first_sequence: loss.first(),
        first_offset: loss.end.next_offset,
        durable_mark: loss.first().previous(),
        predecessor: loss.end.predecessor,
        after_recovery: true,
    }
}

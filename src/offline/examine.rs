//! One shard's snapshot and log, read as a start reads them, but to the end: damage is noted, and what is behind it
//! searched.

use super::snapshot::{self, Fault, Snapshot};
use super::{Obstacle, directory};
use crate::runtime::recovery::{LogPlace, segments};
use shards::keyspace::Edit;
use shards::wal::{
    BLOCK_BYTES, Base, HeldGroups, OnDamage, Place, Predecessor, Record, Recovered, Recovery, RecoveryError,
    SegmentHeader, SegmentId, Sequence,
};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A segment's file.
pub struct Segment {
    pub id: SegmentId,
    pub path: PathBuf,
    pub part: Part,
}

/// What a segment's file is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Part of the log; where it ends, if a later segment says so.
    Log(Option<Predecessor>),
    /// All that is in it is in the snapshot, too.
    InSnapshot,
    /// An earlier start ended the log before it.
    CutOff,
    /// Prepared by a server that never came to write to it.
    Blank,
}

/// What a shard's log says.
pub struct Examined {
    pub place: LogPlace,
    /// What the log goes on behind, if there is one that can be read; else why not.
    pub snapshot: Option<Result<Snapshot, Fault>>,
    /// Other snapshots that are there.
    pub other_snapshots: Vec<u64>,
    /// In the order of their numbers.
    pub segments: Vec<Segment>,
    /// The log up to the first damage, if there is any.
    pub recovered: Recovered,
    /// Its groups as a start keeps them, and all of them.
    pub settled: HeldGroups,
    pub all: HeldGroups,
    pub groups: u64,
    /// How many databases a server needs for it.
    pub databases: u32,
    pub lacks_directory: bool,
}

impl Examined {
    /// Whether a start refuses this log.
    pub fn is_damaged(&self) -> bool {
        self.is_lost() || self.lacks_directory || self.recovered.cut.is_some_and(|cut| cut.damage.is_some())
    }

    /// Whether no cut can help: what the snapshot replaced is gone.
    pub fn is_lost(&self) -> bool {
        matches!(self.snapshot, Some(Err(_)))
    }

    pub fn path(&self, id: SegmentId) -> &Path {
        let segment = self.segments.iter().find(|segment| segment.id == id);
        &segment.expect("what is said of a segment is said of one that is there").path
    }

    pub fn live(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| matches!(segment.part, Part::Log(_)))
    }
}

/// Reads snapshot and log; an obstacle is what keeps them from being judged.
pub fn examine(place: &LogPlace) -> Result<Examined, Obstacle> {
    let snapshot = match place.snapshot {
        Some(number) => Some(snapshot::read(place, number, &mut |_, _| Ok(()))?),
        None => None,
    };
    let base = snapshot.as_ref().map(|snapshot| snapshot.as_ref().ok().map(Snapshot::base));
    let Opened { mut recovery, segments, lacks_directory } = open(place, base)?;
    let first = recovery.next_sequence();
    let mut settled = HeldGroups::new(place.shard, first);
    let mut all = HeldGroups::trusting_no_mark(place.shard, first);
    let (mut groups, mut databases) = (0, 0);
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let mut take = |record: &Record<'_>| {
            settled.take(record);
            all.take(record);
            groups += record.groups().map_or(0, |groups| groups.iter().count() as u64);
            databases = databases.max(databases_of(record.edits()));
            Ok(())
        };
        let path = find(&segments, id);
        read(path, &mut bytes)?;
        recovery.read(&bytes, &mut take).map_err(|error| unjudged(path, error))?;
    }
    let recovered = recovery.finish().map_err(|error| unjudged(&place.directory, error))?;
    let mut other_snapshots = if lacks_directory { Vec::new() } else { snapshots(place)? };
    other_snapshots.retain(|number| Some(*number) != place.snapshot);
    let place = place.clone();
    Ok(Examined {
        place,
        snapshot,
        other_snapshots,
        segments,
        recovered,
        settled,
        all,
        groups,
        databases,
        lacks_directory,
    })
}

fn snapshots(place: &LogPlace) -> Result<Vec<u64>, Obstacle> {
    let found = directory::snapshots(&place.directory);
    found.map_err(|error| Obstacle::at("reading", &place.directory, error))
}

/// The log up to but without the record `until`, which it holds, or which was to come next.
pub fn end_before(examined: &Examined, until: Sequence) -> Result<Recovered, Obstacle> {
    let place = &examined.place;
    let base = examined.snapshot.as_ref().map(|snapshot| snapshot.as_ref().ok().map(Snapshot::base));
    let mut recovery = open(place, base)?.recovery.until(until);
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let path = examined.path(id);
        read(path, &mut bytes)?;
        recovery.read(&bytes, &mut |_| Ok(())).map_err(|error| unjudged(path, error))?;
    }
    recovery.finish().map_err(|error| unjudged(&place.directory, error))
}

struct Opened {
    recovery: Recovery,
    segments: Vec<Segment>,
    lacks_directory: bool,
}

/// `base`: where the snapshot ends, `None` without one. If it has one that can't be read, the log speaks for itself: it is
/// taken to begin with its first segment.
fn open(place: &LogPlace, base: Option<Option<Base>>) -> Result<Opened, Obstacle> {
    let directory = &place.directory;
    let (found, lacks_directory) = match segments(directory) {
        Ok(found) => (found, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), true),
        Err(error) => return Err(Obstacle::at("reading", directory, error)),
    };
    let mut starts = Vec::new();
    for (id, path) in &found {
        let mut start = Vec::new();
        let file = File::open(path).and_then(|file| file.take(BLOCK_BYTES as u64).read_to_end(&mut start));
        file.map_err(|error| Obstacle::at("reading", path, error))?;
        starts.push((*id, start));
    }
    let views: Vec<(SegmentId, &[u8])> = starts.iter().map(|(id, start)| (*id, start.as_slice())).collect();
    let recovery = Recovery::new(place.shard, place.shards, place.epoch, &views, OnDamage::Repair);
    let mut recovery = recovery.map_err(|error| unjudged(directory, error))?;
    let places: Vec<Place> = recovery.places().map(|(_, place)| place).collect();
    let base = base.map(|base| base.or_else(|| starts.iter().find_map(|(_, start)| Some(base_of(&header(start)?)))));
    if let Some(base) = base.flatten() {
        recovery = recovery.from_base(base);
    }
    let without: Vec<Place> = recovery.places().map(|(_, place)| place).collect();
    let part = |at: usize| match (places[at], without[at]) {
        _ if starts[at].1.iter().all(|byte| *byte == 0) => Part::Blank,
        (Place::CutOff, _) => Part::CutOff,
        (Place::Live(_), Place::CutOff) => Part::InSnapshot,
        (Place::Live(_), Place::Live(end)) => Part::Log(end),
    };
    let segments = found.into_iter().enumerate().map(|(at, (id, path))| Segment { id, path, part: part(at) });
    let segments = segments.collect();
    Ok(Opened { recovery, segments, lacks_directory })
}

fn base_of(header: &SegmentHeader) -> Base {
    let SegmentHeader { first_sequence: next_sequence, first_offset: offset, wall_ms, steady_ms, .. } = *header;
    Base { next_sequence, offset, wall_ms, steady_ms }
}

fn find(segments: &[Segment], id: SegmentId) -> &Path {
    &segments.iter().find(|segment| segment.id == id).expect("the segment was found in the directory").path
}

/// The whole file, into memory that is used again.
pub fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(), Obstacle> {
    bytes.clear();
    let read = File::open(path).and_then(|mut file| file.read_to_end(bytes));
    read.map(|_| ()).map_err(|error| Obstacle::at("reading", path, error))
}

/// What a segment's file says of itself, whatever place that is.
pub fn header(bytes: &[u8]) -> Option<SegmentHeader> {
    SegmentHeader::decode(bytes).ok()
}

fn unjudged(path: &Path, error: RecoveryError) -> Obstacle {
    Obstacle::World(match error {
        RecoveryError::Unsupported { version, .. } => {
            format!("{}: format {version} is of a newer program; this one can't judge it ({error})", path.display())
        }
        RecoveryError::Changed(_) | RecoveryError::Shrunk(_) => {
            format!("{}: changed while it was read ({error})", path.display())
        }
        RecoveryError::Damage(_) | RecoveryError::Rejected { .. } => format!("{}: {error}", path.display()),
    })
}

fn databases_of(mut edits: &[u8]) -> u32 {
    let mut databases = 0;
    // Whether all of them can be read was asked before.
    while let Ok((edit, used)) = Edit::decode(edits) {
        edits = &edits[used..];
        let named = match edit {
            Edit::Flush { db } => [Some(db), None],
            Edit::Swap { a, b } => [Some(a), Some(b)],
            _ => edit.keys().map(|place| place.map(|(db, _)| db)),
        };
        databases = named.into_iter().flatten().map(|db| db.0 as u32 + 1).fold(databases, u32::max);
    }
    databases
}

//! One shard's log, read as a start reads it, but to its end: damage is noted, and what is behind it searched.

use super::Obstacle;
use crate::runtime::recovery::{LogPlace, segments};
use shards::keyspace::Edit;
use shards::wal::{
    BLOCK_BYTES, HeldGroups, OnDamage, Place, Record, Recovered, Recovery, RecoveryError, SegmentHeader, SegmentId,
    Sequence,
};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A segment's file.
pub struct Segment {
    pub id: SegmentId,
    pub path: PathBuf,
    pub place: Place,
    /// Prepared by a server that never came to write to it.
    pub is_blank: bool,
}

/// What a shard's log says.
pub struct Examined {
    pub place: LogPlace,
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
        self.lacks_directory || self.recovered.cut.is_some_and(|cut| cut.damage.is_some())
    }

    pub fn path(&self, id: SegmentId) -> &Path {
        let segment = self.segments.iter().find(|segment| segment.id == id);
        &segment.expect("what is said of a segment is said of one that is there").path
    }

    pub fn live(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| !segment.is_blank && segment.place != Place::CutOff)
    }
}

/// Reads the log; an obstacle is what keeps it from being judged.
pub fn examine(place: &LogPlace) -> Result<Examined, Obstacle> {
    let (mut recovery, mut segments, lacks_directory) = open(place)?;
    let mut settled = HeldGroups::new(place.shard);
    let mut all = HeldGroups::trusting_no_mark(place.shard);
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
    let places: Vec<Place> = recovery.places().map(|(_, place)| place).collect();
    segments.iter_mut().zip(places).for_each(|(segment, place)| segment.place = place);
    let recovered = recovery.finish().map_err(|error| unjudged(&place.directory, error))?;
    let place = place.clone();
    Ok(Examined { place, segments, recovered, settled, all, groups, databases, lacks_directory })
}

/// The log up to but without the record `until`, which it holds, or which was to come next.
pub fn end_before(examined: &Examined, until: Sequence) -> Result<Recovered, Obstacle> {
    let place = &examined.place;
    let mut recovery = open(place)?.0.until(until);
    let mut bytes = Vec::new();
    while let Some(id) = recovery.next_segment() {
        let path = examined.path(id);
        read(path, &mut bytes)?;
        recovery.read(&bytes, &mut |_| Ok(())).map_err(|error| unjudged(path, error))?;
    }
    recovery.finish().map_err(|error| unjudged(&place.directory, error))
}

fn open(place: &LogPlace) -> Result<(Recovery, Vec<Segment>, bool), Obstacle> {
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
    let recovery = recovery.map_err(|error| unjudged(directory, error))?;
    let segment = |((id, path), (_, start)): ((SegmentId, PathBuf), &(SegmentId, Vec<u8>))| {
        let is_blank = start.iter().all(|byte| *byte == 0);
        Segment { id, path, place: Place::Live(None), is_blank }
    };
    let segments = found.into_iter().zip(&starts).map(segment).collect();
    Ok((recovery, segments, lacks_directory))
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

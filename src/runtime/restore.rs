//! Point-in-time recovery: from snapshots and segments, live and archived, to a new data directory that holds what was there
//! at some moment.
//!
//! The files of all sources are linked side by side into a directory of their own, read from there as at a start, from the last
//! snapshot before the moment up to the moment's records, and written anew. The sources are only read.

use super::boot::random_u64;
use super::data_directory::{DataDirectory, Manifest, shard_path};
use super::recovery::{LogPlace, first_beyond};
use super::rewrite::{Shape, rewrite};
use super::snapshot_file::{self, file_name};
use shards::units::ShardId;
use shards::wal::{Record, Sequence};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Which moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The end of all logs.
    Latest,
    /// Milliseconds since 1970: nothing that was written later.
    Time(u64),
    /// Per shard, as INFO tells them: nothing that ends behind.
    Offsets(Vec<u64>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Data directories and archives, any number of them.
    pub sources: Vec<PathBuf>,
    /// Not there yet, or empty.
    pub target: PathBuf,
    pub moment: Moment,
    pub databases: u16,
    pub segment_bytes: u64,
}

/// Restores; what was done, for the operator.
pub fn restore(request: &Request) -> Result<Vec<String>, String> {
    let manifest = common_manifest(&request.sources)?;
    if let Moment::Offsets(offsets) = &request.moment
        && offsets.len() != manifest.shards as usize
    {
        return Err(format!("{} offsets are given, and there are {} shards", offsets.len(), manifest.shards));
    }
    let is_empty = |path: &Path| std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty(&request.target) {
        return Err(format!("{} is not empty: restore into a new directory", request.target.display()));
    }
    let outcome = restore_into(manifest, request);
    if outcome.is_err() {
        // It was empty: a second try must find it so.
        let _ = std::fs::remove_dir_all(&request.target);
    }
    outcome
}

fn restore_into(manifest: Manifest, request: &Request) -> Result<Vec<String>, String> {
    let mut data = DataDirectory::open(&request.target)?;
    let staging = request.target.join(STAGING);
    let world = |error: io::Error| format!("collecting the files in {}: {error}", staging.display());
    for source in &request.sources {
        for shard in (0..manifest.shards).map(ShardId) {
            collect(&shard_path(source, manifest.epoch, shard), &shard_path(&staging, manifest.epoch, shard))
                .map_err(world)?;
        }
    }
    let outcome = restore_staged(&mut data, &staging, manifest, request);
    std::fs::remove_dir_all(&staging).map_err(world)?;
    outcome
}

const STAGING: &str = "restore.staging";

fn restore_staged(
    data: &mut DataDirectory,
    staging: &Path,
    manifest: Manifest,
    request: &Request,
) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    let snapshot = last_snapshot_before(staging, manifest, &request.moment)?;
    said.push(match snapshot {
        Some(number) => format!("from snapshot {number}"),
        None => "from the logs' start".to_string(),
    });
    let place = |shard: ShardId| LogPlace {
        directory: shard_path(staging, manifest.epoch, shard),
        shard,
        shards: manifest.shards,
        epoch: manifest.epoch,
        snapshot,
    };
    let places: Vec<LogPlace> = (0..manifest.shards).map(ShardId).map(place).collect();
    let mut ends = Vec::new();
    for place in &places {
        let end = end_of(place, &request.moment)?;
        said.push(format!("shard {}: up to record {}", place.shard.0, end.0 - 1));
        ends.push(Some(end));
    }
    let Request { databases, segment_bytes, .. } = *request;
    let shape = Shape { shards: manifest.shards, databases, segment_bytes, seed: random_u64() };
    rewrite(data, manifest.epoch + 1, &places, &ends, shape)?;
    Ok(said)
}

fn end_of(place: &LogPlace, moment: &Moment) -> Result<Sequence, String> {
    match moment {
        Moment::Latest => first_beyond(place, &|_| false),
        Moment::Time(time_ms) => first_beyond(place, &|record: &Record<'_>| record.header().wall_ms > *time_ms),
        Moment::Offsets(offsets) => {
            let until = offsets[place.shard.0 as usize];
            first_beyond(place, &|record: &Record<'_>| record.end_offset().0 > until)
        }
    }
}

/// The sources must be of one history.
fn common_manifest(sources: &[PathBuf]) -> Result<Manifest, String> {
    let mut found: Option<Manifest> = None;
    for source in sources {
        let manifest = DataDirectory::read_manifest(source)?;
        let manifest = manifest.ok_or_else(|| format!("{} has no MANIFEST", source.display()))?;
        match found {
            Some(other) if (other.epoch, other.shards) != (manifest.epoch, manifest.shards) => {
                return Err(format!("{} is of another epoch or number of shards than the others", source.display()));
            }
            _ => found = Some(manifest),
        }
    }
    found.ok_or_else(|| "no source is given".to_string())
}

/// Links, or copies, segments and snapshots. (A server doesn't write over a file that has two names.)
fn collect(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    if !from.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let is_wanted = path.extension().is_some_and(|extension| extension == "wal" || extension == "snapshot");
        let target = to.join(path.file_name().expect("a directory's entry has a name"));
        if is_wanted && !target.exists() && std::fs::hard_link(&path, &target).is_err() {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The last snapshot that all shards have and that was begun before the moment.
fn last_snapshot_before(staging: &Path, manifest: Manifest, moment: &Moment) -> Result<Option<u64>, String> {
    let mut common: Option<BTreeSet<u64>> = None;
    for shard in (0..manifest.shards).map(ShardId) {
        let numbers = snapshots_in(&shard_path(staging, manifest.epoch, shard))?;
        common = Some(match common {
            Some(common) => common.intersection(&numbers).copied().collect(),
            None => numbers,
        });
    }
    for number in common.unwrap_or_default().into_iter().rev() {
        let mut is_before = true;
        for shard in (0..manifest.shards).map(ShardId) {
            let header = snapshot_file::header(&shard_path(staging, manifest.epoch, shard).join(file_name(number)))?;
            is_before &= match moment {
                Moment::Latest => true,
                Moment::Time(time_ms) => header.wall_ms <= *time_ms,
                Moment::Offsets(offsets) => header.offset.0 <= offsets[shard.0 as usize],
            };
        }
        if is_before {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn snapshots_in(directory: &Path) -> Result<BTreeSet<u64>, String> {
    let world = |error: io::Error| format!("{}: {error}", directory.display());
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(world)? {
        let name = entry.map_err(world)?.file_name().to_string_lossy().into_owned();
        numbers.extend(name.strip_suffix(".snapshot").and_then(|number| number.parse::<u64>().ok()));
    }
    Ok(numbers)
}

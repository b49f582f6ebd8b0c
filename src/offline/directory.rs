//! A data directory for the tools: locked against servers, and which logs are in it.
//!
//! Reading needs no right to write: a copy on a read-only medium can be examined. The lock is shared by readers.

use super::Obstacle;
use crate::runtime::clock;
use crate::runtime::data_directory::{DataDirectory, Manifest, ManifestError};
use crate::runtime::recovery::{LogPlace, segments};
use shards::units::ShardId;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// What the tool is going to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

pub struct Directory {
    data: DataDirectory,
    pub content: Content,
    /// Epochs that the manifest does not name.
    pub other_epochs: Vec<u64>,
}

pub enum Content {
    /// No server has put anything into it.
    Nothing,
    Epoch(Manifest),
    /// What is wrong with the manifest; what the directories look like.
    Damaged {
        reason: String,
        likely: Option<Manifest>,
    },
}

/// Opens what is there, and makes nothing but the lock of a directory that is to be changed.
pub fn open(path: &Path, access: Access) -> Result<Directory, Obstacle> {
    let is_directory = std::fs::metadata(path).map_err(|error| Obstacle::at("opening", path, error))?.is_dir();
    if !is_directory {
        return Err(Obstacle::World(format!("{} is no directory", path.display())));
    }
    let lock = lock(path, access)?;
    let (manifest, reason) = match DataDirectory::read_manifest(path) {
        Ok(Some(manifest)) => (Some(manifest), None),
        Ok(None) => (None, Some(format!("{} is not there", path.join("MANIFEST").display()))),
        Err(error @ ManifestError::Damaged(_)) => (None, Some(error.to_string())),
        Err(error @ (ManifestError::Newer { .. } | ManifestError::World(..))) => {
            return Err(Obstacle::World(error.into()));
        }
    };
    let data = DataDirectory::held(path, lock, manifest);
    let epochs = epochs(path)?;
    let likely = likely(&data, &epochs)?;
    let content = match (manifest, reason) {
        (Some(manifest), _) => Content::Epoch(manifest),
        (None, Some(reason)) if likely.is_some() || path.join("MANIFEST").exists() => {
            Content::Damaged { reason, likely }
        }
        (None, _) => Content::Nothing,
    };
    let other_epochs = epochs.into_iter().filter(|epoch| manifest.is_some_and(|manifest| manifest.epoch != *epoch));
    Ok(Directory { data, content, other_epochs: other_epochs.collect() })
}

fn lock(path: &Path, access: Access) -> Result<File, Obstacle> {
    let lock_path = path.join("LOCK");
    let opened = match access {
        Access::Read => File::open(&lock_path),
        Access::Write => OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path),
    };
    let lock = match opened {
        // Left out of a copy, as like as not. No server runs without one, and the directory itself is a file too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(path),
        other => other,
    };
    let lock = lock.map_err(|error| Obstacle::at("opening", &lock_path, error))?;
    let take = || match if access == Access::Read { lock.try_lock_shared() } else { lock.try_lock() } {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Obstacle::at("locking", &lock_path, error)),
    };
    if clock::patiently(take)?.is_none() {
        let shown = path.display();
        return Err(Obstacle::World(format!("{shown} is in use by a server: stop it first, or examine a copy")));
    }
    Ok(lock)
}

/// Numbers of the epochs that have a directory, ascending.
fn epochs(path: &Path) -> Result<Vec<u64>, Obstacle> {
    numbered(path, "epoch-").map_err(|error| Obstacle::at("reading", path, error))
}

fn numbered(path: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The manifest that the youngest epoch with a segment or a snapshot would have.
fn likely(data: &DataDirectory, epochs: &[u64]) -> Result<Option<Manifest>, Obstacle> {
    for epoch in epochs.iter().rev() {
        let path = data.epoch_path(*epoch);
        let shards = numbered(&path, "shard-").map_err(|error| Obstacle::at("reading", &path, error))?;
        let shards: Vec<u16> = shards.into_iter().filter_map(|shard| u16::try_from(shard).ok()).collect();
        let Some(last) = shards.last() else { continue };
        let (mut has_files, mut common) = (false, None);
        for shard in &shards {
            let directory = data.shard_path(*epoch, ShardId(*shard));
            let in_there = |error| Obstacle::at("reading", &directory, error);
            let snapshots: BTreeSet<u64> = snapshots(&directory).map_err(in_there)?.into_iter().collect();
            has_files |= !snapshots.is_empty() || !segments(&directory).map_err(in_there)?.is_empty();
            common = Some(common.map_or(snapshots.clone(), |common: BTreeSet<u64>| &common & &snapshots));
        }
        if has_files {
            let snapshot = common.and_then(|common| common.last().copied());
            return Ok(Some(Manifest { epoch: *epoch, shards: last.saturating_add(1), snapshot }));
        }
    }
    Ok(None)
}

/// Numbers of the snapshots in a shard's directory.
pub fn snapshots(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".snapshot")?.parse::<u64>().ok()));
    }
    Ok(found)
}

impl Directory {
    /// Where the logs of an epoch are.
    pub fn places(&self, manifest: Manifest) -> Vec<LogPlace> {
        let Manifest { epoch, shards, snapshot } = manifest;
        let place = |shard| {
            let directory = self.data.shard_path(epoch, shard);
            LogPlace { directory, shard, shards, epoch, snapshot }
        };
        (0..shards).map(ShardId).map(place).collect()
    }
}

//! The data directory: who may use it, and what it says about itself.
//!
//! `LOCK` (held while a server runs), `MANIFEST` (format, epoch, number of shards, number of the snapshots that a start begins
//! with), `epoch-E/shard-K/*.wal`, `epoch-E/shard-K/*.snapshot`. A change of the number of shards writes a whole new epoch,
//! syncs it, and only then renames a new manifest into place; so does a new set of snapshots.

use super::clock;
use super::prepare::sync_directory;
use shards::units::ShardId;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

pub struct DataDirectory {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
    pub manifest: Option<Manifest>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manifest {
    pub epoch: u64,
    pub shards: u16,
    /// Each shard has a snapshot of this number, all of one moment: the logs matter from there on. `None` before the first.
    pub snapshot: Option<u64>,
}

/// 1 knew no snapshots.
const FORMAT: u64 = 2;
const MANIFEST: &str = "MANIFEST";

/// Where an epoch is below `root`: a data directory, an archive or a backup.
pub fn epoch_path(root: &Path, epoch: u64) -> PathBuf {
    root.join(format!("epoch-{epoch}"))
}
/// Where a shard's files are.
pub fn shard_path(root: &Path, epoch: u64, shard: ShardId) -> PathBuf {
    epoch_path(root, epoch).join(format!("shard-{}", shard.0))
}

/// Why a manifest can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{} is damaged; the data directory can't be opened without it", .0.display())]
    Damaged(PathBuf),
    #[error("{} has format {format}; this server knows {FORMAT}", .file.display())]
    Newer { file: PathBuf, format: u64 },
    #[error("{}: {}", .0.display(), .1)]
    World(PathBuf, io::Error),
}

impl From<ManifestError> for String {
    fn from(error: ManifestError) -> String {
        error.to_string()
    }
}

impl Manifest {
    /// Into the data directory at `path`, in place of the one before.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut body = format!("format {FORMAT}\nepoch {}\nshards {}\n", self.epoch, self.shards);
        if let Some(number) = self.snapshot {
            body.push_str(&format!("snapshot {number}\n"));
        }
        let text = format!("{body}crc32 {:08x}\n", crc32fast::hash(body.as_bytes()));
        let temporary = path.join("MANIFEST.new");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path.join(MANIFEST))?;
        sync_directory(path)
    }
}

impl DataDirectory {
    /// Makes the directory if it isn't there, locks it, and reads its manifest. Errors are whole sentences for the operator.
    pub fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        std::fs::create_dir_all(path).map_err(|error| format!("--dir {shown}: can't make the directory: {error}"))?;
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| format!("--dir {shown}: can't write to the directory: {error}"))?;
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        let take = || unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
        if clock::patiently(|| Ok::<_, String>(take().then_some(())))?.is_none() {
            return Err(format!("--dir {shown} is in use by another server; give this one a directory of its own"));
        }
        let manifest = Self::read_manifest(path)?;
        Ok(DataDirectory { path: path.to_path_buf(), _lock: lock, manifest })
    }

    /// One that is there and whose lock is held by `lock`, for those who do not serve from it.
    pub fn held(path: &Path, lock: File, manifest: Option<Manifest>) -> Self {
        DataDirectory { path: path.to_path_buf(), _lock: lock, manifest }
    }

    /// What the directory at `path` says of itself; nobody may be about to write there.
    pub fn read_manifest(path: &Path) -> Result<Option<Manifest>, ManifestError> {
        let file = path.join(MANIFEST);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(ManifestError::Damaged(file)),
            Err(error) => return Err(ManifestError::World(file, error)),
        };
        let damaged = || ManifestError::Damaged(file.clone());
        let (body, crc) = text.trim_end().rsplit_once("crc32 ").ok_or_else(damaged)?;
        if format!("{:08x}", crc32fast::hash(body.as_bytes())) != crc {
            return Err(damaged());
        }
        let field =
            |name: &str| -> Option<u64> { body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()) };
        match (field("format"), field("epoch"), field("shards")) {
            (Some(1..=FORMAT), Some(epoch), Some(shards)) if (1..=1024).contains(&shards) => {
                Ok(Some(Manifest { epoch, shards: shards as u16, snapshot: field("snapshot") }))
            }
            (Some(format), ..) if !(1..=FORMAT).contains(&format) => Err(ManifestError::Newer { file, format }),
            _ => Err(damaged()),
        }
    }

    /// Makes `manifest` the truth: from the rename on, a start finds it.
    pub fn commit(&mut self, manifest: Manifest) -> io::Result<()> {
        manifest.write(&self.path)?;
        self.manifest = Some(manifest);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn epoch_path(&self, epoch: u64) -> PathBuf {
        epoch_path(&self.path, epoch)
    }
    pub fn shard_path(&self, epoch: u64, shard: ShardId) -> PathBuf {
        shard_path(&self.path, epoch, shard)
    }

    /// Whether there are files of data: a directory without a manifest is new only if there are none.
    pub fn has_epochs(&self) -> io::Result<bool> {
        for epoch in self.epochs()? {
            for shard in std::fs::read_dir(epoch)? {
                let shard = shard?.path();
                if shard.is_dir() && std::fs::read_dir(shard)?.next().is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn epochs(&self) -> io::Result<Vec<PathBuf>> {
        let paths: io::Result<Vec<PathBuf>> =
            std::fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.path())).collect();
        let is_epoch =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("epoch-"));
        Ok(paths?.into_iter().filter(is_epoch).collect())
    }

    /// The directories of an epoch's shards, made and synced.
    pub fn make_epoch(&self, epoch: u64, shards: u16) -> io::Result<()> {
        for shard in 0..shards {
            std::fs::create_dir_all(self.shard_path(epoch, ShardId(shard)))?;
        }
        sync_directory(&self.epoch_path(epoch))?;
        sync_directory(&self.path)
    }

    /// Removes an epoch that the manifest doesn't name: left by a change of the number of shards, finished or not.
    pub fn remove_other_epochs(&self) -> io::Result<()> {
        let current = self.manifest.map(|manifest| self.epoch_path(manifest.epoch));
        for path in self.epochs()? {
            if Some(&path) != current.as_ref() {
                std::fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

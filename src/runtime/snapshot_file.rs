//! A shard's snapshot as a file: its name, and reading it at a start. Writing one while serving is `snapshot_writer`'s.

use super::prepare::move_to;
use super::recovery::{LogPlace, Progress};
use shards::keyspace::{EditError, Keyspace};
use shards::snapshot::{Block, BlockReader, SNAPSHOT_BLOCK_BYTES, SnapshotError, SnapshotFooter, SnapshotHeader};
use shards::wal::Base;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub fn file_name(number: u64) -> String {
    format!("{number:020}.snapshot")
}

/// Under this name until it is whole and on disk.
pub fn temporary_name(number: u64) -> String {
    format!("{number:020}.snapshot.new")
}

/// At a start: puts away what the manifest doesn't name. Snapshots that have been replaced go to the archive, if there is one; those
/// that were not finished on all shards are removed.
pub fn put_away_others(directory: &Path, current: Option<u64>, archive: Option<&Path>) -> io::Result<()> {
    for (path, number, is_whole) in files(directory)? {
        match current {
            Some(current) if number == current && is_whole => {}
            Some(current) if number < current => put_away(&path, is_whole, archive)?,
            _ => std::fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// While serving: the same for snapshots before `current`. The next one may be on its way already, or even be named by the
/// manifest, when this comes to be done.
pub fn put_away_replaced(directory: &Path, current: u64, archive: Option<&Path>) -> io::Result<()> {
    let older = files(directory)?.into_iter().filter(|(_, number, _)| *number < current);
    older.into_iter().try_for_each(|(path, _, is_whole)| match put_away(&path, is_whole, archive) {
        // The same for the snapshot behind this one may be under way, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    })
}

fn put_away(path: &Path, is_whole: bool, archive: Option<&Path>) -> io::Result<()> {
    match archive {
        Some(archive) if is_whole => move_to(path, archive),
        _ => std::fs::remove_file(path),
    }
}

/// The snapshots of a directory: path, number, and whether it is under its last name.
fn files(directory: &Path) -> io::Result<Vec<(PathBuf, u64, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_whole = !name.ends_with(".new");
        let number = name.strip_suffix(".new").unwrap_or(&name).strip_suffix(".snapshot");
        found.extend(number.and_then(|number| number.parse().ok()).map(|number| (path, number, is_whole)));
    }
    Ok(found)
}

/// Fills `keyspace`, which is made anew with the hash functions that the snapshot was written with, so that its entries come in
/// the order in which the table has them. Where the log goes on; `None` without a snapshot.
pub fn load(place: &LogPlace, keyspace: &mut Keyspace, progress: &Progress) -> Result<Option<Base>, String> {
    let Some(mut file) = SnapshotFile::open(place)? else { return Ok(None) };
    *keyspace = Keyspace::new(keyspace.databases(), file.header.seed);
    progress.bytes_total.fetch_add(file.bytes, Ordering::Relaxed);
    let mut apply = |edits: &[u8], entries: u32| {
        progress.edits.fetch_add(entries as u64, Ordering::Relaxed);
        progress.bytes.fetch_add(edits.len() as u64, Ordering::Relaxed);
        keyspace.replay_all(edits)
    };
    file.read(&mut apply).map(Some)
}

/// Where the log goes on behind the snapshot, which is verified as a whole.
pub fn base(place: &LogPlace) -> Result<Option<Base>, String> {
    let file = SnapshotFile::open(place)?;
    file.map(|mut file| file.read(&mut |_, _| Ok(()))).transpose()
}

struct SnapshotFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    header: SnapshotHeader,
}

/// Takes the edits of a block, and how many they are.
type Apply<'f> = dyn FnMut(&[u8], u32) -> Result<(), EditError> + 'f;

/// What a snapshot says of itself.
pub fn header(path: &Path) -> Result<SnapshotHeader, String> {
    SnapshotFile::open_path(path.to_path_buf()).map(|file| file.header)
}

impl SnapshotFile {
    fn open(place: &LogPlace) -> Result<Option<Self>, String> {
        let Some(number) = place.snapshot else { return Ok(None) };
        let file = Self::open_path(place.directory.join(file_name(number)))?;
        let SnapshotHeader { number: its, epoch, shard, shards, .. } = file.header;
        if (its, epoch, shard, shards) != (number, place.epoch, place.shard, place.shards) {
            return Err(refused(&file.path, 0, "it belongs to another shard, epoch or set of snapshots"));
        }
        Ok(Some(file))
    }

    fn open_path(path: PathBuf) -> Result<Self, String> {
        let world = |error: io::Error| format!("reading the snapshot {}: {error}", path.display());
        let mut file = File::open(&path).map_err(world)?;
        let bytes = file.metadata().map_err(world)?.len();
        let mut start = vec![0; SNAPSHOT_BLOCK_BYTES.min(bytes as usize)];
        file.read_exact(&mut start).map_err(world)?;
        let header = SnapshotHeader::decode(&start).map_err(|error| refused(&path, 0, &error.to_string()))?;
        Ok(SnapshotFile { path, file, bytes, header })
    }

    fn read(&mut self, apply: &mut Apply<'_>) -> Result<Base, String> {
        let mut reader = BlockReader::new(&self.header, self.bytes);
        let mut block = Vec::new();
        loop {
            let position = reader.position();
            let refused = |error: SnapshotError| refused(&self.path, position, &error.to_string());
            let world = |error: io::Error| format!("reading the snapshot {}: {error}", self.path.display());
            block.resize(SNAPSHOT_BLOCK_BYTES.min((self.bytes - position) as usize), 0);
            self.file.read_exact(&mut block).map_err(world)?;
            let whole = reader.block_bytes(&block).map_err(refused)?;
            let have = block.len();
            block.resize(whole, 0);
            self.file.read_exact(&mut block[have..]).map_err(world)?;
            match reader.take(&block).map_err(refused)? {
                Block::Data { edits, entries } => apply(edits, entries).map_err(|error| {
                    self::refused(&self.path, position, &format!("an edit can't be applied: {error}"))
                })?,
                Block::Footer(footer) => return Ok(self.base_from(&footer)),
            }
        }
    }

    fn base_from(&self, footer: &SnapshotFooter) -> Base {
        Base {
            next_sequence: footer.last_sequence.next(),
            offset: self.header.offset,
            wall_ms: self.header.wall_ms,
            steady_ms: self.header.steady_ms,
        }
    }
}

fn refused(path: &Path, position: u64, why: &str) -> String {
    format!("the snapshot {} is damaged at byte {position}, so the start is refused: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("it can be read");
        let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().into();
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    fn with_files() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let files = [file_name(1), file_name(2), temporary_name(2), file_name(3), file_name(4), temporary_name(5)];
        for name in files.iter().map(String::as_str).chain(["00000000000000000001.wal"]) {
            std::fs::write(directory.path().join(name), "").expect("it can be written");
        }
        directory
    }

    #[test]
    fn the_snapshot_after_the_one_that_others_make_room_for_stays() {
        let directory = with_files();
        put_away_replaced(directory.path(), 3, None).expect("files can be removed");
        let kept = ["00000000000000000001.wal".to_string(), file_name(3), file_name(4), temporary_name(5)];
        assert_eq!(names(directory.path()), kept);
    }

    #[test]
    fn a_start_leaves_what_the_manifest_names_and_archives_what_it_named() {
        let (directory, archive) = (with_files(), tempfile::tempdir().expect("a directory"));
        put_away_others(directory.path(), Some(3), Some(archive.path())).expect("files can be moved");
        assert_eq!(names(directory.path()), ["00000000000000000001.wal".to_string(), file_name(3)]);
        assert_eq!(names(archive.path()), [file_name(1), file_name(2)]);
    }
}

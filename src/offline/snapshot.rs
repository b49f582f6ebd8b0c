//! One shard's snapshot, read to its end or to the first thing in it that is wrong.

use super::Obstacle;
use crate::runtime::recovery::LogPlace;
use crate::runtime::snapshot_file::file_name;
use shards::snapshot::{Block, BlockReader, SNAPSHOT_BLOCK_BYTES, SnapshotError, SnapshotFooter, SnapshotHeader};
use shards::wal::Base;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One that is whole.
pub struct Snapshot {
    pub path: PathBuf,
    pub header: SnapshotHeader,
    pub footer: SnapshotFooter,
}

/// Why it is of no use.
pub struct Fault {
    pub path: PathBuf,
    /// Where the part begins that is not as it was written.
    pub position: u64,
    pub reason: String,
}

impl Snapshot {
    /// Where the log goes on.
    pub fn base(&self) -> Base {
        let SnapshotHeader { offset, wall_ms, steady_ms, .. } = self.header;
        Base { next_sequence: self.footer.last_sequence.next(), offset, wall_ms, steady_ms }
    }
}

/// Takes the entries of a block.
pub type Take<'f> = dyn FnMut(&SnapshotHeader, &[u8]) -> Result<(), Obstacle> + 'f;

/// Reads the snapshot of this number; what comes before a fault has been taken.
pub fn read(place: &LogPlace, number: u64, take: &mut Take<'_>) -> Result<Result<Snapshot, Fault>, Obstacle> {
    let path = place.directory.join(file_name(number));
    let fault = |position, reason: String| Ok(Err(Fault { path: path.clone(), position, reason }));
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fault(0, "it is not there".into()),
        Err(error) => return Err(Obstacle::at("reading", &path, error)),
    };
    let mut block = Vec::new();
    let bytes = file.metadata().map_err(|error| Obstacle::at("reading", &path, error))?.len();
    fill(&mut file, &path, &mut block, SNAPSHOT_BLOCK_BYTES.min(bytes as usize))?;
    let header = match SnapshotHeader::decode(&block) {
        Ok(header) => header,
        Err(error @ SnapshotError::UnsupportedVersion(_)) => {
            return Err(Obstacle::World(format!("{}: of a newer program: {error}", path.display())));
        }
        Err(error) => return fault(0, error.to_string()),
    };
    let names = (header.number, header.epoch, header.shard, header.shards);
    if names != (number, place.epoch, place.shard, place.shards) {
        return fault(0, "it belongs to another shard, epoch or set of snapshots".into());
    }
    let mut reader = BlockReader::new(&header, bytes);
    loop {
        let position = reader.position();
        block.clear();
        fill(&mut file, &path, &mut block, SNAPSHOT_BLOCK_BYTES.min((bytes - position) as usize))?;
        let whole = match reader.block_bytes(&block) {
            Ok(whole) => whole,
            Err(error) => return fault(position, error.to_string()),
        };
        fill(&mut file, &path, &mut block, whole)?;
        match reader.take(&block) {
            Ok(Block::Data { edits, .. }) => take(&header, edits)?,
            Ok(Block::Footer(footer)) => return Ok(Ok(Snapshot { path, header, footer })),
            Err(error) => return fault(position, error.to_string()),
        }
    }
}

/// Reads on until there are `len` bytes.
fn fill(file: &mut File, path: &Path, block: &mut Vec<u8>, len: usize) -> Result<(), Obstacle> {
    let have = block.len();
    block.resize(len, 0);
    file.read_exact(&mut block[have..]).map_err(|error| Obstacle::at("reading", path, error))
}

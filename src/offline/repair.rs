//! Makes a loss hold on disk, so that a start works and comes to the same content, and keeps the bytes that are cut off.
//!
//! The cut is one new file: a segment of a header alone, flagged `after_recovery`, whose predecessor is the new end. It is
//! what a start writes behind a torn tail: whatever lies between is never read again. Its rename into place is the moment
//! at which the shard's log is cut. Before that, side files only come into being; after it, what is cut off is moved out
//! of the way, and it makes no difference whether that comes to its end.
//!
//! Shards whose own logs are whole come first: as long as one of the damaged is not cut, a start is refused, and so never
//! sees halves of transactions. A repair that was broken off is simply done again.

use super::Obstacle;
use super::examine::Examined;
use super::loss::{Loss, Lost, header_behind};
use super::walk::written;
use crate::runtime::prepare::{segment_file_name, sync_directory};
use shards::wal::SegmentId;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Cuts all of them; the files that hold what was cut off.
pub fn cut_all(losses: &[(&Examined, Loss)]) -> Result<Vec<PathBuf>, Obstacle> {
    let mut kept = Vec::new();
    for is_own in [false, true] {
        for (examined, loss) in losses.iter().filter(|(_, loss)| loss.is_own == is_own) {
            kept.extend(cut(examined, loss)?);
        }
    }
    Ok(kept)
}

fn cut(examined: &Examined, loss: &Loss) -> Result<Vec<PathBuf>, Obstacle> {
    let directory = &examined.place.directory;
    let at = |doing: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |error: io::Error| Obstacle::at(doing, &path, error)
    };
    if examined.lacks_directory {
        std::fs::create_dir_all(directory).map_err(at("making", directory))?;
        let parent = directory.parent().expect("a shard's directory is in that of its epoch");
        return sync_directory(parent).map(|()| Vec::new()).map_err(at("syncing", parent));
    }
    let mut kept = Vec::new();
    // The new header says that all of it is on disk.
    for segment in examined.live() {
        File::open(&segment.path).and_then(|file| file.sync_all()).map_err(at("syncing", &segment.path))?;
    }
    for lost in loss.pieces.iter().filter(|lost| lost.from > 0) {
        kept.push(copy_tail(lost).map_err(at("keeping the end of", &lost.path))?);
    }
    sync_directory(directory).map_err(at("syncing", directory))?;
    write_header(examined, loss).map_err(at("writing a segment in", directory))?;
    for lost in &loss.pieces {
        if lost.from > 0 {
            truncate(lost).map_err(at("shortening", &lost.path))?;
        } else {
            kept.push(set_aside(lost).map_err(at("renaming", &lost.path))?);
        }
    }
    sync_directory(directory).map_err(at("syncing", directory))?;
    Ok(kept)
}

/// A name for what is cut off, that no segment has and no earlier repair has used.
fn side_path(lost: &Lost) -> PathBuf {
    let name = |suffix: String| {
        let mut name = lost.path.clone().into_os_string();
        name.push(format!(".cut-at-{}{suffix}", lost.from));
        PathBuf::from(name)
    };
    let names = std::iter::once(name(String::new())).chain((2..).map(|n: u64| name(format!(".{n}"))));
    names.into_iter().find(|path| !path.exists()).expect("there is always a further number")
}

fn copy_tail(lost: &Lost) -> io::Result<PathBuf> {
    let side = side_path(lost);
    let bytes = std::fs::read(&lost.path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&side)?;
    file.write_all(&bytes[lost.from as usize..written(&bytes)])?;
    file.sync_all()?;
    Ok(side)
}

fn write_header(examined: &Examined, loss: &Loss) -> io::Result<()> {
    let directory = &examined.place.directory;
    let last = examined.segments.last().map_or(SegmentId(0), |segment| segment.id);
    let path = directory.join(segment_file_name(last.next()));
    // Not a segment's name: a header that is not yet whole is never seen.
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&header_behind(examined, loss, last.next()).encode())?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    sync_directory(directory)
}

fn truncate(lost: &Lost) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(&lost.path)?;
    file.set_len(lost.from)?;
    file.sync_all()
}

fn set_aside(lost: &Lost) -> io::Result<PathBuf> {
    let side = side_path(lost);
    std::fs::rename(&lost.path, &side)?;
    Ok(side)
}

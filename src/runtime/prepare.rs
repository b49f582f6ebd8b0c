//! Segments ready before they are needed: made on the executor's blocking thread, off the shard's core.
//!
//! A segment for direct writes is filled with zeros that are on disk, so that writing to it changes no metadata;
//! one for buffered writes has its space reserved. Both mean that a record never finds the disk full.

use super::disk::AlignedBuffer;
use shards::wal::{BLOCK_BYTES, Layout, SegmentId};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A segment file with its space, not yet begun.
pub struct Prepared {
    pub id: SegmentId,
    pub path: PathBuf,
    pub file: File,
    pub bytes: u64,
    pub layout: Layout,
    /// Memory for its header, which must stay in place while it is written.
    pub header: RefCell<AlignedBuffer>,
}

/// What crosses to the blocking thread and back.
struct Made {
    file: File,
    path: PathBuf,
    direct: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Order {
    id: SegmentId,
    layout: Layout,
    bytes: u64,
}

enum State {
    Idle,
    Working,
    Ready(Order, Made),
    Failed(Order),
}

pub struct Preparer {
    directory: PathBuf,
    state: Rc<RefCell<State>>,
    background: super::Background,
    warned_direct: bool,
    /// Why the last attempt failed, until one succeeds: an attempt under way is no segment yet.
    obstacle: Rc<RefCell<Option<String>>>,
    /// What is being made is of the old layout: throw it away when it comes.
    discarding: bool,
    /// Old segments' files to be used again.
    spare: Rc<RefCell<Vec<PathBuf>>>,
}

impl Preparer {
    pub fn new(directory: PathBuf, background: super::Background) -> Self {
        let state = Rc::new(RefCell::new(State::Idle));
        let obstacle = Rc::new(RefCell::new(None));
        Preparer {
            directory,
            state,
            background,
            warned_direct: false,
            obstacle,
            discarding: false,
            spare: Rc::default(),
        }
    }

    /// Has a segment made that holds `bytes_min`, of at most `bytes_max` unless that is less. Nothing happens if one is being made
    /// or there.
    pub fn ask(&mut self, id: SegmentId, layout: Layout, bytes_min: u64, bytes_max: u64) {
        let idle = matches!(*self.state.borrow(), State::Idle);
        if !idle {
            return;
        }
        let bytes = bytes_min.max(FIRST_SEGMENT_BYTES.min(bytes_max)).next_multiple_of(BLOCK_BYTES as u64);
        self.start(Order { id, layout, bytes });
    }

    fn start(&mut self, order: Order) {
        *self.state.borrow_mut() = State::Working;
        let path = self.directory.join(segment_file_name(order.id));
        let shown = path.display().to_string();
        let (state, obstacle) = (self.state.clone(), self.obstacle.clone());
        let spare = self.spare.borrow_mut().pop();
        self.background.spawn(
            move || make(path, spare, order.layout, order.bytes),
            move |made| {
                *obstacle.borrow_mut() = made.as_ref().err().map(|error| format!("making {shown}: {error}"));
                *state.borrow_mut() = match made {
                    Ok(made) => State::Ready(order, made),
                    Err(_) => State::Failed(order),
                };
            },
        );
    }

    /// The segment, if there is one of this layout with room for `bytes_min`.
    pub fn take(&mut self, layout: Layout, bytes_min: u64) -> Option<Prepared> {
        let state = self.state.replace(State::Idle);
        match state {
            State::Ready(order, made) if !self.discarding && order.layout == layout && order.bytes >= bytes_min => {
                if layout == Layout::Blocks && !made.direct && !self.warned_direct {
                    self.warned_direct = true;
                    tracing::warn!(
                        "no direct I/O in {}: the log is written through the page cache",
                        self.directory.display()
                    );
                }
                let header = RefCell::new(AlignedBuffer::new());
                Some(Prepared { id: order.id, path: made.path, file: made.file, bytes: order.bytes, layout, header })
            }
            // Too small, or of the other layout: make another under the same name.
            State::Ready(_, made) => {
                self.discarding = false;
                drop(made.file);
                None
            }
            other @ (State::Idle | State::Working | State::Failed(_)) => {
                *self.state.borrow_mut() = other;
                None
            }
        }
    }

    #[cfg(test)]
    pub fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready(..))
    }

    /// The layout has changed: what is made or being made is of no use.
    pub fn discard(&mut self) {
        let working = matches!(*self.state.borrow(), State::Working);
        if working {
            self.discarding = true;
        } else {
            *self.state.borrow_mut() = State::Idle;
        }
    }

    /// These segments are needed no more: some files are kept to be used again, the others removed; with an archive, all go there.
    pub fn recycle(&mut self, paths: Vec<PathBuf>, archive: Option<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        let room = SPARE_FILES_MAX.saturating_sub(self.spare.borrow().len());
        let (spare, directory) = (self.spare.clone(), self.directory.clone());
        self.background.spawn(
            move || retire(&directory, paths, archive, room),
            move |kept| match kept {
                Ok(kept) => spare.borrow_mut().extend(kept),
                // Found, and passed over, by the next start; the next snapshot doesn't try again.
                Err(error) => tracing::error!("removing segments that a snapshot has replaced: {error}"),
            },
        );
    }

    /// Why there is no segment.
    pub fn obstacle(&self) -> Option<String> {
        self.obstacle.borrow().clone()
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        let failed = match &*self.state.borrow() {
            State::Failed(order) => Some(*order),
            State::Idle | State::Working | State::Ready(..) => None,
        };
        if let Some(order) = failed {
            self.start(order);
        }
    }
}

/// Small, so that 64 shards start at once on a small disk; each later segment is twice as large, up to the setting.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

pub fn segment_file_name(id: SegmentId) -> String {
    format!("{:020}.wal", id.0)
}

/// A file to be used again; its old content must never be found under a segment's name.
const RECYCLED: &str = "recycled";
/// Files kept beside the log: one is enough while segments are needed one at a time, two when snapshots come in bursts.
const SPARE_FILES_MAX: usize = 2;

/// Moves old segments out of the log; the files that are to be used again.
fn retire(directory: &Path, paths: Vec<PathBuf>, archive: Option<PathBuf>, room: usize) -> io::Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for path in paths {
        if let Some(archive) = &archive {
            move_to(&path, archive)?;
        } else if kept.len() < room {
            let spare = path.with_extension(RECYCLED);
            std::fs::rename(&path, &spare)?;
            kept.push(spare);
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    sync_directory(directory)?;
    Ok(kept)
}

/// Into another directory, which may be on another file system.
pub fn move_to(path: &Path, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let target = directory.join(path.file_name().expect("a file has a name"));
    match std::fs::rename(path, &target) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            std::fs::copy(path, &target)?;
            File::open(&target)?.sync_all()?;
            sync_directory(directory)?;
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(()) => sync_directory(directory),
    }
}

/// Removes files that were to be used again by a server that is no more.
pub fn remove_spare(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == RECYCLED) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes the file, of a spare one if there is one; on failure nothing is left of it, so that a full disk isn't made fuller.
fn make(path: PathBuf, spare: Option<PathBuf>, layout: Layout, bytes: u64) -> io::Result<Made> {
    // Under its name only once nothing of its old content is left.
    let working = spare.clone().unwrap_or_else(|| path.clone());
    let made = try_make(&working, spare.is_some(), layout, bytes).and_then(|made| {
        if spare.is_some() {
            std::fs::rename(&working, &path)?;
        }
        Ok(made)
    });
    if made.is_err() {
        let _ = std::fs::remove_file(&working);
    }
    let (file, direct) = made?;
    sync_directory(path.parent().expect("a segment lies in a directory"))?;
    Ok(Made { file, path, direct })
}

fn try_make(path: &Path, again: bool, layout: Layout, bytes: u64) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(!again);
    let file = options.open(path)?;
    if again {
        file.set_len(bytes)?;
    }
    allocate(&file, bytes)?;
    match layout {
        Layout::Bytes => {
            if again {
                zero(&file, bytes)?;
            }
            file.sync_all()?;
            Ok((file, false))
        }
        Layout::Blocks => {
            fill(&file, bytes)?;
            open_direct(path)
        }
    }
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    let result = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as i64) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Ok(())
}

/// Zeros without writing them, where the file system can.
fn zero(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_ZERO_RANGE, 0, bytes as i64) };
    if result == 0 { Ok(()) } else { fill(file, bytes) }
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    file.sync_all()
}

/// For writes that are on disk when they complete; through the page cache where direct I/O isn't to be had (tmpfs).
fn open_direct(path: &Path) -> io::Result<(File, bool)> {
    let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    match open(libc::O_DIRECT | libc::O_DSYNC) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((open(libc::O_DSYNC)?, false)),
        Err(error) => Err(error),
    }
}

/// A new or renamed file is only there after a power cut once its directory is synced.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

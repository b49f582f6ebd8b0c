//! A wall clock that the test steps while the server runs: libfaketime, told by a file that it reads at every look at the clock.
//! The monotonic clock is left alone, as a real step leaves it.

use crate::support::{DataDir, Server};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct WallClock {
    library: PathBuf,
    /// Holds the step, in seconds, as libfaketime reads it.
    file: PathBuf,
    offset_seconds: i64,
    _dir: DataDir,
}

impl WallClock {
    /// `None`, with a line for the reader, where libfaketime isn't installed; on CI that is a failure.
    pub fn new() -> Option<WallClock> {
        let Some(library) = library() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "libfaketime is not installed, and CI must not skip");
            println!("SKIPPED: libfaketime is not installed");
            return None;
        };
        let dir = DataDir::new();
        let file = dir.path().join("step");
        let mut clock = WallClock { library, file, offset_seconds: 0, _dir: dir };
        clock.step_to(0);
        Some(clock)
    }

    /// A server that lives by this clock.
    pub fn server(&self, dir: &Path, args: &[&str]) -> Server {
        let environment = [
            ("LD_PRELOAD", self.library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_os_str()),
            ("FAKETIME_NO_CACHE", OsStr::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ];
        Server::shardis_with(dir, args, &environment)
    }

    /// The wall clock is so much ahead of the machine's from now on.
    pub fn step_to(&mut self, offset_seconds: i64) {
        // By renaming: a reader must not meet half of it.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset_seconds:+}\n")).expect("the directory is ours");
        std::fs::rename(&new, &self.file).expect("the directory is ours");
        self.offset_seconds = offset_seconds;
    }

    pub fn step_by(&mut self, seconds: i64) {
        self.step_to(self.offset_seconds + seconds);
    }

    pub fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        since.as_millis() as i64 + self.offset_seconds * 1000
    }
}

/// The variant for programs with threads; Debian puts it below the architecture's name.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let folders =
        folders.flat_map(|folder| [folder.clone(), folder.join("faketime")]).chain(["/usr/lib/faketime".into()]);
    folders.map(|folder| folder.join("libfaketimeMT.so.1")).find(|file| file.is_file())
}

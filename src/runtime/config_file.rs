//! Writing the configuration file anew (CONFIG REWRITE).
//!
//! The rule: whoever reads the file, also after a crash, finds the old text or the new one, never a mixture.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Replaces the file's text by what `rewrite` makes of it. A file that is not there is made.
pub fn rewrite(path: &Path, rewrite: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let before = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let new = beside(path);
    let written = write_new(path, &new, &rewrite(&before));
    if written.is_err() {
        // What failed is reported; a left-over file would only be in the way.
        let _ = fs::remove_file(&new);
    }
    written
}

/// The path as INFO tells it, however the server was told.
pub fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.into()).display().to_string()
}

/// A name in the same directory: renaming is atomic only within a file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, new: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    if let Ok(metadata) = fs::metadata(path) {
        // The file may hold a password that others were not to read.
        file.set_permissions(metadata.permissions())?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("shardis.conf");
        rewrite(&path, |before| [before, b"port 1\n"].concat()).expect("written");
        rewrite(&path, |before| [before, b"hz 2\n"].concat()).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"port 1\nhz 2\n");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }
}

//! The tools of the binary: they work on a data directory that no server uses.
//!
//! - `directory`: opens one, under the same lock as a server;
//! - `examine`: reads one shard's log as a start would, but goes on behind damage;
//! - `snapshot`: reads a snapshot;
//! - `walk`: finds whole records wherever they lie;
//! - `loss`: what has to be given up so that a start works, on all shards together;
//! - `check`: reports the three;
//! - `repair`: makes that cut hold on disk;
//! - `dump`, `show`: records and edits as text;
//! - `import`, `export`: RDB files into a running server, and out of a data directory;
//! - `progress`: how far an import has come.
//!
//! Point-in-time recovery is the runtime's (`runtime::restore`), as it writes data anew.
//!
//! The rule: nothing but `repair` changes a byte, and `repair` destroys none. What a start makes of a log is decided in
//! `shards::wal` and `runtime::recovery` alone; here it is asked.

mod check;
mod directory;
mod dump;
mod examine;
mod export;
mod import;
mod loss;
mod progress;
mod repair;
mod show;
mod snapshot;
mod walk;

pub use dump::Selection;
pub use export::Export;
pub use import::Import;

use crate::runtime::restore::{self, Request};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tool {
    Check { directory: PathBuf, repair: bool },
    Dump { directory: PathBuf, selection: Selection },
    Restore(Request),
    Import(Import),
    Export(Export),
}

/// What was found, where the directory could be examined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Sound,
    /// A start is refused, or goes on without transactions that were there.
    Damaged,
}

impl Outcome {
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Sound => 0,
            Outcome::Damaged => 1,
        }
    }
}

/// Exit code where nothing can be said of the directory.
pub const UNEXAMINED: u8 = 2;

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// A whole sentence for the operator.
    #[error("{0}")]
    World(String),
    #[error("writing the report: {0}")]
    Output(#[from] io::Error),
}

impl Obstacle {
    /// `doing` and `path` read as "reading PATH".
    fn at(doing: &str, path: &Path, error: io::Error) -> Self {
        Obstacle::World(format!("{doing} {}: {error}", path.display()))
    }
}

fn restored(request: &Request, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let said = restore::restore(request).map_err(Obstacle::World)?;
    for line in said {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "restored to {}", request.target.display())?;
    Ok(Outcome::Sound)
}

/// Runs the tool; what it has to say goes to `out`.
pub fn run(tool: &Tool, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let outcome = match tool {
        Tool::Check { directory, repair: false } => check::check(directory, out),
        Tool::Check { directory, repair: true } => check::repair(directory, out),
        Tool::Dump { directory, selection } => dump::dump(directory, selection, out),
        Tool::Restore(request) => restored(request, out),
        Tool::Import(request) => import::import(request, out),
        Tool::Export(request) => export::export(request, out),
    };
    match out.flush() {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => outcome,
    }
}

//! A thread that writes one snapshot's file: one piece of work at a time, in order, at a low priority, so that even where it
//! shares a core with a shard the shard goes first.

use super::lanes::Doorbell;
use shards::units::ShardId;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

type Work = Box<dyn FnOnce() -> io::Result<Option<File>> + Send>;

pub struct Scribe {
    work: Sender<Work>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    busy: AtomicBool,
    outcome: Mutex<Outcome>,
}

#[derive(Default)]
struct Outcome {
    file: Option<Arc<File>>,
    failure: Option<String>,
}

impl Scribe {
    /// Rings the shard's doorbell after each piece of work. Ends when it is dropped and has done what it was given.
    pub fn start(doorbells: Arc<Vec<Doorbell>>, shard: ShardId) -> Self {
        let (work, given) = mpsc::channel::<Work>();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let run = move || {
            // SAFETY: of this thread alone (0), and touches no memory of ours. Without the right to, it goes on as it is.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
            for work in given {
                own.take(work());
                doorbells[shard.0 as usize].ring();
            }
        };
        if let Err(error) = std::thread::Builder::new().name(format!("snapshot-{}", shard.0)).spawn(run) {
            shared.outcome().failure = Some(format!("starting a thread: {error}"));
        }
        Scribe { work, shared }
    }

    pub fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire)
    }
    /// Why a piece of work failed; those after it are done all the same.
    pub fn failure(&self) -> Option<String> {
        self.shared.outcome().failure.clone()
    }
    /// The last file that a piece of work returned.
    pub fn file(&self) -> Arc<File> {
        self.shared.outcome().file.clone().expect("it is made before anything else")
    }
    /// Has it do something, once it isn't busy.
    pub fn work(&self, work: impl FnOnce() -> io::Result<Option<File>> + Send + 'static) {
        self.shared.busy.store(true, Ordering::Release);
        if self.work.send(Box::new(work)).is_err() {
            // There is no thread, and why has been said.
            self.shared.busy.store(false, Ordering::Release);
        }
    }
}

const NICE: libc::c_int = 10;

impl Shared {
    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("nobody panics while holding it")
    }
    fn take(&self, done: io::Result<Option<File>>) {
        let mut outcome = self.outcome();
        match done {
            Ok(Some(file)) => outcome.file = Some(Arc::new(file)),
            Ok(None) => {}
            Err(error) => outcome.failure = Some(error.to_string()),
        }
        drop(outcome);
        self.busy.store(false, Ordering::Release);
    }
}

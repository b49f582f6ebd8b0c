//! The edge: the only folder that knows glommio and io_uring, files, sockets and clocks. It decides nothing:
//! what to do is the core's and the shard's business; here it is done.

mod affinity;
mod boot;
pub mod clock;
pub mod config_file;
mod core_loop;
mod data_directory;
mod disk;
mod durable_time;
mod lanes;
mod listen;
pub mod operational_log;
mod prepare;
pub mod process;
mod recovery;
pub mod restore;
mod rewrite;
mod ring;
mod snapshot_file;
mod snapshot_writer;
mod sockets;
mod token;

pub use boot::run;

use std::cell::Cell;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// Work of the core on its executor's blocking thread, counted, so that the core knows when its executor needs a turn.
#[derive(Clone)]
pub struct Background {
    under_way: Rc<Cell<usize>>,
    /// Signalled when a piece of work is done.
    wake: RawFd,
}

impl Background {
    fn new(wake: RawFd) -> Self {
        Background { under_way: Rc::new(Cell::new(0)), wake }
    }
    fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }
    /// Runs `work` off the core, then `done` on it.
    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static, done: impl FnOnce(T) + 'static) {
        self.under_way.set(self.under_way.get() + 1);
        let background = self.clone();
        glommio::spawn_local(async move {
            done(glommio::executor().spawn_blocking(work).await);
            background.under_way.set(background.under_way.get() - 1);
            signal_eventfd(background.wake);
        })
        .detach();
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn signal_eventfd(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes are given. It can only fail when the counter is full: then the reader is awake anyway.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

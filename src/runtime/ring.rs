//! The private io_uring of a core: sockets and the log go through it, in one `io_uring_enter` per turn.
//!
//! SINGLE_ISSUER and DEFER_TASKRUN: only the core's thread submits, and completions are made only when it asks,
//! so that nothing interrupts a turn. Measured against a task per connection: a third of the CPU per command.

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, squeue, types};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Receive buffers: enough for a turn of many connections, few enough to stay in the cache.
const BUFFER_COUNT: u16 = 128;
const BUFFER_BYTES: usize = 16 << 10;
const BUFFER_GROUP: u16 = 0;
const ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 4096;

pub struct Ring {
    ring: IoUring,
    buffers: BufferRing,
}

/// A completion, taken off the ring.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: u64,
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// A multishot request that goes on.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

impl Ring {
    /// Fails where io_uring is forbidden or too old (6.1 is the floor: DEFER_TASKRUN).
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        let buffers = BufferRing::new()?;
        // SAFETY: the address is that of a page-aligned mapping of BUFFER_COUNT entries, which lives as long as the ring: both
        // are fields of `Ring`, and `ring` is dropped first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.entries.address(), BUFFER_COUNT, BUFFER_GROUP, 0)?
        };
        Ok(Ring { ring, buffers })
    }

    pub fn buffer_group(&self) -> u16 {
        BUFFER_GROUP
    }

    /// The kernel's workers for blocking file operations follow the cpuset, not the thread's affinity: tell it.
    pub fn bind_workers(&self, cpu: usize) -> io::Result<()> {
        // SAFETY: cpu_set_t is a plain bit set, for which all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid set; CPU_SET checks the index against its size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        self.ring.submitter().register_iowq_aff(&set)
    }

    /// Completions signal this eventfd while `signal` is on; for parking in the executor.
    pub fn register_eventfd(&mut self, fd: i32) -> io::Result<()> {
        self.ring.submitter().register_eventfd(fd)?;
        self.signal(false);
        Ok(())
    }
    pub fn unregister_eventfd(&mut self) -> io::Result<()> {
        self.ring.submitter().unregister_eventfd()
    }
    pub fn signal(&mut self, on: bool) {
        let completions = self.ring.completion();
        if on { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Queues a request; it is submitted by the next `enter`.
    ///
    /// # Safety
    /// What the request points to must stay valid until its completion.
    pub unsafe fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: passed on to the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: hand what there is to the kernel. It can only fail for lack of memory, which passes.
            let _ = self.ring.submit();
        }
    }

    /// Submits what was queued and makes completions visible; waits for one if `wait` says how long at most.
    pub fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let result = match wait {
            None => {
                let queued = self.ring.submission().len() as u32;
                const GETEVENTS: u32 = 1;
                // SAFETY: no argument is passed, and the count is that of entries in the queue.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }
            }
            Some(timeout) => {
                let timespec = types::Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec))
            }
        };
        match result {
            Ok(_) => Ok(()),
            // Time is up, a signal came, or the completion queue must be emptied first: all a matter of the next turn.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }
    /// Moves all completions into `into`.
    pub fn completions(&mut self, into: &mut Vec<Completion>) {
        let each = |entry: cqueue::Entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        };
        into.extend(self.ring.completion().map(each));
    }

    /// The bytes that a receive put into a buffer. They stay until `recycle`.
    pub fn received(&self, buffer: u16, len: usize) -> *const [u8] {
        assert!(len <= BUFFER_BYTES && buffer < BUFFER_COUNT);
        let start = self.buffers.start(buffer);
        std::ptr::slice_from_raw_parts(start, len)
    }
    /// Gives a buffer back to the kernel.
    pub fn recycle(&mut self, buffer: u16) {
        self.buffers.offer(buffer);
        self.buffers.publish();
    }
}

/// The ring of buffers that the kernel takes from (IORING_REGISTER_PBUF_RING).
struct BufferRing {
    entries: Mapping,
    memory: Mapping,
    tail: u16,
}

impl BufferRing {
    fn new() -> io::Result<Self> {
        let entries = Mapping::new(BUFFER_COUNT as usize * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(BUFFER_COUNT as usize * BUFFER_BYTES)?;
        let mut ring = BufferRing { entries, memory, tail: 0 };
        (0..BUFFER_COUNT).for_each(|buffer| ring.offer(buffer));
        ring.publish();
        Ok(ring)
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        // SAFETY: the index is below BUFFER_COUNT, so the result lies inside the mapping.
        unsafe { self.memory.base.as_ptr().add(buffer as usize * BUFFER_BYTES) }
    }

    fn offer(&mut self, buffer: u16) {
        let address = self.start(buffer) as u64;
        let place = (self.tail & (BUFFER_COUNT - 1)) as usize;
        // SAFETY: `place` is below BUFFER_COUNT; the mapping holds that many entries, zeroed at first, which is a valid
        // BufRingEntry; the kernel doesn't read entries beyond the published tail.
        let entry = unsafe { &mut *self.entries.base.as_ptr().cast::<BufRingEntry>().add(place) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `base` is the ring's first entry, in which the kernel keeps the tail.
        let tail = unsafe { BufRingEntry::tail(base) }.cast::<AtomicU16>();
        // SAFETY: the tail lies in the mapping, aligned, and is only written through this atomic.
        unsafe { &*tail }.store(self.tail, Ordering::Release);
    }
}

/// Anonymous memory, page-aligned and zeroed.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
        // SAFETY: a fresh anonymous mapping touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { base: NonNull::new(base.cast()).expect("a mapping is never at 0"), len })
    }
    fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the one that was mapped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

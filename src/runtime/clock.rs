//! The only place that reads clocks.

use shards::units::Now;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)] // this is the clock that everybody else is given
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The wall clock, in microseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)] // this is the clock that everybody else is given
pub fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Lets the core's thread do nothing (DEBUG SLEEP).
pub fn sleep(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// Tries again for as long as a predecessor that was just killed may still hold what `attempt` needs: the kernel takes a moment
/// to give back the files of a process, and io_uring's a moment longer. `Ok(None)` means held.
pub fn patiently<T, E>(mut attempt: impl FnMut() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    const TRIES: u32 = 40;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
    for _ in 1..TRIES {
        if let Some(got) = attempt()? {
            return Ok(Some(got));
        }
        std::thread::sleep(PAUSE);
    }
    attempt()
}

#[allow(clippy::disallowed_methods)] // this is the clock that everybody else is given
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Nanoseconds since the first call, monotonic; cheap enough to read once per command (a quarter of clock_gettime, where the
/// processor's counter can be used). The first call takes some milliseconds, to calibrate.
pub fn ticks() -> u64 {
    static CLOCK: OnceLock<(quanta::Clock, u64)> = OnceLock::new();
    let (clock, start) = CLOCK.get_or_init(|| {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        (clock, start)
    });
    clock.delta_as_nanos(*start, clock.raw())
}

/// Reads both clocks of a turn. Steady time continues where the last run of the server left it: its base is given.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    steady_start_ms: u64,
}

impl Clock {
    pub fn new(steady_start_ms: u64) -> Self {
        Clock { start: monotonic(), steady_start_ms }
    }
    pub fn now(&self) -> Now {
        Now { steady_ms: self.steady_start_ms + self.start.elapsed().as_millis() as u64, wall_ms: wall_ms() }
    }
}

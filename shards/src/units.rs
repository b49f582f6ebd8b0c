//! Newtypes for the numbers that cross module borders, so that a database is never mistaken for a shard
//! and a wall-clock time never for a steady one.

use std::num::NonZeroU64;

/// Index of a logical database (`SELECT 3`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Db(pub u16);

/// Index of a shard, dense from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

/// Position in a shard's stream of edits: bytes of edits ever produced. Replies are released, and replicas
/// resume, by offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Offset(pub u64);

/// The two clocks, read once per turn of a core by the runtime.
///
/// `steady_ms` is the wall clock at start plus monotonic time since: it never steps, so relative
/// deadlines (`EXPIRE k 10`) live on it. `wall_ms` is the machine's clock: absolute deadlines
/// (`EXPIREAT`) live on that one. Both are milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub steady_ms: u64,
    pub wall_ms: u64,
}

impl Now {
    /// Both clocks at the same time, as when neither has stepped yet.
    pub fn at(unix_ms: u64) -> Self {
        Now { steady_ms: unix_ms, wall_ms: unix_ms }
    }
}

/// On which clock a deadline lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadlineKind {
    /// Given as a time to live; immune to steps of the wall clock.
    Relative,
    /// Given as a point in time; follows the wall clock.
    Absolute,
}

/// When a key expires, with the clock that decides it, packed as `milliseconds << 1 | absolute`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Deadline(NonZeroU64);

impl Deadline {
    /// The latest time a deadline can hold: Redis rejects what would overflow a signed 64-bit millisecond
    /// count; one bit less is left to us, which is still 146 million years.
    pub const MS_MAX: u64 = (1 << 62) - 1;

    /// `ms` on the clock of `kind`; a time of 0 becomes 1, which is as past as 0.
    pub fn new(kind: DeadlineKind, ms: u64) -> Self {
        let ms = ms.clamp(1, Self::MS_MAX);
        let absolute = (kind == DeadlineKind::Absolute) as u64;
        Deadline(NonZeroU64::new(ms << 1 | absolute).expect("ms is at least 1"))
    }
    /// A deadline `ttl_ms` from now, on the steady clock.
    pub fn after(now: Now, ttl_ms: u64) -> Self {
        Self::new(DeadlineKind::Relative, now.steady_ms.saturating_add(ttl_ms))
    }
    /// A deadline at a Unix time, on the wall clock.
    pub fn at(unix_ms: u64) -> Self {
        Self::new(DeadlineKind::Absolute, unix_ms)
    }
    pub fn kind(self) -> DeadlineKind {
        if self.0.get() & 1 == 1 { DeadlineKind::Absolute } else { DeadlineKind::Relative }
    }
    /// Milliseconds on the clock of `kind()`.
    pub fn ms(self) -> u64 {
        self.0.get() >> 1
    }
    /// The packed form, as it stands in entries and on disk.
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Deadline)
    }
    fn clock(self, now: Now) -> u64 {
        match self.kind() {
            DeadlineKind::Relative => now.steady_ms,
            DeadlineKind::Absolute => now.wall_ms,
        }
    }
    pub fn is_due(self, now: Now) -> bool {
        self.ms() <= self.clock(now)
    }
    /// Time left in milliseconds, 0 when due.
    pub fn remaining_ms(self, now: Now) -> u64 {
        self.ms().saturating_sub(self.clock(now))
    }
    /// The Unix time at which it falls due as the wall clock stands now (EXPIRETIME, comparisons of EXPIRE GT/LT).
    pub fn unix_ms(self, now: Now) -> u64 {
        match self.kind() {
            DeadlineKind::Absolute => self.ms(),
            DeadlineKind::Relative => (self.ms() + now.wall_ms).saturating_sub(now.steady_ms),
        }
    }
}

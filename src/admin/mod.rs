//! What operators ask: counters and latencies of a core, and how those of all cores become one.

pub mod latency;
pub mod stats;

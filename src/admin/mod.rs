//! What operators ask: counters and latencies of a core, how those of all cores become one, and the texts made of them.

pub mod info;
pub mod latency;
pub mod latency_text;
pub mod report;
pub mod stats;

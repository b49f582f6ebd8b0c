//! What trimming takes off the start of a stream.

use super::{StreamId, StreamRef};

/// What is to stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// So many of the newest entries.
    Newest(u64),
    /// What isn't below an id.
    From(StreamId),
}

/// How exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    Exact,
    /// Whole nodes, and no more entries than this.
    Nodes {
        entries_max: u64,
    },
}

/// Entries to be trimmed: those up to an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trimming {
    pub last: StreamId,
    pub count: u64,
}

impl<'a> StreamRef<'a> {
    /// What trimming takes, if anything.
    pub fn trimming(self, keep: Keep, precision: Precision) -> Option<Trimming> {
        let mut trimming: Option<Trimming> = None;
        let len = self.body()?.len;
        for node in &self.body()?.nodes {
            let count = trimming.map_or(0, |trimming| trimming.count);
            let (all, entries) = (count + node.len() as u64, node.len() as u64);
            if let Keep::Newest(newest) = keep
                && len - count <= newest
            {
                break;
            }
            if let Precision::Nodes { entries_max } = precision
                && all > entries_max
            {
                break;
            }
            let is_whole = match keep {
                Keep::Newest(newest) => len - count - entries >= newest,
                Keep::From(first) => node.last() < first,
            };
            if is_whole {
                trimming = Some(Trimming { last: node.last(), count: all });
                continue;
            }
            if precision == Precision::Exact {
                let wanted = match keep {
                    Keep::Newest(newest) => len - count - newest,
                    Keep::From(_) => u64::MAX,
                };
                let is_below = |id: StreamId| !matches!(keep, Keep::From(first) if id >= first);
                let within = node.entries().map(|entry| entry.id).take_while(|id| is_below(*id));
                for (id, number) in within.zip(1..=wanted) {
                    trimming = Some(Trimming { last: id, count: count + number });
                }
            }
            break;
        }
        trimming
    }
}

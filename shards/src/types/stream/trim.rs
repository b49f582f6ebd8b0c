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
        let body = self.body()?;
        let (mut whole, mut count) = (None, 0);
        for node in &body.nodes {
            let entries = node.len() as u64;
            let is_enough = matches!(keep, Keep::Newest(newest) if body.len - count <= newest);
            let is_too_much = matches!(precision, Precision::Nodes { entries_max } if count + entries > entries_max);
            if is_enough || is_too_much {
                break;
            }
            let is_whole = match keep {
                Keep::Newest(newest) => body.len - count - entries >= newest,
                Keep::From(first) => node.last() < first,
            };
            if is_whole {
                (whole, count) = (Some(node), count + entries);
                continue;
            }
            let wanted = match (precision, keep) {
                (Precision::Nodes { .. }, _) => 0,
                (Precision::Exact, Keep::Newest(newest)) => body.len - count - newest,
                (Precision::Exact, Keep::From(_)) => u64::MAX,
            };
            let is_below = |id: StreamId| !matches!(keep, Keep::From(first) if id >= first);
            let below = node.entries().map(|entry| entry.id).take_while(|id| is_below(*id));
            if let Some((last, number)) = below.zip(1..=wanted).last() {
                return Some(Trimming { last, count: count + number });
            }
            break;
        }
        // Not the highest id that the node ever had: the next node may begin below that, if XSETID went back behind what was deleted.
        let last = whole?.entries().last()?.id;
        Some(Trimming { last, count })
    }
}

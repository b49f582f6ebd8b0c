//! Whether a recorded run was strictly serializable.
//!
//! Every operation reads and writes its keys, so the versions of a key put its operations in a row. These rows, and what
//! ended before something else began, must not contradict each other: together they may not form a cycle.

use crate::model::Table;

pub struct Event {
    /// Nanoseconds on a clock that all cores share.
    pub start: u64,
    pub end: u64,
    /// Key and the version written.
    pub writes: Vec<(u32, u32)>,
}

/// How many operations no order can explain.
pub fn unexplained(events: &[Event]) -> usize {
    // A point of time is a node as well: ends lead to it, starts come from it, and it leads to the next point. That
    // says "before" for every pair without an edge for every pair.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(events.len() * 2);
    for (index, event) in events.iter().enumerate() {
        moments.push((event.start, false, index));
        moments.push((event.end, true, index));
    }
    // At the same nanosecond a start comes before an end, which leaves the two without an order.
    moments.sort_unstable();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); events.len() + moments.len()];
    for (at, (_, is_end, event)) in moments.iter().enumerate() {
        let moment = events.len() + at;
        if *is_end {
            after[*event].push(moment);
        } else {
            after[moment].push(*event);
        }
        if at + 1 < moments.len() {
            after[moment].push(moment + 1);
        }
    }
    for row in rows(events) {
        row.windows(2).for_each(|pair| after[pair[0]].push(pair[1]));
    }
    let explained = topological(&after, events.len());
    events.len() - explained
}

/// By key, the operations in the order of the versions they wrote.
fn rows(events: &[Event]) -> impl Iterator<Item = Vec<usize>> {
    let mut by_key: Table<u32, Vec<(u32, usize)>> = Table::default();
    for (index, event) in events.iter().enumerate() {
        event.writes.iter().for_each(|(key, version)| by_key.entry(*key).or_default().push((*version, index)));
    }
    by_key.into_values().map(|mut row| {
        row.sort_unstable();
        assert!(row.iter().enumerate().all(|(at, (version, _))| *version as usize == at + 1), "a version is missing");
        row.into_iter().map(|(_, event)| event).collect()
    })
}

/// How many of the first `events` nodes come out in an order that respects all edges.
fn topological(after: &[Vec<usize>], events: usize) -> usize {
    let mut before = vec![0u32; after.len()];
    after.iter().flatten().for_each(|node| before[*node] += 1);
    let mut ready: Vec<usize> = (0..after.len()).filter(|node| before[*node] == 0).collect();
    let mut explained = 0;
    while let Some(node) = ready.pop() {
        explained += usize::from(node < events);
        for next in &after[node] {
            before[*next] -= 1;
            if before[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    explained
}

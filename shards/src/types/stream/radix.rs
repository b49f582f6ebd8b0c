//! How many nodes the radix tree has that Redis would keep a stream's nodes in, for XINFO STREAM. Ours are in no tree; but the
//! figure follows from their ids alone.

use super::{StreamId, StreamRef};

/// Bytes of a key: an id.
const DEPTH: usize = 16;

impl StreamRef<'_> {
    /// An inner node for each place where keys part, a last one for each key, and one more before each of those to which
    /// a way of one byte or several leads that no other key shares.
    pub fn radix_tree_nodes(self) -> usize {
        let mut bases = self.body().into_iter().flat_map(|body| body.nodes.iter().map(|node| node.base()));
        let Some(mut base) = bases.next() else { return 1 };
        let with_way =
            |depth: usize, parent: Option<usize>| 1 + (depth > parent.map_or(0, |parent| parent + 1)) as usize;
        let mut nodes = 0;
        // Depths at which the last key's way parts from others, the deepest last.
        let mut parting: Vec<usize> = Vec::new();
        let mut before = None;
        loop {
            let next = bases.next();
            let shared = next.map(|next| shared_bytes(base, next));
            nodes += with_way(DEPTH, before.max(shared));
            while let Some(depth) = parting.pop_if(|depth| shared.is_none_or(|shared| *depth > shared)) {
                nodes += with_way(depth, shared.max(parting.last().copied()));
            }
            let (Some(next), Some(shared)) = (next, shared) else { return nodes };
            if parting.last() != Some(&shared) {
                parting.push(shared);
            }
            (base, before) = (next, Some(shared));
        }
    }
}

/// How many bytes two ids have in common at their start, as Redis writes them.
fn shared_bytes(a: StreamId, b: StreamId) -> usize {
    let differing = a.to_be_bytes().into_iter().zip(b.to_be_bytes()).position(|(a, b)| a != b);
    differing.unwrap_or(DEPTH)
}

#[cfg(test)]
mod tests {
    use crate::types::stream::{Stream, StreamChange, StreamId};
    use crate::types::{Collection, Thresholds};

    /// Figures of redis-server 7.0.15, with `stream-node-max-entries 1`.
    #[test]
    fn the_tree_has_as_many_nodes_as_in_redis() {
        for (ids, expected) in [
            (&[][..], 1),
            (&[(1, 1)], 2),
            (&[(1, 1), (1, 2)], 4),
            (&[(1, 1), (1, 300)], 6),
            (&[(1, 1), (1, 2), (1, 300), (70_000, 0), (70_000, 1), (1 << 41, 5)], 17),
        ] {
            let mut changes = Vec::new();
            for (ms, seq) in ids {
                let pairs = [(&b"f"[..], &b"v"[..])];
                StreamChange::encode_append(StreamId::new(*ms, *seq), pairs.into_iter(), &mut changes);
            }
            let thresholds = Thresholds { stream_node_entries: 1, ..Thresholds::default() };
            let mut stream = Stream::default();
            stream.change(&changes, &thresholds);
            assert_eq!(stream.view().radix_tree_nodes(), expected, "{ids:?}");
        }
    }
}

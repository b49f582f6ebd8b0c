//! A stream of ours as the writer wants to see it.

use super::write::EachEntry;
use super::{Group, PendingEntry, StreamFigures, StreamId, StreamSource};
use crate::types::View;
use crate::types::stream::{self as types, StreamRef};

/// A stream with its groups in the order in which they are written.
pub(super) struct StreamForm<'a> {
    stream: StreamRef<'a>,
    groups: Vec<(&'a [u8], &'a types::Group)>,
}

impl<'a> StreamForm<'a> {
    pub(super) fn of(stream: StreamRef<'a>) -> Self {
        StreamForm { stream, groups: stream.groups().into_iter().flat_map(|groups| groups.iter()).collect() }
    }
}

impl StreamSource for StreamForm<'_> {
    fn figures(&self) -> StreamFigures {
        StreamFigures {
            len: self.stream.len() as u64,
            last_id: self.stream.last_id(),
            max_deleted_id: self.stream.max_deleted(),
            entries_added: self.stream.entries_added(),
        }
    }
    fn first_id(&self) -> StreamId {
        self.stream.first_id()
    }
    fn entries(&self, each: &mut EachEntry<'_>) {
        let mut fields = Vec::new();
        for entry in self.stream.range(StreamId::MIN, StreamId::MAX) {
            fields.clear();
            fields.extend(entry.fields);
            each(entry.id, &fields);
        }
    }
    fn groups(&self) -> usize {
        self.groups.len()
    }
    fn group(&self, at: usize) -> Group<'_> {
        let (name, group) = self.groups[at];
        Group { name, last_id: group.delivered(), entries_read: group.read() }
    }
    fn consumers(&self, at: usize) -> Vec<(&[u8], u64)> {
        let (_, group) = self.groups[at];
        let mut consumers: Vec<_> = group.consumers().map(|consumer| (consumer.name(), consumer.seen_ms())).collect();
        // What is nobody's has no form of its own there: one without a name has it, who comes first by name if there is one.
        let has_nameless = consumers.first().is_some_and(|(name, _)| name.is_empty());
        if !has_nameless && group.pending_from(StreamId::MIN).any(|pending| pending.consumer.is_none()) {
            consumers.insert(0, (b"", 0));
        }
        consumers
    }
    fn pending(&self, at: usize) -> Vec<PendingEntry> {
        let consumers = self.consumers(at);
        let place = |name: &[u8]| consumers.binary_search_by_key(&name, |(name, _)| name);
        let (_, group) = self.groups[at];
        let entry = |pending: types::Pending<'_>| PendingEntry {
            id: pending.id,
            consumer: place(pending.consumer.unwrap_or_default()).expect("who has something pending is a consumer"),
            delivered_ms: pending.delivered_ms,
            deliveries: pending.count,
        };
        group.pending_from(StreamId::MIN).map(entry).collect()
    }
}

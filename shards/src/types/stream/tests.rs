//! A stream against the simplest twin, and changes from anywhere.

use super::*;
use std::collections::BTreeMap;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default, Clone, PartialEq, Debug)]
struct Twin {
    entries: BTreeMap<StreamId, Pairs>,
    last: StreamId,
    added: u64,
    max_deleted: StreamId,
}

impl Twin {
    fn change(&mut self, change: &StreamChange<'_>) {
        match *change {
            StreamChange::Append { id, pairs, fields } if id > self.last => {
                let mut at = Decoder::new(fields);
                let mut string = || at.string().expect("it is whole").to_vec();
                self.entries.insert(id, (0..pairs).map(|_| (string(), string())).collect());
                (self.last, self.added) = (id, self.added.saturating_add(1));
            }
            StreamChange::Delete { id } => {
                let deleted = self.entries.remove(&id).map(|_| id);
                self.max_deleted = self.max_deleted.max(deleted.unwrap_or_default());
            }
            StreamChange::TrimTo { last } => self.entries.retain(|id, _| *id > last),
            StreamChange::Trim { id } => drop(self.entries.remove(&id)),
            StreamChange::SetId { last, added, max_deleted } => {
                let highest = self.entries.keys().last().copied().unwrap_or_default();
                (self.last, self.added, self.max_deleted) = (last.max(highest), added, max_deleted);
            }
            _ => {}
        }
    }
    fn check(&self, view: StreamRef<'_>) {
        assert_eq!(view.len(), self.entries.len());
        let own =
            |entry: Entry<'_>| (entry.id, entry.fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect());
        let expected = || self.entries.iter().map(|(id, pairs)| (*id, pairs.clone()));
        assert!(view.range(StreamId::MIN, StreamId::MAX).map(own).eq(expected()));
        assert!(view.range_back(StreamId::MIN, StreamId::MAX).map(own).eq(expected().rev()));
        let figures = (view.last_id(), view.entries_added(), view.max_deleted());
        assert_eq!(figures, (self.last, self.added, self.max_deleted));
        assert_eq!(view.first().map(|entry| entry.id), self.entries.keys().next().copied());
        assert_eq!(view.last().map(|entry| entry.id), self.entries.keys().last().copied());
    }
}

/// Ids that share a millisecond, lie close together or far apart.
fn next_id(last: StreamId, random: &mut fastrand::Rng) -> StreamId {
    let id = match random.u32(..12) {
        0..5 => StreamId::new(last.ms, last.seq.saturating_add(random.u64(1..4))),
        5..10 => StreamId::new(last.ms.saturating_add(random.u64(1..200)), random.u64(..3)),
        10 => StreamId::new(last.ms.saturating_add(random.u64(1..1 << 40)), random.u64(..)),
        _ => StreamId::new(last.ms.saturating_sub(random.u64(..3)), random.u64(..9)),
    };
    id.max(StreamId::new(0, 1))
}

fn fields_of(random: &mut fastrand::Rng, longest: usize) -> (u64, Vec<u8>) {
    let mut out = Vec::new();
    let pairs = random.choice([1, 1, 2, 2, 5]).expect("some");
    let is_usual = random.u32(..4) > 0;
    for at in 0..pairs {
        let name = if is_usual { vec![b'a' + at as u8] } else { vec![random.u8(..); random.usize(..9)] };
        let value = if random.bool() {
            random.i32(-5000..5000).to_string().into_bytes()
        } else {
            vec![random.u8(..); random.usize(..longest)]
        };
        crate::wire::string(&mut out, &name);
        crate::wire::string(&mut out, &value);
    }
    (pairs, out)
}

fn changed(stream: &mut Option<Stream>, changes: &[u8], thresholds: &Thresholds) {
    assert_eq!(Stream::verify(changes), Ok(()));
    match stream {
        Some(stream) => stream.change(changes, thresholds),
        None => *stream = Stream::change_small(&mut Vec::new(), changes, thresholds),
    }
}

fn exported(view: StreamRef<'_>, bytes_max: usize, thresholds: &Thresholds) -> Stream {
    let (mut copy, mut from) = (None, Some(0));
    while let Some(at) = from {
        let mut changes = Vec::new();
        from = view.export(at, bytes_max, &mut changes);
        changed(&mut copy, &changes, thresholds);
    }
    copy.expect("even an empty stream has figures to export")
}

#[test]
fn a_stream_does_what_an_ordered_map_does() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let thresholds = Thresholds {
            stream_node_bytes: random.choice([0, 100, 600, 4096]).expect("some"),
            stream_node_entries: random.choice([0, 1, 7, 100]).expect("some"),
            ..Thresholds::default()
        };
        let longest = random.choice([2, 20, 300, 5000]).expect("some");
        let (mut stream, mut twin, mut clone) = (None, Twin::default(), None);
        for step in 0..300 {
            let some_id = {
                let ids: Vec<StreamId> = twin.entries.keys().copied().collect();
                random.choice(ids).unwrap_or(StreamId::new(random.u64(..9), 0))
            };
            let (pairs, fields) = fields_of(&mut random, longest);
            let change = match random.u32(..40) {
                0..26 => StreamChange::Append { id: next_id(twin.last, &mut random), pairs, fields: &fields },
                26..32 => StreamChange::Delete { id: some_id },
                32..35 => StreamChange::Trim { id: some_id },
                35..37 => {
                    let front = twin.entries.keys().nth(random.usize(..20)).copied();
                    StreamChange::TrimTo { last: front.unwrap_or(some_id) }
                }
                37 => StreamChange::TrimTo { last: some_id.previous().unwrap_or_default() },
                38 if step > 100 => StreamChange::TrimTo { last: some_id },
                _ => StreamChange::SetId {
                    last: if random.bool() { twin.last.next().unwrap_or(StreamId::MAX) } else { some_id },
                    added: twin.added + random.u64(..9),
                    max_deleted: some_id,
                },
            };
            let mut changes = Vec::new();
            change.encode(&mut changes);
            // An append before the last id makes no sense: it does nothing.
            changed(&mut stream, &changes, &thresholds);
            twin.change(&change);
            let stream = stream.as_ref().expect("it was made");
            stream.check_invariants();
            if step % 10 == 0 {
                twin.check(stream.view());
                let copy = exported(stream.view(), random.usize(1..2000), &Thresholds::default());
                copy.check_invariants();
                twin.check(copy.view());
                assert_eq!(copy.view().digest(), stream.view().digest());
            }
            let (from, to) = (some_id, StreamId::new(some_id.ms.saturating_add(random.u64(..300)), 0));
            let expected: Vec<StreamId> =
                if from <= to { twin.entries.range(from..=to).map(|(id, _)| *id).collect() } else { Vec::new() };
            assert!(stream.view().range(from, to).map(|entry| entry.id).eq(expected.iter().copied()));
            assert!(stream.view().range_back(from, to).map(|entry| entry.id).eq(expected.into_iter().rev()));
            if step == 150 {
                clone = Some((stream.clone(), twin.clone()));
            }
        }
        let (mut clone, twin) = clone.expect("there are so many steps");
        twin.check(clone.view());
        clone.check_invariants();
        while clone.free(1) {}
    }
}

#[test]
fn trimming_takes_what_was_asked_for() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let thresholds = Thresholds { stream_node_entries: random.usize(1..9), ..Thresholds::default() };
        let mut stream = None;
        for ms in 1..=40 {
            let mut changes = Vec::new();
            let pairs = [(&b"f"[..], &b"v"[..])];
            StreamChange::encode_append(StreamId::new(ms, 0), pairs.into_iter(), &mut changes);
            if random.u32(..4) == 0 {
                StreamChange::Delete { id: StreamId::new(random.u64(..ms) + 1, 0) }.encode(&mut changes);
            }
            changed(&mut stream, &changes, &thresholds);
        }
        let mut stream = stream.expect("it was made");
        let ids: Vec<StreamId> = stream.view().range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
        let newest = random.usize(..45);
        let first = StreamId::new(random.u64(..45), 0);
        let (keep, expected) = if random.bool() {
            (Keep::Newest(newest as u64), ids.len().saturating_sub(newest))
        } else {
            (Keep::From(first), ids.iter().filter(|id| **id < first).count())
        };
        let entries_max = random.u64(..40);
        let by_nodes =
            stream.view().trimming(keep, Precision::Nodes { entries_max }).map_or(0, |trimming| trimming.count);
        assert!(by_nodes <= entries_max.min(expected as u64));
        let trimming = stream.view().trimming(keep, Precision::Exact);
        assert_eq!(trimming.map_or(0, |trimming| trimming.count), expected as u64);
        if let Some(Trimming { last, .. }) = trimming {
            let mut changes = Vec::new();
            StreamChange::TrimTo { last }.encode(&mut changes);
            stream.change(&changes, &thresholds);
        }
        stream.check_invariants();
        assert!(
            stream.view().range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).eq(ids[expected..].iter().copied())
        );
    }
}

#[test]
fn changes_from_anywhere_are_made_or_refused() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stream = Stream::default();
    for _ in 0..30_000 {
        let mut changes = Vec::new();
        for _ in 0..random.usize(1..4) {
            let start = changes.len();
            let (pairs, fields) = fields_of(&mut random, 9);
            let id = StreamId::new(random.u64(..30), random.u64(..30));
            match random.u32(..8) {
                0 => StreamChange::Append { id: next_id(stream.view().last_id(), &mut random), pairs, fields: &fields }
                    .encode(&mut changes),
                1 => StreamChange::Delete { id }.encode(&mut changes),
                2 => StreamChange::Produced { producer: b"p", iid: &fields[..1], id, at_ms: random.u64(..1 << 20) }
                    .encode(&mut changes),
                3 => StreamChange::Settings { duration_s: random.u64(..9), ids_max: random.u64(..9) }
                    .encode(&mut changes),
                4 => StreamChange::Remembered { producer: &fields[..2], iid: b"i", id, at_ms: random.u64(..1 << 20) }
                    .encode(&mut changes),
                _ => changes
                    .extend((0..random.usize(1..20)).map(|at| if at == 0 { random.u8(..20) } else { random.u8(..) })),
            }
            if random.u32(..3) == 0 {
                let at = random.usize(start..changes.len());
                changes[at] = random.u8(..);
            }
        }
        if Stream::verify(&changes).is_ok() {
            stream.change(&changes, &Thresholds::default());
            stream.check_invariants();
        }
    }
    assert_eq!(exported(stream.view(), 100, &Thresholds::default()).view().digest(), stream.view().digest());
}

#[test]
fn producers_are_remembered_for_so_long_and_so_many() {
    let mut stream = Stream::default();
    let change = |stream: &mut Stream, change: StreamChange<'_>| {
        let mut changes = Vec::new();
        change.encode(&mut changes);
        stream.change(&changes, &Thresholds::default());
        stream.check_invariants();
    };
    let found = |stream: &Stream, iid: &[u8], now_ms: u64| {
        stream.view().idempotence().and_then(|idempotence| idempotence.get(b"p", iid, now_ms))
    };
    change(&mut stream, StreamChange::Settings { duration_s: 10, ids_max: 3 });
    for at in 1..=4u64 {
        let id = StreamId::new(at, 0);
        change(&mut stream, StreamChange::Produced { producer: b"p", iid: &at.to_le_bytes(), id, at_ms: at * 1000 });
    }
    assert_eq!(found(&stream, &1u64.to_le_bytes(), 4000), None, "too many");
    assert_eq!(found(&stream, &2u64.to_le_bytes(), 11_999), Some(StreamId::new(2, 0)));
    assert_eq!(found(&stream, &2u64.to_le_bytes(), 12_000), None, "too old");
    change(&mut stream, StreamChange::Produced { producer: b"q", iid: b"i", id: StreamId::new(5, 0), at_ms: 100_000 });
    let idempotence = stream.view().idempotence().expect("it is there");
    assert_eq!(idempotence.counts(0), (1, 1), "another producer looked after the first");
    assert_eq!(idempotence.added(), 5);
    assert_eq!(exported(stream.view(), 100, &Thresholds::default()).view().digest(), stream.view().digest());
    change(&mut stream, StreamChange::Settings { duration_s: 10, ids_max: 4 });
    assert_eq!(stream.view().idempotence().map(|idempotence| idempotence.counts(0)), Some((0, 0)));
}

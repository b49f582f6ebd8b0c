//! Groups against the simplest twin, and their changes from anywhere.

use super::*;
use crate::types::stream::Stream;
use crate::types::{Collection, Thresholds, View};
use std::collections::BTreeMap;

#[derive(Clone, Default, PartialEq, Debug)]
struct TwinGroup {
    delivered: StreamId,
    read: Option<u64>,
    /// When seen, when active.
    consumers: BTreeMap<Vec<u8>, (u64, Option<u64>)>,
    /// For whom, when, how often.
    pending: BTreeMap<StreamId, (Option<Vec<u8>>, u64, u64)>,
}

type Twin = BTreeMap<Vec<u8>, TwinGroup>;

fn change_twin(twin: &mut Twin, change: &StreamChange<'_>) {
    match *change {
        StreamChange::GroupCreate { group, delivered, read } => {
            twin.entry(group.to_vec()).or_insert(TwinGroup { delivered, read, ..TwinGroup::default() });
        }
        StreamChange::GroupDestroy { group } => drop(twin.remove(group)),
        StreamChange::GroupSetId { group, delivered, read } => {
            twin.entry(group.to_vec()).and_modify(|group| (group.delivered, group.read) = (delivered, read));
        }
        StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms } => {
            let Some(group) = twin.get_mut(group) else { return };
            let times = group.consumers.entry(consumer.to_vec()).or_default();
            *times = (seen_ms, active_ms.or(times.1));
        }
        StreamChange::ConsumerDelete { group, consumer } => {
            let Some(group) = twin.get_mut(group) else { return };
            group.consumers.remove(consumer);
            group.pending.retain(|_, (whose, ..)| whose.as_deref() != Some(consumer));
        }
        StreamChange::Pend { group, consumer, delivered_ms, count, ids } => {
            let Some(group) = twin.get_mut(group) else { return };
            group.consumers.entry(consumer.to_vec()).or_insert((delivered_ms, None));
            let pend = |id| group.pending.insert(id, (Some(consumer.to_vec()), delivered_ms, count));
            ids.iter().map(pend).for_each(drop);
        }
        StreamChange::Ack { group, ids } => {
            let Some(group) = twin.get_mut(group) else { return };
            ids.iter().for_each(|id| drop(group.pending.remove(&id)));
        }
        StreamChange::Release { group, id, count } => {
            let Some(group) = twin.get_mut(group) else { return };
            group.pending.insert(id, (None, 0, count));
        }
        _ => unreachable!("a change of groups"),
    }
}

fn check(groups: &Groups, twin: &Twin) {
    groups.check_invariants();
    let owned = |pending: Pending<'_>| {
        (pending.id, (pending.consumer.map(<[u8]>::to_vec), pending.delivered_ms, pending.count))
    };
    let found: Twin = groups
        .iter()
        .map(|(name, group)| {
            for consumer in group.consumers() {
                assert_eq!(group.pending_of_consumer(consumer, StreamId::MIN).count(), consumer.pending_len());
                assert!(
                    group.pending_of_consumer(consumer, StreamId::MIN).all(|p| p.consumer == Some(consumer.name()))
                );
            }
            let times = |consumer: &Consumer| (consumer.name().to_vec(), (consumer.seen_ms(), consumer.active_ms()));
            let group = TwinGroup {
                delivered: group.delivered(),
                read: group.read(),
                consumers: group.consumers().map(times).collect(),
                pending: group.pending_from(StreamId::MIN).map(owned).collect(),
            };
            (name.to_vec(), group)
        })
        .collect();
    assert!(found == *twin, "groups and twin differ");
}

/// A change of few names and ids, so that they meet.
fn with_random_change(random: &mut fastrand::Rng, spread: u64, then: &mut dyn FnMut(StreamChange<'_>)) {
    let names = [&b"a"[..], b"", b"longer name", b"d"];
    let group = names[random.usize(..names.len())];
    let consumer = [&b"x"[..], b"y", b"", b"z"][random.usize(..4)];
    let id = StreamId::new(random.u64(..2), random.u64(..spread));
    let (seen_ms, active_ms) = (random.u64(..9), random.bool().then_some(7));
    let many: Vec<StreamId> = (0..random.u64(..40)).map(|n| StreamId::new(id.ms, id.seq + n)).collect();
    let mut buffer = Vec::new();
    let (delivered_ms, count, ids) = (random.u64(..5), random.u64(..4), Ids::of(&many, &mut buffer));
    then(match random.u32(..40) {
        0..2 => StreamChange::GroupCreate { group, delivered: id, read: active_ms },
        2 if random.u32(..8) == 0 => StreamChange::GroupDestroy { group },
        2..4 => StreamChange::GroupSetId { group, delivered: id, read: active_ms },
        4..8 => StreamChange::ConsumerSeen { group, consumer, seen_ms, active_ms },
        8 => StreamChange::ConsumerDelete { group, consumer },
        9..22 => StreamChange::Pend { group, consumer, delivered_ms, count, ids },
        22..34 => StreamChange::Ack { group, ids },
        _ => StreamChange::Release { group, id, count },
    });
}

fn replayed(groups: &Groups, bytes_max: usize) -> Groups {
    let (mut copy, mut from) = (Groups::default(), Some(0));
    while let Some(start) = from {
        let mut out = Vec::new();
        from = groups.export(start, bytes_max, &mut out);
        assert!(from.is_none_or(|next| next > start), "every piece has something");
        super::super::verified(&out).for_each(|change| copy.apply(&change));
    }
    copy
}

#[test]
fn groups_do_what_maps_do() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let spread = [5, 60, 2000][random.usize(..3)];
        let (mut groups, mut twin) = (Groups::default(), Twin::new());
        let mut kept = None;
        for step in 0..400 {
            with_random_change(&mut random, spread, &mut |change| {
                groups.apply(&change);
                change_twin(&mut twin, &change);
            });
            if step % 20 == 0 {
                check(&groups, &twin);
                let copy = replayed(&groups, [0, 50, 1 << 20][random.usize(..3)]);
                check(&copy, &twin);
                assert_eq!(copy.digest(), groups.digest());
            }
            if step == 200 {
                kept = Some((groups.clone(), twin.clone()));
            }
        }
        let (mut kept, kept_twin) = kept.expect("kept");
        check(&kept, &kept_twin);
        while kept.free(2) {}
        check(&groups, &twin);
        while groups.free(3) {}
    }
}

#[test]
fn any_difference_shows_in_the_digest() {
    let mut random = fastrand::Rng::with_seed(5);
    let (mut groups, mut twin) = (Groups::default(), Twin::new());
    for _ in 0..3000 {
        let (digest, before) = (groups.digest(), twin.clone());
        with_random_change(&mut random, 20, &mut |change| {
            groups.apply(&change);
            change_twin(&mut twin, &change);
        });
        assert_eq!(groups.digest() == digest, twin == before);
    }
}

#[test]
fn what_bytes_make_of_groups_is_in_order() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stream = Stream::default();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        with_random_change(&mut random, 30, &mut |change| change.encode(&mut bytes));
        for _ in 0..random.usize(..3) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        if Stream::verify(&bytes).is_ok() {
            stream.change(&bytes, &Thresholds::default());
            accepted += 1;
        }
    }
    assert!(accepted > 1000);
    stream.check_invariants();
    let digest = stream.view().digest();
    let mut changes = Vec::new();
    assert_eq!(stream.view().export(0, usize::MAX, &mut changes), None);
    let copy = Stream::change_small(&mut Vec::new(), &changes, &Thresholds::default()).expect("always large");
    assert_eq!(copy.view().digest(), digest);
}

#[test]
fn a_pending_entry_takes_few_bytes() {
    let mut groups = Groups::default();
    groups.apply(&StreamChange::GroupCreate { group: b"g", delivered: StreamId::MIN, read: None });
    let mut buffer = Vec::new();
    for seq in 0..100_000 {
        let ids = Ids::of(&[StreamId::new(1, seq)], &mut buffer);
        let consumer = [b"a", b"b"][seq as usize % 2];
        groups.apply(&StreamChange::Pend { group: b"g", consumer, delivered_ms: 1, count: 1, ids });
    }
    assert!(groups.bytes_used() < 100_000 * 60, "{}", groups.bytes_used());
}

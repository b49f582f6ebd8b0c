//! Bugs put in on purpose, to show that `scripts/crash-loop` and `scripts/power-cut` find such. The rule: without the
//! feature `planted-bugs` nothing of this is compiled; with it, one bug is chosen by `SHARDIS_PLANTED`, none if unset.

use shards::keyspace::Keyspace;
use shards::units::ShardId;
use std::sync::OnceLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// The reply to a write goes before its log has taken it: some milliseconds before, so that a kill finds writes missing
    /// on a fast machine too.
    AckBeforeWrite,
    /// No sync is ever made, and direct writes are complete when the disk has them in its cache.
    SkipSync,
    /// A record's checksum is not looked at.
    AcceptBadCrc,
    /// One shard's part of a transaction over several shards does not get into the log.
    LoseHalfAGroup,
}

pub fn is(planted: Planted) -> bool {
    static CHOSEN: OnceLock<Option<Planted>> = OnceLock::new();
    *CHOSEN.get_or_init(chosen) == Some(planted)
}

fn chosen() -> Option<Planted> {
    let planted = match std::env::var("SHARDIS_PLANTED").ok()?.as_str() {
        "" => return None,
        "ack-before-write" => Planted::AckBeforeWrite,
        "skip-sync" => Planted::SkipSync,
        "accept-bad-crc" => Planted::AcceptBadCrc,
        "lose-half-a-group" => Planted::LoseHalfAGroup,
        other => panic!("SHARDIS_PLANTED={other}: no such bug"),
    };
    Some(planted)
}

/// Whether edits that have waited so long are kept from the log for longer, by the bug that acknowledges them already.
pub fn holds_back(waited_ns: u64) -> bool {
    const HELD_NS: u64 = 20_000_000;
    is(Planted::AckBeforeWrite) && waited_ns < HELD_NS
}

/// At the start: hands on what the shards cannot look up themselves.
pub fn arm() {
    if is(Planted::AcceptBadCrc) {
        shards::planted::accept_bad_crc();
    }
}

/// The last participant forgets what it did for one group in four, which is in its log as a group without edits.
pub fn lose_half_a_group(keyspace: &mut Keyspace, shard: ShardId, group: (u64, &[ShardId]), edits_before: usize) {
    let (number, participants) = group;
    if is(Planted::LoseHalfAGroup) && participants.last() == Some(&shard) && number % 4 == 0 {
        shards::planted::forget_edits(keyspace, edits_before);
    }
}

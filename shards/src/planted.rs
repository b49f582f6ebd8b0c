//! The shard's part of the server's planted bugs (`src/runtime/planted.rs` there). The rule: without the feature
//! `planted-bugs` nothing of this is compiled.

use crate::keyspace::Keyspace;
use std::sync::atomic::{AtomicBool, Ordering};

static ACCEPT_BAD_CRC: AtomicBool = AtomicBool::new(false);

/// From now on a record's checksum is not looked at.
pub fn accept_bad_crc() {
    ACCEPT_BAD_CRC.store(true, Ordering::Relaxed);
}

pub(crate) fn accepts_bad_crc() -> bool {
    ACCEPT_BAD_CRC.load(Ordering::Relaxed)
}

/// The keyspace keeps what the edits behind the first `kept` bytes did, but the log will not hear of them.
pub fn forget_edits(keyspace: &mut Keyspace, kept: usize) {
    keyspace.forget_edits(kept);
}

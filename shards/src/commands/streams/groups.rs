//! Commands of consumer groups: to come.

use crate::reply::Reply;
use crate::row::Row;
use crate::types::stream::StreamRef;

pub const ROWS: &[Row] = &[];

/// The groups of XINFO STREAM FULL, with at most `count` pending entries of each.
pub(super) fn reply_full(reply: &mut Reply<'_>, _stream: StreamRef<'_>, _count: usize) {
    reply.array(0);
}

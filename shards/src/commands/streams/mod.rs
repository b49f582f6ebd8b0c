//! Streams: entries added at the end, read by their ids, trimmed from the start. Consumer groups are in `groups`.

mod add;
mod arguments;
pub mod groups;
mod info;
mod read;
mod settings;
#[cfg(test)]
mod tests;

use crate::error::CommandError;
use crate::keyspace::Keyspace;
use crate::reply::Reply;
use crate::row::{KeyUse, Keys, Row, Traits};
use crate::types::stream::{Entry, StreamId, StreamRef};
use crate::units::{Db, Now};

const READ: Traits = Traits::READ;
const READ_FAST: Traits = READ.and(Traits::FAST);
const WRITE: Traits = Traits::WRITE;
const WRITE_FAST: Traits = WRITE.and(Traits::FAST);
const GROWS_FAST: Traits = WRITE_FAST.and(Traits::DENY_OOM);
const READ_WAITS: Traits = READ.and(Traits::BLOCKING).and(Traits::MOVABLE_KEYS);

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("xadd", -5, GROWS_FAST, add::xadd).key(KeyUse::ReadWrite)
        .docs("stream", "5.0.0", "O(1), and O(N) for N entries trimmed", "Appends an entry to a stream, which is made when it doesn't exist."),
    <Row>::new("xcfgset", -2, WRITE_FAST, settings::xcfgset).key(KeyUse::ReadWrite)
        .docs("stream", "8.6.0", "O(1)", "Sets for how long, and how many, ids of its producers a stream remembers."),
    <Row>::new("xdel", -3, WRITE_FAST, add::xdel).key(KeyUse::Write)
        .docs("stream", "5.0.0", "O(N) for N ids", "Deletes entries by their ids."),
    <Row>::new("xinfo", -2, Traits::NONE, info::unknown_subcommand)
        .route(crate::row::Route::Any)
        .docs("stream", "5.0.0", "see the subcommands", "Tells about streams and their groups.")
        .subcommands(info::SUBCOMMANDS),
    <Row>::new("xlen", 2, READ_FAST, read::xlen).key(KeyUse::Read)
        .docs("stream", "5.0.0", "O(1)", "Counts the entries of a stream."),
    <Row>::new("xrange", -4, READ, read::xrange).key(KeyUse::Read)
        .docs("stream", "5.0.0", "O(log S + N) for N entries replied", "Replies the entries between two ids, in their order."),
    <Row>::new("xread", -4, READ_WAITS, read::xread)
        .keys(Keys::Find { find: arguments::find_keys, usage: KeyUse::Read })
        .docs("stream", "5.0.0", "O(N) for N entries replied", "Replies what came behind an id in each of several streams; waits for it if it may."),
    <Row>::new("xrevrange", -4, READ, read::xrevrange).key(KeyUse::Read)
        .docs("stream", "5.0.0", "O(log S + N) for N entries replied", "Replies the entries between two ids, the last first."),
    <Row>::new("xsetid", -3, GROWS_FAST, add::xsetid).key(KeyUse::ReadWrite)
        .docs("stream", "5.0.0", "O(1)", "Sets the last id of a stream, and its other figures."),
    <Row>::new("xtrim", -4, WRITE, add::xtrim).key(KeyUse::ReadWrite)
        .docs("stream", "5.0.0", "O(N) for N entries trimmed", "Takes entries off the start of a stream."),
];

/// The stream at a key for a read, or that there is none.
fn read<'k>(keyspace: &'k Keyspace, db: Db, key: &[u8], now: Now) -> Result<Option<StreamRef<'k>>, CommandError> {
    keyspace.get(db, key, now).map(|entry| entry.stream()).transpose()
}

/// The same for a write.
fn read_to_write<'k>(
    keyspace: &'k Keyspace,
    db: Db,
    key: &[u8],
    now: Now,
) -> Result<Option<StreamRef<'k>>, CommandError> {
    keyspace.get_to_write(db, key, now).map(|entry| entry.stream()).transpose()
}

/// An id as a bulk string.
fn reply_id(reply: &mut Reply<'_>, id: StreamId) {
    /// Twice 20 digits and a dash.
    const BYTES_MAX: usize = 41;
    let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (ms, seq) = (ms.format(id.ms).as_bytes(), seq.format(id.seq).as_bytes());
    let mut text = [0; BYTES_MAX];
    text[..ms.len()].copy_from_slice(ms);
    text[ms.len()] = b'-';
    let len = ms.len() + 1 + seq.len();
    text[ms.len() + 1..len].copy_from_slice(seq);
    reply.bulk(&text[..len]);
}

/// An entry: its id, and names and values of its fields in one array.
fn reply_entry(reply: &mut Reply<'_>, entry: Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.fields.len());
    for (name, value) in entry.fields {
        reply.bulk(name);
        reply.bulk(value);
    }
}

/// At most `count` entries as an array; how many.
fn reply_entries<'e>(call: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'e>>, count: usize) -> usize {
    let mut found = super::elements::Found::default();
    let mut reply = Reply::new(&mut found.bytes, call.protocol());
    for entry in entries.take(count) {
        reply_entry(&mut reply, entry);
        found.count += 1;
    }
    call.array(found.count);
    call.raw(&found.bytes);
    found.count
}

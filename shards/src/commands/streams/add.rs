//! Entries come and go: XADD, XDEL, XTRIM, XSETID.

use super::arguments::{References, TrimOptions, WantedId, strict_id, wanted_id};
use super::settings::Producer;
use super::{read_to_write, reply_id};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, NO_SUCH_KEY, SYNTAX};
use crate::numbers::integer;
use crate::types::stream::{Ids, Keep, Precision, StreamChange, StreamId, StreamRef};
use crate::types::{Kind, View};

/// The most bytes of names and values that an entry has, as in Redis.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// What stands before the fields of XADD.
#[derive(Default)]
struct AddOptions<'a> {
    no_stream_made: bool,
    references: References,
    producer: Option<Producer<'a>>,
    trim: TrimOptions,
}

impl<'a> AddOptions<'a> {
    /// Where the id is, too.
    fn parse(args: &Args<'a>) -> Result<(AddOptions<'a>, WantedId, usize), CommandError> {
        let mut options = AddOptions::default();
        let mut at = 2;
        while at < args.len() {
            if args.at(at) == b"*" {
                return Ok((options, WantedId::Any, at));
            }
            let mut used = options.trim.parse(args, at)?;
            if used == 0 {
                used = Producer::parse(args, at, &mut options.producer)?;
            }
            if used > 0 {
                at += used;
            } else if args.is(at, "nomkstream") {
                options.no_stream_made = true;
                at += 1;
            } else if let Some(references) = References::parse(args, at) {
                options.references = references;
                at += 1;
            } else {
                return Ok((options, wanted_id(args.at(at), 0)?, at));
            }
        }
        // Options up to the end: there is neither an id nor a field.
        Ok((options, WantedId::Any, at))
    }
}

/// What XADD was asked for, as far as that can be told without the stream.
struct Add<'a> {
    options: AddOptions<'a>,
    trim: Option<(Keep, Precision)>,
    wanted: WantedId,
    fields: Args<'a>,
}

impl<'a> Add<'a> {
    fn parse(call: &Call<'a>) -> Result<Add<'a>, CommandError> {
        const LEAST: CommandError = CommandError::new("ERR The ID specified in XADD must be greater than 0-0");
        const OWN_ID: CommandError = CommandError::new("ERR IDMP/IDMPAUTO can be used only with auto-generated IDs");
        let (options, wanted, id_at) = AddOptions::parse(&call.args)?;
        let trim = options.trim.finish_optional(call.keyspace.thresholds().stream_node_entries)?;
        let fields = call.args.from(id_at + 1);
        if fields.is_empty() || !fields.len().is_multiple_of(2) {
            return Err(CommandError::wrong_arity(call.name));
        }
        if wanted == WantedId::Whole(StreamId::MIN) {
            return Err(LEAST);
        }
        if options.producer.is_some() && wanted != WantedId::Any {
            return Err(OWN_ID);
        }
        Ok(Add { options, trim, wanted, fields })
    }
}

/// `XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMPAUTO producer | IDMP producer iid]
/// [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value ...]`
pub(super) fn xadd(call: &mut Call<'_>) -> CommandResult {
    const EXHAUSTED: CommandError =
        CommandError::new("ERR The stream has exhausted the last possible ID, unable to add more items");
    const TOO_LARGE: CommandError = CommandError::new("ERR Elements are too large to be stored");
    let Add { options, trim, wanted, fields } = Add::parse(call)?;
    let (key, now_ms) = (call.args.at(1), call.now.wall_ms);
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    if stream.is_none() && options.no_stream_made {
        call.reply.null();
        return Ok(());
    }
    let sent = options.producer.map(|producer| (producer.name, producer.iid(&fields)));
    if let (Some(stream), Some((producer, iid))) = (stream, &sent)
        && let Some((id, changes)) = sent_before(stream, producer, iid, now_ms)
    {
        call.write_collection(key, Kind::Stream, &changes);
        reply_id(&mut call.reply, id);
        return Ok(());
    }
    let last = stream.map_or(StreamId::MIN, StreamRef::last_id);
    if last == StreamId::MAX {
        return Err(EXHAUSTED);
    }
    let id = choose_id(wanted, last, now_ms)?;
    let bytes = fields.iter().map(<[u8]>::len).sum::<usize>();
    if bytes > ENTRY_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    let mut changes = Vec::with_capacity(bytes + 5 * fields.len() + 24);
    StreamChange::encode_append(id, Pairs { fields }, &mut changes);
    if let Some((producer, iid)) = &sent {
        StreamChange::Produced { producer, iid, id, at_ms: now_ms }.encode(&mut changes);
    }
    call.write_collection(key, Kind::Stream, &changes);
    if let Some((keep, precision)) = trim {
        trim_stream(call, key, keep, precision, options.references);
    }
    reply_id(&mut call.reply, id);
    Ok(())
}

/// The entry that what a producer sends has become before, and the changes that count this.
fn sent_before(stream: StreamRef<'_>, producer: &[u8], iid: &[u8], now_ms: u64) -> Option<(StreamId, Vec<u8>)> {
    let idempotence = stream.idempotence()?;
    let id = idempotence.get(producer, iid, now_ms)?;
    let (added, duplicates) = (idempotence.added(), idempotence.duplicates().saturating_add(1));
    let mut changes = Vec::new();
    StreamChange::ProducedCounts { added, duplicates }.encode(&mut changes);
    Some((id, changes))
}

/// Fields and values of XADD, as they stand.
struct Pairs<'a> {
    fields: Args<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let pair = (self.fields.get(0)?, self.fields.get(1)?);
        self.fields = self.fields.from(2);
        Some(pair)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.fields.len() / 2, Some(self.fields.len() / 2))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

/// The id of a new entry, which is above the last one.
fn choose_id(wanted: WantedId, last: StreamId, now_ms: u64) -> Result<StreamId, CommandError> {
    const NOT_ABOVE: CommandError =
        CommandError::new("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    let id = match wanted {
        WantedId::Whole(id) => Some(id),
        WantedId::Any if now_ms > last.ms => Some(StreamId::new(now_ms, 0)),
        // The clock may have been set back, or the id may have come from another one.
        WantedId::Any => last.next(),
        WantedId::AnySeq(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| StreamId { ms, seq }),
        WantedId::AnySeq(ms) => Some(StreamId { ms, seq: 0 }),
    };
    id.filter(|id| *id > last).ok_or(NOT_ABOVE)
}

/// Trims the stream at a key, if there is one; how many entries.
fn trim_stream(call: &mut Call<'_>, key: &[u8], keep: Keep, precision: Precision, references: References) -> u64 {
    let Some(stream) = call.keyspace.peek(call.db, key, call.now).and_then(|entry| entry.stream().ok()) else {
        return 0;
    };
    let mut changes = Vec::new();
    let count = match references {
        References::Keep => match stream.trimming(keep, precision) {
            Some(trimming) => {
                StreamChange::TrimTo { last: trimming.last }.encode(&mut changes);
                trimming.count
            }
            None => 0,
        },
        References::Delete => match stream.trimming(keep, precision) {
            Some(trimming) => {
                let gone: Vec<StreamId> = stream.range(StreamId::MIN, trimming.last).map(|entry| entry.id).collect();
                drop_references(stream, &gone, &mut changes);
                StreamChange::TrimTo { last: trimming.last }.encode(&mut changes);
                trimming.count
            }
            None => 0,
        },
        References::Acknowledged => trim_acknowledged(stream, keep, precision, &mut changes),
    };
    if !changes.is_empty() {
        call.write_collection(key, Kind::Stream, &changes);
    }
    count
}

/// Takes ids out of the pending entries of all groups.
fn drop_references(stream: StreamRef<'_>, gone: &[StreamId], changes: &mut Vec<u8>) {
    let mut buffer = Vec::new();
    for (name, group) in stream.groups().into_iter().flat_map(|groups| groups.iter()) {
        let pending: Vec<StreamId> = gone.iter().copied().filter(|id| group.is_pending(*id)).collect();
        if !pending.is_empty() {
            StreamChange::Ack { group: name, ids: Ids::of(&pending, &mut buffer) }.encode(changes);
        }
    }
}

/// Trims entries that all groups have acknowledged, one by one.
fn trim_acknowledged(stream: StreamRef<'_>, keep: Keep, precision: Precision, changes: &mut Vec<u8>) -> u64 {
    let (last, count_max) = match (precision, keep) {
        (Precision::Nodes { .. }, _) => match stream.trimming(keep, precision) {
            Some(trimming) => (Some(trimming.last), trimming.count),
            None => (None, 0),
        },
        (Precision::Exact, Keep::Newest(newest)) => (Some(StreamId::MAX), (stream.len() as u64).saturating_sub(newest)),
        (Precision::Exact, Keep::From(first)) => (first.previous(), u64::MAX),
    };
    let Some(last) = last else { return 0 };
    let is_free = |id: StreamId| {
        stream.groups().into_iter().flat_map(|groups| groups.iter()).all(|(_, group)| group.has_acknowledged(id))
    };
    let free = stream.range(StreamId::MIN, last).map(|entry| entry.id).filter(|id| is_free(*id));
    let mut count = 0;
    for id in free.take(usize::try_from(count_max).unwrap_or(usize::MAX)) {
        StreamChange::Trim { id }.encode(changes);
        count += 1;
    }
    count
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count] [KEEPREF|DELREF|ACKED]`
pub(super) fn xtrim(call: &mut Call<'_>) -> CommandResult {
    let (mut trim, mut references, mut at) = (TrimOptions::default(), References::default(), 2);
    while at < call.args.len() {
        let used = trim.parse(&call.args, at)?;
        if used == 0 {
            references = References::parse(&call.args, at).ok_or(SYNTAX)?;
        }
        at += used.max(1);
    }
    let (keep, precision) = trim.finish(call.keyspace.thresholds().stream_node_entries)?;
    let key = call.args.at(1);
    read_to_write(call.keyspace, call.db, key, call.now)?;
    let count = trim_stream(call, key, keep, precision, references);
    call.reply.integer(count as i64);
    Ok(())
}

/// `XDEL key id [id ...]`
pub(super) fn xdel(call: &mut Call<'_>) -> CommandResult {
    let key = call.args.at(1);
    let Some(stream) = read_to_write(call.keyspace, call.db, key, call.now)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let mut ids = call.args.from(2).iter().map(|arg| strict_id(arg, 0)).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| stream.contains(*id));
    let mut changes = Vec::new();
    ids.iter().for_each(|id| StreamChange::Delete { id: *id }.encode(&mut changes));
    if !ids.is_empty() {
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.integer(ids.len() as i64);
    Ok(())
}

/// `XSETID key last-id [ENTRIESADDED n] [MAXDELETEDID id]`
pub(super) fn xsetid(call: &mut Call<'_>) -> CommandResult {
    const NEGATIVE: CommandError = CommandError::new("ERR entries_added must be positive");
    const BELOW_GIVEN: CommandError =
        CommandError::new("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
    const BELOW_TOP: CommandError =
        CommandError::new("ERR The ID specified in XSETID is smaller than the target stream top item");
    const BELOW_LENGTH: CommandError =
        CommandError::new("ERR The entries_added specified in XSETID is smaller than the target stream length");
    let last = strict_id(call.args.at(2), 0)?;
    let (mut added, mut max_deleted, mut at) = (None, StreamId::MIN, 3);
    while at < call.args.len() {
        match call.args.get(at + 1) {
            Some(value) if call.args.is(at, "entriesadded") => {
                added = Some(u64::try_from(integer(value)?).map_err(|_| NEGATIVE)?);
            }
            Some(value) if call.args.is(at, "maxdeletedid") => {
                max_deleted = strict_id(value, 0)?;
                if last < max_deleted {
                    return Err(BELOW_GIVEN);
                }
            }
            _ => return Err(SYNTAX),
        }
        at += 2;
    }
    let key = call.args.at(1);
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?.ok_or(NO_SUCH_KEY)?;
    if let Some(top) = stream.last() {
        if last < top.id {
            return Err(BELOW_TOP);
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(BELOW_LENGTH);
        }
    }
    let before = (stream.last_id(), stream.entries_added(), stream.max_deleted());
    let max_deleted = if max_deleted == StreamId::MIN { before.2 } else { max_deleted };
    let after = (last, added.unwrap_or(before.1), max_deleted);
    if before != after {
        let mut changes = Vec::new();
        StreamChange::SetId { last, added: after.1, max_deleted }.encode(&mut changes);
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.ok();
    Ok(())
}

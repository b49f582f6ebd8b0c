//! Entries go, or go back, with regard to groups: XDELEX, XACKDEL, XNACK.

use super::super::arguments::{References, strict_id};
use super::super::read_to_write;
use super::{group_of, no_key_or_group};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::{integer, parse_integer};
use crate::types::Kind;
use crate::types::stream::{Group, Groups, Ids, StreamChange, StreamId, StreamRef};
use std::collections::BTreeSet;

/// `IDS n id [id ...]` at argument `at`, and how many arguments that is.
fn parse_ids(args: &Args<'_>, at: usize) -> Result<(Vec<StreamId>, usize), CommandError> {
    const NOT_POSITIVE: CommandError = CommandError::new("ERR Number of IDs must be a positive integer");
    const TOO_FEW: CommandError = CommandError::new("ERR The `numids` parameter must match the number of arguments");
    let count = args.get(at + 1).ok_or(SYNTAX)?;
    let count = parse_integer(count).and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or(NOT_POSITIVE)?;
    if count > args.len() - at - 2 {
        return Err(TOO_FEW);
    }
    let ids = args.from(at + 2).iter().take(count).map(|arg| strict_id(arg, 0)).collect::<Result<_, _>>()?;
    Ok((ids, count + 2))
}

/// `[KEEPREF|DELREF|ACKED] IDS n id [id ...]`, in either order.
fn parse_deletion(args: &Args<'_>, mut at: usize) -> Result<(References, Vec<StreamId>), CommandError> {
    let (mut references, mut ids) = (None, None);
    while at < args.len() {
        if args.is(at, "ids") && ids.is_none() {
            let (found, used) = parse_ids(args, at)?;
            ids = Some(found);
            at += used;
        } else if references.is_none() {
            references = Some(References::parse(args, at).ok_or(SYNTAX)?);
            at += 1;
        } else {
            return Err(SYNTAX);
        }
    }
    Ok((references.unwrap_or_default(), ids.ok_or(SYNTAX)?))
}

const NOT_THERE: i64 = -1;
const DELETED: i64 = 1;
const STILL_REFERENCED: i64 = 2;

/// Deletions being gathered.
struct Deletion<'s> {
    stream: StreamRef<'s>,
    references: References,
    /// Those of this command that come twice are there only once.
    deleted: BTreeSet<StreamId>,
    changes: Vec<u8>,
}

impl<'s> Deletion<'s> {
    fn new(stream: StreamRef<'s>, references: References) -> Self {
        Deletion { stream, references, deleted: BTreeSet::new(), changes: Vec::new() }
    }
    fn groups(&self) -> impl Iterator<Item = (&'s [u8], &'s Group)> + use<'s> {
        self.stream.groups().into_iter().flat_map(Groups::iter)
    }
    fn has(&self, id: StreamId) -> bool {
        !self.deleted.contains(&id) && self.stream.contains(id)
    }
    fn acknowledge(&mut self, group: &[u8], id: StreamId) {
        let mut buffer = Vec::new();
        StreamChange::Ack { group, ids: Ids::of(&[id], &mut buffer) }.encode(&mut self.changes);
    }
    fn drop_references(&mut self, id: StreamId) {
        self.groups().filter(|(_, group)| group.is_pending(id)).for_each(|(name, _)| self.acknowledge(name, id));
    }
    /// Deletes an entry if it is there and `is_needed` doesn't say that some group needs it; the code for it.
    fn delete(&mut self, id: StreamId, is_needed: impl FnOnce(&Self) -> bool) -> i64 {
        if self.references == References::Delete {
            self.drop_references(id);
        }
        if !self.has(id) {
            return NOT_THERE;
        }
        if self.references == References::Acknowledged && is_needed(self) {
            return STILL_REFERENCED;
        }
        StreamChange::Delete { id }.encode(&mut self.changes);
        self.deleted.insert(id);
        DELETED
    }
}

fn reply_codes(call: &mut Call<'_>, key: &[u8], changes: &[u8], codes: &[i64]) {
    if !changes.is_empty() {
        call.write_collection(key, Kind::Stream, changes);
    }
    call.reply.array(codes.len());
    codes.iter().for_each(|code| call.reply.integer(*code));
}

/// `XDELEX key [KEEPREF|DELREF|ACKED] IDS n id [id ...]`
pub(super) fn xdelex(call: &mut Call<'_>) -> CommandResult {
    let (references, ids) = parse_deletion(&call.args, 2)?;
    let key = call.args.at(1);
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    let mut deletion = Deletion::new(stream.unwrap_or_default(), references);
    // Where there are no groups, nobody has acknowledged anything.
    let is_needed = |stream: StreamRef<'_>, id| stream.groups().is_none_or(|groups| groups.need(id));
    let codes: Vec<i64> =
        ids.iter().map(|id| deletion.delete(*id, |deletion| is_needed(deletion.stream, *id))).collect();
    reply_codes(call, key, &deletion.changes, &codes);
    Ok(())
}

/// `XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id [id ...]`
pub(super) fn xackdel(call: &mut Call<'_>) -> CommandResult {
    let (references, ids) = parse_deletion(&call.args, 3)?;
    let (key, name) = (call.args.at(1), call.args.at(2));
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    let Some((stream, group)) = group_of(stream, name) else {
        reply_codes(call, key, &[], &vec![NOT_THERE; ids.len()]);
        return Ok(());
    };
    let mut deletion = Deletion::new(stream, references);
    let mut codes = Vec::with_capacity(ids.len());
    let mut acknowledged = BTreeSet::new();
    for id in ids {
        if !group.is_pending(id) || !acknowledged.insert(id) {
            // Not this group's to delete; but what is left of entries that are gone may go.
            if references == References::Delete && !stream.contains(id) {
                deletion.drop_references(id);
            }
            codes.push(NOT_THERE);
            continue;
        }
        deletion.acknowledge(name, id);
        let others_need = |deletion: &Deletion<'_>| {
            id > group.delivered()
                || deletion.groups().any(|(other, group)| other != name && !group.has_acknowledged(id))
        };
        codes.push(deletion.delete(id, others_need));
    }
    reply_codes(call, key, &deletion.changes, &codes);
    Ok(())
}

/// What becomes of an entry's count of deliveries.
#[derive(Clone, Copy)]
enum Failure {
    /// It is as if it had not been delivered.
    Silent,
    Fail,
    /// It is not to be tried again: the highest count.
    Fatal,
}

impl Failure {
    const COUNT_MAX: u64 = i64::MAX as u64;

    fn parse(args: &Args<'_>, at: usize) -> Result<Failure, CommandError> {
        match () {
            _ if args.is(at, "silent") => Ok(Failure::Silent),
            _ if args.is(at, "fail") => Ok(Failure::Fail),
            _ if args.is(at, "fatal") => Ok(Failure::Fatal),
            _ => Err(SYNTAX),
        }
    }
    fn count(self, count: u64) -> u64 {
        match self {
            Failure::Silent => count.saturating_sub(1),
            Failure::Fail => count,
            Failure::Fatal => Failure::COUNT_MAX,
        }
    }
}

/// `XNACK key group SILENT|FAIL|FATAL IDS n id [id ...] [RETRYCOUNT n] [FORCE]`
pub(super) fn xnack(call: &mut Call<'_>) -> CommandResult {
    const NEGATIVE: CommandError = CommandError::new("ERR RETRYCOUNT must be a non-negative integer");
    let failure = Failure::parse(&call.args, 3)?;
    if !call.args.is(4, "ids") {
        return Err(SYNTAX);
    }
    let (ids, used) = parse_ids(&call.args, 4)?;
    let (mut count, mut is_forced, mut at) = (None, false, 4 + used);
    while at < call.args.len() {
        match call.args.get(at + 1) {
            Some(value) if call.args.is(at, "retrycount") => {
                count = Some(u64::try_from(integer(value)?).map_err(|_| NEGATIVE)?);
                at += 2;
            }
            _ if call.args.is(at, "force") => {
                is_forced = true;
                at += 1;
            }
            _ => return Err(SYNTAX),
        }
    }
    let (key, name) = (call.args.at(1), call.args.at(2));
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?;
    let (stream, group) = group_of(stream, name).ok_or_else(|| no_key_or_group(key, name))?;
    let mut released = BTreeSet::new();
    let mut changes = Vec::new();
    for id in ids {
        let was = match group.pending(id) {
            Some(pending) => pending.count,
            None if is_forced && stream.contains(id) => 0,
            None => continue,
        };
        if released.insert(id) {
            let count = count.unwrap_or_else(|| failure.count(was));
            StreamChange::Release { group: name, id, count }.encode(&mut changes);
        }
    }
    if !changes.is_empty() {
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.integer(released.len() as i64);
    Ok(())
}

//! What a stream remembers of its producers: XCFGSET, and XADD's IDMP and IDMPAUTO.

use super::read_to_write;
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, NO_SUCH_KEY, SYNTAX};
use crate::numbers::integer;
use crate::types::Kind;
use crate::types::stream::StreamChange;
use std::borrow::Cow;
use twox_hash::XxHash3_64;

/// Who sends an entry, and which of theirs it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Producer<'a> {
    pub name: &'a [u8],
    /// None: made of the entry's fields.
    iid: Option<&'a [u8]>,
}

impl<'a> Producer<'a> {
    /// Takes the option at `at` if it is one of these; how many arguments it has.
    pub(super) fn parse(
        args: &Args<'a>,
        at: usize,
        producer: &mut Option<Producer<'a>>,
    ) -> Result<usize, CommandError> {
        const AGAIN: CommandError = CommandError::new("ERR IDMP/IDMPAUTO specified multiple times");
        const NO_NAME: CommandError = CommandError::new("ERR IDMP requires a non-empty producer ID");
        const NO_NAME_AUTO: CommandError = CommandError::new("ERR IDMPAUTO requires a non-empty producer ID");
        const NO_ID: CommandError = CommandError::new("ERR IDMP requires a non-empty idempotent ID");
        let (found, used) = match (args.get(at + 1), args.get(at + 2)) {
            (Some(name), Some(iid)) if args.is(at, "idmp") => (Producer { name, iid: Some(iid) }, 3),
            (Some(name), _) if args.is(at, "idmpauto") => (Producer { name, iid: None }, 2),
            _ => return Ok(0),
        };
        if producer.is_some() {
            return Err(AGAIN);
        }
        if found.name.is_empty() {
            return Err(if found.iid.is_some() { NO_NAME } else { NO_NAME_AUTO });
        }
        if found.iid.is_some_and(<[u8]>::is_empty) {
            return Err(NO_ID);
        }
        *producer = Some(found);
        Ok(used)
    }
    /// Its id of an entry: if it has none, one of the fields and values, whatever order they are in.
    pub(super) fn iid(&self, fields: &Args<'_>) -> Cow<'a, [u8]> {
        const SEEDS: [u64; 2] = [0, 0x9e37_79b9_7f4a_7c15];
        if let Some(iid) = self.iid {
            return Cow::Borrowed(iid);
        }
        let (mut sums, mut pair) = ([0u64; 2], Vec::new());
        for at in (0..fields.len()).step_by(2) {
            pair.clear();
            crate::wire::string(&mut pair, fields.at(at));
            pair.extend_from_slice(fields.at(at + 1));
            for (sum, seed) in sums.iter_mut().zip(SEEDS) {
                *sum = sum.wrapping_add(XxHash3_64::oneshot_with_seed(seed, &pair));
            }
        }
        Cow::Owned(sums.iter().flat_map(|sum| sum.to_le_bytes()).collect())
    }
}

/// `XCFGSET key [IDMP-DURATION seconds] [IDMP-MAXSIZE ids]`
pub(super) fn xcfgset(call: &mut Call<'_>) -> CommandResult {
    const DURATION_MAX_S: i64 = 86_400;
    const IDS_MAX: i64 = 10_000;
    const INVALID_DURATION: CommandError = CommandError::new("ERR invalid duration");
    const INVALID_SIZE: CommandError = CommandError::new("ERR invalid maxsize");
    let (mut duration, mut size, mut at) = (None, None, 2);
    while at < call.args.len() {
        let within = |value: i64, max: i64, error: CommandError| match value {
            value if value >= 1 && value <= max => Ok(Some(value as u64)),
            _ => Err(error),
        };
        match call.args.get(at + 1) {
            Some(value) if call.args.is(at, "idmp-duration") => {
                duration = within(integer(value)?, DURATION_MAX_S, INVALID_DURATION)?;
            }
            Some(value) if call.args.is(at, "idmp-maxsize") => {
                size = within(integer(value)?, IDS_MAX, INVALID_SIZE)?;
            }
            _ => return Err(SYNTAX),
        }
        at += 2;
    }
    if duration.is_none() && size.is_none() {
        return Err(SYNTAX);
    }
    let key = call.args.at(1);
    let stream = read_to_write(call.keyspace, call.db, key, call.now)?.ok_or(NO_SUCH_KEY)?;
    let before = stream.producer_settings();
    let (duration_s, ids_max) = (duration.unwrap_or(before.0), size.unwrap_or(before.1));
    // The same again forgets nothing.
    if (duration_s, ids_max) != before {
        let mut changes = Vec::new();
        StreamChange::Settings { duration_s, ids_max }.encode(&mut changes);
        call.write_collection(key, Kind::Stream, &changes);
    }
    call.reply.ok();
    Ok(())
}

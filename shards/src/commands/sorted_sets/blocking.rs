//! The commands of sorted sets that wait for a member if there is none: each tries as its plain form does, and wishes to wait in vain.

use super::{MultiPop, ends, pop_first, read_to_write, remove_all};
use crate::call::Call;
use crate::error::CommandResult;
use crate::types::Kind;
use crate::waiting::{Awaited, Null, Readers, Wait, timeout_seconds};

pub fn bzpopmin(call: &mut Call<'_>) -> CommandResult {
    pop(call, false)
}

pub fn bzpopmax(call: &mut Call<'_>) -> CommandResult {
    pop(call, true)
}

/// `BZPOPMIN key [key ...] timeout`
fn pop(call: &mut Call<'_>, highest: bool) -> CommandResult {
    let last = call.args.len() - 1;
    let timeout_ms = timeout_seconds(call.args.at(last), call.now)?;
    for at in 1..last {
        let key = call.args.at(at);
        let Some(set) = read_to_write(call.keyspace, call.db, key, call.now)? else { continue };
        let popped = ends(set, 1, highest);
        let (score, member) = &popped[0];
        call.reply.array(3);
        call.reply.bulk(key);
        call.reply.bulk(member);
        call.reply.double(*score);
        remove_all(call, key, std::iter::once(member.as_slice()));
        return Ok(());
    }
    wait(call, timeout_ms);
    Ok(())
}

/// `BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]`
pub fn bzmpop(call: &mut Call<'_>) -> CommandResult {
    let from = MultiPop::parse(&call.args, 2)?;
    let timeout_ms = timeout_seconds(call.args.at(1), call.now)?;
    if !pop_first(call, from)? {
        wait(call, timeout_ms);
    }
    Ok(())
}

fn wait(call: &mut Call<'_>, timeout_ms: u64) {
    let (kind, readers) = (Kind::SortedSet, Readers::Exclusive);
    call.wait(&Wait { timeout_ms, null: Null::Array, kind, readers, keys: Awaited::All, retry: Vec::new() });
}

//! The commands of lists that wait for an element if there is none: each tries as its plain form does, and wishes to wait in vain.

use super::{MultiPop, Side, move_element, pop_first, read_to_write, take};
use crate::call::Call;
use crate::error::CommandResult;
use crate::types::Kind;
use crate::waiting::{Awaited, Null, Readers, Wait, timeout_seconds};

pub fn blpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, Side::Left)
}

pub fn brpop(call: &mut Call<'_>) -> CommandResult {
    pop(call, Side::Right)
}

/// `BLPOP key [key ...] timeout`
fn pop(call: &mut Call<'_>, side: Side) -> CommandResult {
    let last = call.args.len() - 1;
    let timeout_ms = timeout_seconds(call.args.at(last), call.now)?;
    for at in 1..last {
        let key = call.args.at(at);
        let Some(list) = read_to_write(call.keyspace, call.db, key, call.now)? else { continue };
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.bulk(side.peek(list, 1)[0]);
        take(call, key, side, 1);
        return Ok(());
    }
    wait(call, timeout_ms, Null::Array, Awaited::All);
    Ok(())
}

/// `BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]`
pub fn blmpop(call: &mut Call<'_>) -> CommandResult {
    let from = MultiPop::parse(&call.args, 2)?;
    let timeout_ms = timeout_seconds(call.args.at(1), call.now)?;
    if !pop_first(call, from)? {
        wait(call, timeout_ms, Null::Array, Awaited::All);
    }
    Ok(())
}

/// `BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout`
pub fn blmove(call: &mut Call<'_>) -> CommandResult {
    let (from, to) = (Side::parse(call.args.at(3))?, Side::parse(call.args.at(4))?);
    move_or_wait(call, from, to, 5)
}

/// `BRPOPLPUSH source destination timeout`
pub fn brpoplpush(call: &mut Call<'_>) -> CommandResult {
    move_or_wait(call, Side::Right, Side::Left, 3)
}

fn move_or_wait(call: &mut Call<'_>, from: Side, to: Side, timeout_at: usize) -> CommandResult {
    let timeout_ms = timeout_seconds(call.args.at(timeout_at), call.now)?;
    if !move_element(call, from, to)? {
        wait(call, timeout_ms, Null::Bulk, Awaited::First);
    }
    Ok(())
}

fn wait(call: &mut Call<'_>, timeout_ms: u64, null: Null, keys: Awaited) {
    let (kind, readers) = (Kind::List, Readers::Exclusive);
    call.wait(&Wait { timeout_ms, null, kind, readers, keys, retry: Vec::new() });
}

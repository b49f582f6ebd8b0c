//! Parts of a command that was spread over shards, on their way to become one reply.

use shards::reply::{Protocol, Reply};
use shards::row::Gather;
use shards::units::{Offset, ShardId};
use shards::waiting::Wait;

/// What to do with the parts once all are there.
#[derive(Debug)]
pub enum Ending {
    /// A command of the shards.
    Gather(Gather),
    /// XREAD: the arguments, and where its keys begin.
    Streams { args: Vec<Vec<u8>>, keys_at: usize },
    /// RANDOMKEY: every part is `:keys` and a reply; `draw` decides, weighted by keys.
    Draw(u64),
    /// SCAN: the shard's own cursor becomes one that names the shard.
    Scan { shard: ShardId, shards: u16 },
    /// A server command, which merges the parts itself: its number in the catalogue, and the arguments.
    Server { command: u16, args: Vec<Vec<u8>> },
}

/// The parts gathered so far.
#[derive(Debug)]
pub struct Gathering {
    pub ending: Ending,
    pub parts: Vec<Vec<u8>>,
    waiting: usize,
    /// For `InKeyOrder`: which part each key went to.
    pub order: Vec<u16>,
    pub protocol: Protocol,
    /// The local log's offset that the local part waits for.
    pub until: Offset,
    /// CLIENT REPLY OFF or SKIP: gathered, but not sent.
    pub muted: bool,
    /// The session is held until all parts are there.
    pub holds: bool,
}

impl Gathering {
    pub fn new(ending: Ending, parts: usize, protocol: Protocol) -> Self {
        Gathering {
            ending,
            parts: vec![Vec::new(); parts],
            waiting: parts,
            order: Vec::new(),
            protocol,
            until: Offset(0),
            muted: false,
            holds: false,
        }
    }
    /// Takes a part's reply; whether it was the last.
    pub fn fill(&mut self, part: u16, reply: &[u8]) -> bool {
        self.parts[part as usize].extend_from_slice(reply);
        self.waiting -= 1;
        self.waiting == 0
    }
}

/// The first error among the parts, if any: a spread command that failed somewhere has failed.
pub fn first_error<P: AsRef<[u8]>>(parts: &[P]) -> Option<&[u8]> {
    parts.iter().map(AsRef::as_ref).find(|part| part.first() == Some(&b'-'))
}

/// Joins the parts of a shard command into one reply.
pub fn join<P: AsRef<[u8]>>(gather: Gather, parts: &[P], order: &[u16], protocol: Protocol, out: &mut Vec<u8>) {
    if let Some(error) = first_error(parts) {
        out.extend_from_slice(error);
        return;
    }
    let mut reply = Reply::new(out, protocol);
    match gather {
        Gather::Sum => reply.integer(parts.iter().map(|part| integer_reply(part.as_ref())).sum()),
        Gather::Ok => reply.ok(),
        Gather::Concat => {
            let bodies: Vec<(usize, &[u8])> = parts.iter().map(|part| array_reply(part.as_ref())).collect();
            reply.array(bodies.iter().map(|(len, _)| len).sum());
            bodies.iter().for_each(|(_, body)| reply.raw(body));
        }
        Gather::Streams => unreachable!("these are joined by their keys"),
        Gather::InKeyOrder => {
            let mut bodies: Vec<&[u8]> = parts.iter().map(|part| array_reply(part.as_ref()).1).collect();
            reply.array(order.len());
            for &part in order {
                let body = &mut bodies[part as usize];
                let (element, rest) = body.split_at(reply_len(body));
                reply.raw(element);
                *body = rest;
            }
        }
    }
}

/// Joins the replies of parts that read streams: those with entries, in the order of the keys. `order` names each key's part.
pub fn join_streams<P: AsRef<[u8]>>(
    args: &[Vec<u8>],
    keys_at: usize,
    parts: &[P],
    order: &[u16],
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    if let Some(error) = first_error(parts) {
        out.extend_from_slice(error);
        return;
    }
    let is_found = |part: &[u8]| matches!(part.first(), Some(b'*' | b'%')) && part != b"*-1\r\n";
    if !parts.iter().any(|part| is_found(part.as_ref())) {
        return join_waits(args, keys_at, parts, order, out);
    }
    let body =
        |part: &P| if is_found(part.as_ref()) { part.as_ref()[line_len(part.as_ref())..].to_vec() } else { Vec::new() };
    let bodies: Vec<Vec<u8>> = parts.iter().map(body).collect();
    let mut rests: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let (mut streams, mut found) = (0, Vec::new());
    for (key, &part) in args[keys_at..].iter().zip(order) {
        let rest = &mut rests[part as usize];
        // RESP2 has a pair per stream, RESP3 a map.
        let (name_at, len) = match protocol {
            Protocol::Resp2 => (line_len(rest), reply_len(rest)),
            Protocol::Resp3 => (0, reply_len(rest) + reply_len(&rest[reply_len(rest)..])),
        };
        let name =
            rest[name_at.min(rest.len())..].get(..reply_len(&rest[name_at.min(rest.len())..])).unwrap_or_default();
        if rest.is_empty() || name[line_len(name)..name.len() - 2] != key[..] {
            continue;
        }
        found.extend_from_slice(&rest[..len]);
        *rest = &rest[len..];
        streams += 1;
    }
    let mut reply = Reply::new(out, protocol);
    match protocol {
        Protocol::Resp2 => reply.array(streams),
        Protocol::Resp3 => reply.map(streams),
    }
    reply.raw(&found);
}

/// Of parts without entries: null, or one wish to wait in which each part's ids are what they stand for there.
fn join_waits<P: AsRef<[u8]>>(args: &[Vec<u8>], keys_at: usize, parts: &[P], order: &[u16], out: &mut Vec<u8>) {
    let waits: Option<Vec<Wait<'_>>> = parts.iter().map(|part| Wait::in_place_of(part.as_ref())).collect();
    let Some(waits) = waits else {
        out.extend_from_slice(parts[0].as_ref());
        return;
    };
    let mut ids: Vec<_> = (0..waits.len() as u16)
        .map(|part| order.iter().filter(|other| **other == part).count())
        .zip(&waits)
        .map(|(keys, wait)| wait.retry.iter().skip(wait.retry.len().saturating_sub(keys)))
        .collect();
    let ids: Vec<&[u8]> = order.iter().filter_map(|part| ids[*part as usize].next().copied()).collect();
    let retry = match ids.is_empty() {
        true => Vec::new(),
        false => args[..keys_at + order.len()].iter().map(Vec::as_slice).chain(ids).collect(),
    };
    Wait { retry, ..waits[0].clone() }.encode(out);
}

/// RANDOMKEY: each part is `:keys\r\n` and then the shard's own reply.
pub fn draw<P: AsRef<[u8]>>(parts: &[P], draw: u64, protocol: Protocol, out: &mut Vec<u8>) {
    let sized: Vec<(u64, &[u8])> = parts
        .iter()
        .map(AsRef::as_ref)
        .map(|part| {
            let header = reply_len(part);
            (integer_reply(&part[..header]).max(0) as u64, &part[header..])
        })
        // A shard may have drawn nothing, its keys having expired all: another's key will do.
        .filter(|(_, reply)| !matches!(*reply, b"$-1\r\n" | b"_\r\n"))
        .collect();
    let total: u64 = sized.iter().map(|(keys, _)| keys).sum();
    let mut at = if total == 0 { 0 } else { draw % total };
    for (keys, reply) in sized {
        if at < keys {
            out.extend_from_slice(reply);
            return;
        }
        at -= keys;
    }
    Reply::new(out, protocol).null();
}

/// SCAN: replaces the cursor, the first element of the array, by `rewrite` of it.
pub fn rewrite_cursor(part: &[u8], rewrite: impl Fn(u64) -> u64, protocol: Protocol, out: &mut Vec<u8>) {
    let header = line_len(part);
    let cursor_end = header + reply_len(&part[header..]);
    let digits_start = header + line_len(&part[header..]);
    let digits = std::str::from_utf8(&part[digits_start..cursor_end - 2]).unwrap_or_default();
    let cursor = rewrite(digits.parse().expect("our own SCAN replies a number"));
    out.extend_from_slice(&part[..header]);
    Reply::new(out, protocol).bulk(cursor.to_string().as_bytes());
    out.extend_from_slice(&part[cursor_end..]);
}

/// Bits of a client's SCAN cursor that say which shard it is at; the rest is the shard's own cursor.
const CURSOR_SHARD_BITS: u32 = 10;

/// The shard that a client's cursor is at, and that shard's own cursor. What is no number is left to the handler, which
/// knows the error's text.
pub fn split_cursor(cursor: &[u8], shards: u16) -> (ShardId, Vec<u8>) {
    let number = std::str::from_utf8(cursor).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(number) = number else { return (ShardId(0), cursor.to_vec()) };
    let shard = (number & ((1 << CURSOR_SHARD_BITS) - 1)).min(shards as u64 - 1);
    (ShardId(shard as u16), (number >> CURSOR_SHARD_BITS).to_string().into_bytes())
}

/// The cursor a client gets for a shard's local one; shards are walked in order.
pub fn client_cursor(local: u64, shard: ShardId, shards: u16) -> u64 {
    match local {
        // This shard is done: on to the next, or the end.
        0 if shard.0 + 1 == shards => 0,
        0 => shard.0 as u64 + 1,
        local => local << CURSOR_SHARD_BITS | shard.0 as u64,
    }
}

/// The number behind the first byte of a line: an integer reply's value, or a header's count.
pub fn integer_reply(reply: &[u8]) -> i64 {
    let digits = reply.get(1..reply.len().saturating_sub(2)).unwrap_or_default();
    shards::numbers::parse_integer(digits).unwrap_or(0)
}

/// Number of elements and the bytes of an array reply.
pub fn array_reply(reply: &[u8]) -> (usize, &[u8]) {
    debug_assert_eq!(reply.first(), Some(&b'*'));
    let header = line_len(reply);
    (integer_reply(&reply[..header]).max(0) as usize, &reply[header..])
}

fn line_len(reply: &[u8]) -> usize {
    reply.iter().position(|&byte| byte == b'\n').map_or(reply.len(), |at| at + 1)
}

/// Length of the first reply in `bytes`, which our own writer made.
pub fn reply_len(bytes: &[u8]) -> usize {
    let header = line_len(bytes);
    match bytes.first() {
        Some(b'$' | b'=') => match integer_reply(&bytes[..header]) {
            -1 => header,
            len => header + len as usize + 2,
        },
        Some(b'*' | b'~' | b'>') => elements_len(bytes, header, 1),
        Some(b'%') => elements_len(bytes, header, 2),
        _ => header,
    }
}

fn elements_len(bytes: &[u8], header: usize, per_item: i64) -> usize {
    let count = integer_reply(&bytes[..header]).max(0) * per_item;
    (0..count).fold(header, |at, _| at + reply_len(&bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(gather: Gather, parts: &[&str], order: &[u16]) -> String {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        let mut out = Vec::new();
        join(gather, &parts, order, Protocol::Resp2, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sums_add_and_arrays_concatenate() {
        assert_eq!(joined(Gather::Sum, &[":2\r\n", ":40\r\n"], &[]), ":42\r\n");
        assert_eq!(joined(Gather::Concat, &["*1\r\n$1\r\na\r\n", "*0\r\n"], &[]), "*1\r\n$1\r\na\r\n");
    }

    #[test]
    fn elements_return_in_the_order_of_the_keys() {
        let parts = ["*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$2\r\n\r\n\r\n"];
        assert_eq!(joined(Gather::InKeyOrder, &parts, &[0, 1, 0]), "*3\r\n$1\r\na\r\n$2\r\n\r\n\r\n$-1\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        assert_eq!(joined(Gather::Ok, &["+OK\r\n", "-MISCONF x\r\n"], &[]), "-MISCONF x\r\n");
    }

    #[test]
    fn the_draw_is_weighted_by_keys_and_nil_when_there_are_none() {
        let parts = vec![b":0\r\n$-1\r\n".to_vec(), b":2\r\n$1\r\nk\r\n".to_vec()];
        let mut out = Vec::new();
        draw(&parts, 7, Protocol::Resp2, &mut out);
        assert_eq!(out, b"$1\r\nk\r\n");
        out.clear();
        draw(&parts[..1], 7, Protocol::Resp2, &mut out);
        assert_eq!(out, b"$-1\r\n");
        out.clear();
        let expired = b":9\r\n$-1\r\n".to_vec();
        draw(&[expired, parts[1].clone()], 3, Protocol::Resp2, &mut out);
        assert_eq!(out, b"$1\r\nk\r\n", "not the nil of a shard whose keys have all expired");
    }
}

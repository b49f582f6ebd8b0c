//! What a blocking command leaves in place of a reply when it has nothing to give: what it waits for, how long, and how it is
//! tried again. Never sent to a client: the connection's core takes it for what it is, as no reply starts with a 0.

use crate::call::Call;
use crate::error::CommandError;
use crate::numbers::{parse_float, parse_integer};
use crate::reply::{Protocol, Reply};
use crate::types::Kind;
use crate::units::Now;
use crate::wire::{self, Decoder, EditError};

const MARK: u8 = 0;
const NULL_ARRAY: u8 = 1;
const SHARED: u8 = 2;
const FIRST_KEY: u8 = 4;

/// What the client gets where nobody may wait, in MULTI. (When its time is over, it is always an array's.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Null {
    /// In place of a bulk string (BLMOVE).
    Bulk,
    Array,
}

/// Whether one who is served takes from the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readers {
    /// Those who remove: one at a time, in the order in which they came.
    Exclusive,
    /// Those who read: all at once, at every edit of the key, its removal too.
    Shared,
}

/// Which of the keys that the command's row finds it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    All,
    /// The first: where BLMOVE takes from.
    First,
}

/// A command's wish to wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait<'a> {
    /// 0: for ever.
    pub timeout_ms: u64,
    pub null: Null,
    pub kind: Kind,
    pub readers: Readers,
    pub keys: Awaited,
    /// All arguments to try again with, the command's name first, if those that came don't do (XREAD's `$`); else none.
    pub retry: Vec<&'a [u8]>,
}

impl<'a> Wait<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = flag(self.null == Null::Array, NULL_ARRAY)
            | flag(self.readers == Readers::Shared, SHARED)
            | flag(self.keys == Awaited::First, FIRST_KEY);
        out.extend_from_slice(&[MARK, flags, self.kind as u8]);
        wire::number(out, self.timeout_ms);
        wire::number(out, self.retry.len() as u64);
        self.retry.iter().for_each(|arg| wire::string(out, arg));
    }

    /// The wish that stands in place of a reply; `None` if it is a reply.
    pub fn in_place_of(reply: &'a [u8]) -> Option<Self> {
        is_wait(reply).then(|| Wait::decode(reply).expect("a wish to wait comes from a handler, by way of `encode`"))
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, EditError> {
        let mut decoder = Decoder::new(&bytes[1..]);
        let flags = decoder.byte()?;
        let kind = Kind::from_byte(decoder.byte()?)?;
        let timeout_ms = decoder.number()?;
        let count = decoder.number()?;
        let retry = (0..count).map(|_| decoder.string()).collect::<Result<_, _>>()?;
        Ok(Wait {
            timeout_ms,
            null: if flags & NULL_ARRAY != 0 { Null::Array } else { Null::Bulk },
            kind,
            readers: if flags & SHARED != 0 { Readers::Shared } else { Readers::Exclusive },
            keys: if flags & FIRST_KEY != 0 { Awaited::First } else { Awaited::All },
            retry,
        })
    }

    /// The reply of one that may not wait.
    pub fn give_up(&self, reply: &mut Reply<'_>) {
        match self.null {
            Null::Bulk => reply.null(),
            Null::Array => reply.null_array(),
        }
    }
}

/// Whether what a handler wrote is a wish to wait and no reply.
#[inline]
pub fn is_wait(reply: &[u8]) -> bool {
    reply.first() == Some(&MARK)
}

/// Appends a reply where nobody may wait (in MULTI): the command's null takes the place of a wish to.
pub fn append_at_once(reply: &[u8], protocol: Protocol, out: &mut Vec<u8>) {
    match Wait::in_place_of(reply) {
        Some(wait) => wait.give_up(&mut Reply::new(out, protocol)),
        None => out.extend_from_slice(reply),
    }
}

impl Call<'_> {
    /// In place of a reply: the command has nothing to give, has made no edit, and wants to be tried again when it may have.
    pub fn wait(&mut self, wait: &Wait<'_>) {
        let mut bytes = Vec::new();
        wait.encode(&mut bytes);
        self.reply.raw(&bytes);
    }
}

const NEGATIVE: CommandError = CommandError::new("ERR timeout is negative");
const TOO_LONG: CommandError = CommandError::new("ERR timeout is out of range");
const NO_FLOAT: CommandError = CommandError::new("ERR timeout is not a float or out of range");
const NO_INTEGER: CommandError = CommandError::new("ERR timeout is not an integer or out of range");

/// A timeout in seconds, with a fraction (BLPOP), as milliseconds rounded up: what is less than one is not for ever.
pub fn timeout_seconds(arg: &[u8], now: Now) -> Result<u64, CommandError> {
    let ms = (parse_float(arg).ok_or(NO_FLOAT)? * 1000.0).ceil();
    // As a double the largest integer is one more than it is.
    if ms >= i64::MAX as f64 { Err(TOO_LONG) } else { in_time(ms as i64, now) }
}

/// A timeout in milliseconds (XREAD).
pub fn timeout_ms(arg: &[u8], now: Now) -> Result<u64, CommandError> {
    in_time(parse_integer(arg).ok_or(NO_INTEGER)?, now)
}

fn in_time(ms: i64, now: Now) -> Result<u64, CommandError> {
    let ms = u64::try_from(ms).map_err(|_| NEGATIVE)?;
    let end = ms.checked_add(now.wall_ms).filter(|end| *end <= i64::MAX as u64);
    if end.is_some() { Ok(ms) } else { Err(TOO_LONG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_wait_is_read_back_and_is_no_reply() {
        for bits in 0..8 {
            let wait = Wait {
                timeout_ms: 1 << (bits * 8),
                null: if bits & 1 == 0 { Null::Bulk } else { Null::Array },
                kind: Kind::ALL[bits % 5],
                readers: if bits & 2 == 0 { Readers::Exclusive } else { Readers::Shared },
                keys: if bits & 4 == 0 { Awaited::All } else { Awaited::First },
                retry: vec![&b"xread"[..]; bits],
            };
            let mut bytes = Vec::new();
            wait.encode(&mut bytes);
            assert_eq!(Wait::in_place_of(&bytes), Some(wait));
        }
        for reply in [&b"$-1\r\n"[..], b"*0\r\n", b"-ERR\r\n", b"_\r\n", b""] {
            assert_eq!(Wait::in_place_of(reply), None);
        }
    }

    #[test]
    fn who_gives_up_gets_the_null_of_the_command_and_the_protocol() {
        let null = |null, protocol| {
            let (kind, readers, keys) = (Kind::List, Readers::Exclusive, Awaited::All);
            let mut out = Vec::new();
            let wait = Wait { timeout_ms: 0, null, kind, readers, keys, retry: Vec::new() };
            wait.give_up(&mut Reply::new(&mut out, protocol));
            let (mut bytes, mut at_once) = (Vec::new(), b"+OK\r\n".to_vec());
            wait.encode(&mut bytes);
            append_at_once(&bytes, protocol, &mut at_once);
            append_at_once(b":1\r\n", protocol, &mut at_once);
            assert_eq!(at_once, [b"+OK\r\n", &out[..], b":1\r\n"].concat());
            out
        };
        assert_eq!(null(Null::Bulk, Protocol::Resp2), b"$-1\r\n");
        assert_eq!(null(Null::Array, Protocol::Resp2), b"*-1\r\n");
        assert_eq!(null(Null::Bulk, Protocol::Resp3), b"_\r\n");
        assert_eq!(null(Null::Array, Protocol::Resp3), b"_\r\n");
    }

    #[test]
    fn timeouts_are_rounded_up_and_have_limits() {
        let now = Now::at(1_700_000_000_000);
        let seconds = |arg: &str| timeout_seconds(arg.as_bytes(), now);
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("0.0001"), Ok(1));
        assert_eq!(seconds("1.5"), Ok(1500));
        assert_eq!(seconds("-1"), Err(NEGATIVE));
        assert_eq!(seconds("x"), Err(NO_FLOAT));
        assert_eq!(seconds("inf"), Err(TOO_LONG));
        assert_eq!(seconds("9223372036854775"), Err(TOO_LONG));
        assert_eq!(timeout_ms(b"20", now), Ok(20));
        assert_eq!(timeout_ms(b"-1", now), Err(NEGATIVE));
        assert_eq!(timeout_ms(b"1.5", now), Err(NO_INTEGER));
        assert_eq!(timeout_ms(b"9223372036854775807", now), Err(TOO_LONG));
    }
}

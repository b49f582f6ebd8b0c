//! Consumer groups of streams: random commands. What tells of time is left out of the comparison.

use super::{Generator, words};
use crate::support::{Command, Resp};

impl Generator {
    pub(super) fn groups(&mut self) -> Command {
        match self.rng.u32(..50) {
            0..20 => self.group_read(),
            20..28 => self.group_make(),
            28..40 => self.group_claim(),
            _ => self.group_look(),
        }
    }

    /// Of an entry that may have come not long ago.
    pub(super) fn recent_id(&mut self) -> Vec<u8> {
        match self.rng.u32(..30) {
            0 => self.pick(["-", "+", "x", "", "0", "0-0", "18446744073709551615-18446744073709551615"]).into(),
            1..5 => (self.stream_ms - self.rng.u64(..30).min(self.stream_ms)).to_string().into_bytes(),
            _ => format!("{}-{}", self.stream_ms - self.rng.u64(..30).min(self.stream_ms), self.rng.u32(..2))
                .into_bytes(),
        }
    }
    fn stream_ids(&mut self, args: &mut Command) {
        for _ in 0..self.rng.usize(1..5) {
            args.push(self.recent_id());
        }
    }
    pub(super) fn stream_count(&mut self, args: &mut Command) {
        if self.rng.bool() {
            args.extend(words(["COUNT"], [self.small()]));
        }
    }

    pub(super) fn group(&mut self) -> Vec<u8> {
        self.pick(["g", "g", "g", "h", "h", "none"]).into()
    }
    pub(super) fn consumer(&mut self) -> Vec<u8> {
        self.pick(["a", "b", "c", "streams", ""]).into()
    }
    /// Either long ago or just now.
    fn idle(&mut self) -> Vec<u8> {
        self.pick(["0", "0", "0", "500000000", "-1", "x"]).into()
    }

    fn group_make(&mut self) -> Command {
        let (key, group) = (self.key_of("x"), self.group());
        let id = if self.rng.u32(..4) == 0 { b"$".to_vec() } else { self.recent_id() };
        let mut args = match self.rng.u32(..14) {
            0..7 => words(["XGROUP", "CREATE"], [key, group, id]),
            7 | 8 => words(["XGROUP", "SETID"], [key, group, id]),
            9 => return words(["XGROUP", "DESTROY"], [key, group]),
            10 => return words(["XGROUP", "CREATECONSUMER"], [key, group, self.consumer()]),
            11 => return words(["XGROUP", "DELCONSUMER"], [key, group, self.consumer()]),
            12 => return words(["XGROUP", self.pick(["X", "CREATE", "DESTROY"])], [key]),
            _ => words(["xgroup", "create"], [key, group, b"0".to_vec()]),
        };
        for _ in 0..self.rng.usize(..3) {
            match self.rng.u32(..4) {
                0..2 => args.push(b"MKSTREAM".to_vec()),
                2 => args.extend(words(["ENTRIESREAD"], [self.rng.i32(-2..200).to_string().into_bytes()])),
                _ => args.push(b"x".to_vec()),
            }
        }
        args
    }

    fn group_read(&mut self) -> Command {
        if self.rng.u32(..4) == 0 {
            let mut args = words(["XACK"], [self.key_of("x"), self.group()]);
            self.stream_ids(&mut args);
            return args;
        }
        let mut args = words(["XREADGROUP", "GROUP"], [self.group(), self.consumer()]);
        self.stream_count(&mut args);
        if self.rng.u32(..6) == 0 {
            args.push(b"NOACK".to_vec());
        }
        args.push(b"STREAMS".to_vec());
        let streams = if self.rng.u32(..4) == 0 { 2 } else { 1 };
        args.extend((0..streams).map(|_| self.key_of("x")).collect::<Vec<_>>());
        for _ in 0..streams {
            args.push(match self.rng.u32(..12) {
                0..8 => b">".to_vec(),
                8..10 => b"0".to_vec(),
                10 => self.pick(["$", "x", "-"]).into(),
                _ => self.recent_id(),
            });
        }
        args
    }

    fn group_claim(&mut self) -> Command {
        let (key, group, consumer) = (self.key_of("x"), self.group(), self.consumer());
        if self.rng.u32(..3) == 0 {
            let mut args = words(["XAUTOCLAIM"], [key, group, consumer, self.idle(), self.stream_limit()]);
            self.stream_count(&mut args);
            if self.rng.u32(..4) == 0 {
                args.push(b"JUSTID".to_vec());
            }
            return args;
        }
        let mut args = words(["XCLAIM"], [key, group, consumer, self.idle()]);
        self.stream_ids(&mut args);
        for _ in 0..self.rng.usize(..3) {
            match self.rng.u32(..12) {
                0 | 1 => args.extend(words(["IDLE"], [self.pick(["1000000000", "0", "-5", "x"]).into()])),
                2 => args.extend(words(["TIME"], [self.pick(["1000000000", "-1", "99999999999999"]).into()])),
                3 | 4 => args.extend(words(["RETRYCOUNT"], [self.small()])),
                5..8 => args.push(b"FORCE".to_vec()),
                8 | 9 => args.push(b"JUSTID".to_vec()),
                10 => args.extend(words(["LASTID"], [self.recent_id()])),
                _ => args.push(b"WHAT".to_vec()),
            }
        }
        args
    }

    fn group_look(&mut self) -> Command {
        let (key, group) = (self.key_of("x"), self.group());
        match self.rng.u32(..8) {
            0 | 1 => words(["XPENDING"], [key, group]),
            2..5 => {
                let mut args = words(["XPENDING"], [key, group]);
                if self.rng.u32(..3) == 0 {
                    args.extend(words(["IDLE"], [self.idle()]));
                }
                args.extend([self.stream_limit(), self.stream_limit(), self.index()]);
                if self.rng.u32(..3) == 0 {
                    args.push(self.consumer());
                }
                args
            }
            5 | 6 => words(["XINFO", "GROUPS"], [key]),
            _ => words(["XINFO", "CONSUMERS"], [key, group]),
        }
    }
}

/// Whether replies to commands of streams are alike but for times. Of streams on several shards another one may be at fault.
pub fn alike(args: &Command, ours: &Resp, oracle: &Resp) -> bool {
    if args[0].starts_with(b"XREAD") && ours.is_error() && oracle.is_error() {
        return true;
    }
    without_times(ours, None) == without_times(oracle, None)
}

/// A reply with times set to 0, and what the oracle says of its own trees; `before`: what stands before it in its array.
fn without_times(reply: &Resp, before: Option<&Resp>) -> Resp {
    /// What counts entries is below it; what tells of times in the past or the present isn't, in milliseconds.
    const COUNTED_MAX: i64 = 1_000_000;
    let is_time = matches!(before, Some(Resp::Bulk(name)) if matches!(&name[..], b"idle" | b"radix-tree-keys" | b"radix-tree-nodes"));
    match reply {
        Resp::Integer(_) if is_time => Resp::Integer(0),
        Resp::Integer(value) if *value > COUNTED_MAX => Resp::Integer(0),
        // What XPENDING lists: id, consumer, for how long idle, how often delivered.
        Resp::Array(items)
            if matches!(&items[..], [Resp::Bulk(_), Resp::Bulk(_), Resp::Integer(_), Resp::Integer(_)]) =>
        {
            Resp::Array(vec![items[0].clone(), items[1].clone(), items[3].clone()])
        }
        Resp::Array(items) => {
            let before = std::iter::once(None).chain(items.iter().map(Some));
            Resp::Array(items.iter().zip(before).map(|(item, before)| without_times(item, before)).collect())
        }
        other => other.clone(),
    }
}

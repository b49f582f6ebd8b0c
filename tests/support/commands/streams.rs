//! Streams, but for their groups.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    /// Explicit ids only: the others are of a clock.
    pub(super) fn streams(&mut self) -> Command {
        let key = self.key_of("x");
        match self.rng.u32(..30) {
            0..14 => self.stream_entry(key),
            14..17 => {
                let mut args = words(["XDEL"], [key]);
                args.extend((0..self.rng.usize(1..4)).map(|_| self.stream_id()).collect::<Vec<_>>());
                args
            }
            17 | 18 => {
                let mut args = words(["XTRIM"], [key]);
                self.trim_options(&mut args);
                args
            }
            19..23 => {
                let mut args =
                    words([self.pick(["XRANGE", "XREVRANGE"])], [key, self.stream_limit(), self.stream_limit()]);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args
            }
            23 | 24 => words(["XLEN"], [key]),
            25 => {
                let mut args = words(["XREAD"], []);
                if self.rng.bool() {
                    args.extend(words(["COUNT"], [self.small()]));
                }
                args.extend(words(["STREAMS"], [key, self.key_of("x"), self.stream_id(), self.stream_id()]));
                // An id of 7.4.
                args.iter_mut().filter(|arg| *arg == b"+").for_each(|arg| *arg = b"1".to_vec());
                args
            }
            26 => {
                let mut args = words(["XSETID"], [key, self.stream_id()]);
                if self.rng.bool() {
                    args.extend(words(["ENTRIESADDED"], [self.index(), b"MAXDELETEDID".to_vec(), self.stream_id()]));
                }
                args
            }
            27 => words(["XINFO", "STREAM"], [key]),
            28 => words(["XINFO", "STREAM"], [key, b"FULL".to_vec()]),
            _ => words(["OBJECT", "ENCODING"], [key]),
        }
    }
    fn stream_entry(&mut self, key: Vec<u8>) -> Command {
        let mut args = words(["XADD"], [key]);
        if self.rng.u32(..6) == 0 {
            self.trim_options(&mut args);
        }
        if self.rng.u32(..10) == 0 {
            args.push(b"NOMKSTREAM".to_vec());
        }
        let id = self.stream_id();
        args.push(if self.rng.u32(..3) > 0 { format!("{}-*", self.stream_ms).into_bytes() } else { id });
        let names = self.pick(["f", "f", "f", "fg", "fg", "gfh"]);
        for name in names.bytes() {
            args.extend([vec![name], self.element()]);
        }
        args
    }
    pub(super) fn trim_options(&mut self, args: &mut Command) {
        let (name, threshold) = match self.rng.u32(..4) {
            0 => (self.pick(["MINID", "minid"]), self.stream_id()),
            1 => ("MAXLEN", self.index()),
            _ => ("maxlen", self.rng.u32(..200).to_string().into_bytes()),
        };
        args.push(name.into());
        let precision = self.pick(["", "=", "~", "~", "~"]);
        args.extend((!precision.is_empty()).then(|| precision.as_bytes().to_vec()));
        args.push(threshold);
        if self.rng.u32(..4) == 0 {
            args.extend(words(["LIMIT"], [self.rng.i32(-1..300).to_string().into_bytes()]));
        }
    }
    /// Around what has been reached, which goes up slowly.
    pub(super) fn stream_id(&mut self) -> Vec<u8> {
        self.stream_ms += self.rng.u64(..3);
        let old = self.rng.u64(..self.stream_ms + 1);
        match self.rng.u32(..60) {
            0 => self.pick(["0", "0-0", "-", "+", "$", "x", "5-x", "5-*", "(3", "18446744073709551616"]).into(),
            1..10 => old.to_string().into_bytes(),
            10..30 => format!("{old}-{}", self.rng.u32(..3)).into_bytes(),
            30..40 => format!("{}-{}", self.stream_ms, self.rng.u32(..5)).into_bytes(),
            _ => self.stream_ms.to_string().into_bytes(),
        }
    }
    pub(super) fn stream_limit(&mut self) -> Vec<u8> {
        match self.rng.u32(..8) {
            0..2 => b"-".to_vec(),
            2..4 => b"+".to_vec(),
            4 => [b"(".to_vec(), self.stream_id()].concat(),
            _ => self.stream_id(),
        }
    }
}

//! The arguments: keys, values, numbers, times; ordinary ones mostly, and extreme ones.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    /// EX, PX, EXAT, PXAT or one of `others`, now and then two of them.
    pub(super) fn expire_option(&mut self, args: &mut Command, others: &[&str]) {
        for _ in 0..if self.rng.u32(..15) == 0 { 2 } else { 1 } {
            match self.rng.u32(..6) {
                0 | 1 => args.extend(words([self.pick(["EX", "PX", "ex"])], [self.ttl()])),
                2 | 3 => {
                    let name = self.pick(["EXAT", "PXAT"]);
                    args.extend(words([name], [self.future(name)]));
                }
                _ => args.push(self.rng.choice(others).expect("at least one").as_bytes().to_vec()),
            }
        }
    }

    pub(super) fn several(&mut self, name: &str) -> Command {
        let count = self.rng.usize(1..5);
        let mut args = words([name], []);
        args.extend((0..count).map(|_| self.key()).collect::<Vec<_>>());
        args
    }

    pub(super) fn pairs(&mut self, name: &str) -> Command {
        let count = self.rng.usize(1..4);
        let mut args = words([name], []);
        for _ in 0..count {
            args.extend([self.key(), self.value()]);
        }
        args
    }

    pub(super) fn pick<'t, const N: usize>(&mut self, of: [&'t str; N]) -> &'t str {
        of[self.rng.usize(..N)]
    }
    pub(super) fn key(&mut self) -> Vec<u8> {
        match self.rng.u32(..60) {
            0 => Vec::new(),
            1 => b"bin\x00\r\n\xff".to_vec(),
            _ => format!("k{}", self.rng.u32(..20)).into_bytes(),
        }
    }
    /// Of a key, mostly a string's; by the letter it mostly holds one type.
    pub(super) fn prefix(&mut self) -> &'static str {
        ["k", "k", "k", "h", "l", "s", "z", "y", "g"][self.rng.usize(..9)]
    }
    /// Of RESTORE, none mostly; not so short that it ends soon, nor, with ABSTTL, so long ago that only a clock could tell.
    pub(super) fn lifetime(&mut self) -> Vec<u8> {
        match self.rng.u32(..12) {
            0 => self.pick(["-1", "x", ""]).into(),
            1 | 2 => self.rng.u64(4_000_000_000_000..8_000_000_000_000).to_string().into_bytes(),
            _ => b"0".to_vec(),
        }
    }
    /// A key that mostly holds one type.
    pub(super) fn key_of(&mut self, prefix: &str) -> Vec<u8> {
        if prefix == "k" || self.rng.u32(..25) == 0 {
            self.key()
        } else {
            format!("{prefix}{}", self.rng.u32(..4)).into_bytes()
        }
    }
    /// A field or member: few, so that they meet; numbers and texts.
    pub(super) fn element(&mut self) -> Vec<u8> {
        match self.rng.u32(..40) {
            0 => self.value(),
            1 => vec![b'e'; self.rng.usize(60..70)],
            2 => (self.rng.i64(-3..3) * 100_000).to_string().into_bytes(),
            3..20 => format!("m{}", self.rng.u32(..12)).into_bytes(),
            _ => self.rng.u32(..30).to_string().into_bytes(),
        }
    }
    /// Of a few digits: 7.0 prints doubles with 17.
    pub(super) fn score(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["inf", "-inf", "nan", "x", "1e2", "2e1"]).into(),
            1..4 => format!("{}.5", self.rng.i32(-9..9)).into_bytes(),
            _ => self.rng.i32(-20..20).to_string().into_bytes(),
        }
    }
    pub(super) fn score_limit(&mut self) -> Vec<u8> {
        let mut limit = if self.rng.u32(..4) == 0 { b"(".to_vec() } else { Vec::new() };
        match self.rng.u32(..6) {
            0 => limit.extend(b"-inf"),
            1 => limit.extend(b"+inf"),
            _ => limit.extend(self.score()),
        }
        limit
    }
    pub(super) fn member_limit(&mut self) -> Vec<u8> {
        match self.rng.u32(..8) {
            0 => b"-".to_vec(),
            1 => b"+".to_vec(),
            2 => self.element(),
            3..5 => [b"(".to_vec(), self.element()].concat(),
            _ => [b"[".to_vec(), self.element()].concat(),
        }
    }
    pub(super) fn db(&mut self) -> Vec<u8> {
        self.pick(["0", "0", "1", "2", "3", "0", "1", "15", "16", "-1", "x"]).into()
    }
    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(..9) {
            0 | 1 => self.integer(),
            2 => self.float(),
            3 => Vec::new(),
            4 => (0..self.rng.usize(..60)).map(|_| self.rng.u8(..)).collect(),
            5 => vec![b'x'; self.rng.usize(40..50)],
            6 => self.pick(["0x10", " 1", "1 ", "+1", "01", "-0", "1e3", "nan", "inf", "1_0"]).into(),
            _ => (0..self.rng.usize(..20)).map(|_| self.rng.u8(b'a'..b'e')).collect(),
        }
    }
    pub(super) fn integer(&mut self) -> Vec<u8> {
        match self.rng.u32(..10) {
            0 => self.pick(["9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.0", ""]).into(),
            1 => self.rng.i64(..).to_string().into_bytes(),
            _ => self.rng.i64(-300..300).to_string().into_bytes(),
        }
    }
    pub(super) fn float(&mut self) -> Vec<u8> {
        match self.rng.u32(..12) {
            0 => self.pick(["1e400", "-inf", "nan", "abc", "0x1p3", "1.5e2", "3.0e3", "-0"]).into(),
            1 => self.rng.i64(-1000..1000).to_string().into_bytes(),
            _ => format!("{}.{:02}", self.rng.i64(-99..99), self.rng.u32(..100)).into_bytes(),
        }
    }
    pub(super) fn small(&mut self) -> Vec<u8> {
        self.rng.i32(-1..6).to_string().into_bytes()
    }
    pub(super) fn index(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["9223372036854775807", "-9223372036854775808", "x", "1.5"]).into(),
            _ => self.rng.i32(-30..60).to_string().into_bytes(),
        }
    }
    pub(super) fn offset(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["-1", "536870912", "9223372036854775807", "x"]).into(),
            _ => self.rng.u32(..70).to_string().into_bytes(),
        }
    }
    pub(super) fn bit_offset(&mut self) -> Vec<u8> {
        match self.rng.u32(..25) {
            0 => self.pick(["-1", "4294967296", "x", "", "4294967295000"]).into(),
            _ => self.rng.u32(..500).to_string().into_bytes(),
        }
    }
    /// Far enough away that no key expires while the two are compared, and rarely twice the same; or in the past.
    pub(super) fn ttl(&mut self) -> Vec<u8> {
        match self.rng.u32(..12) {
            0 => self
                .pick(["0", "-1", "-1000", "9223372036854775807", "9223372036854775", "-9223372036854775808", "x"])
                .into(),
            _ => self.rng.u64(10_000_000..100_000_000).to_string().into_bytes(),
        }
    }
    /// For EXPIREAT and its kin, which remove a key at once when the time is past.
    pub(super) fn point_in_time(&mut self, name: &str) -> Vec<u8> {
        if self.rng.u32(..12) == 0 { b"1000".to_vec() } else { self.future(name) }
    }
    /// For options of SET and GETEX: Redis may or may not have removed by itself what they let expire in the past.
    pub(super) fn future(&mut self, name: &str) -> Vec<u8> {
        let ms = if name.starts_with('P') { 1000 } else { 1 };
        match self.rng.u32(..12) {
            0 => self.pick(["0", "-1", "x", "", "1.5", "-9223372036854775808", "9223372036854775808"]).into(),
            _ => (self.rng.u64(4_000_000_000..8_000_000_000) * ms).to_string().into_bytes(),
        }
    }
}

//! What Redis 7.0 doesn't know, and what is of a clock: deadlines of hash fields, ids that a stream makes, its producers, and what
//! deletes and gives back entries of groups. Times are near `Generator::time_ms`, which is the wall clock's where this is used.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    /// Also commands for which there is no oracle.
    pub fn with_newer(mut self) -> Self {
        self.newer = true;
        self
    }

    /// Where the ids of streams are: a wall clock about there makes such that go with the others.
    pub fn time_ms(&self) -> u64 {
        self.stream_ms
    }

    pub(super) fn newer(&mut self) -> Command {
        match self.rng.u32(..20) {
            0..5 => self.field_deadlines(),
            5..9 => self.fields_with_deadlines(),
            9..14 => self.entries_by_clock(),
            14..18 => self.entries_of_groups(),
            18 => self.entries_claimed(),
            _ => {
                let key = self.key_of("x");
                let (name, most) = *self.rng.choice(&[("IDMP-DURATION", 3), ("IDMP-MAXSIZE", 5)]).expect("two");
                words(["XCFGSET"], [key, name.into(), self.rng.u32(..most).to_string().into_bytes()])
            }
        }
    }

    /// Soon, mostly: to live, in units of `name`.
    fn soon(&mut self, name: &str) -> Vec<u8> {
        let ms = match self.rng.u32(..20) {
            0 => return self.pick(["0", "-1", "x", "9223372036854775807", "70368744177664"]).into(),
            1 => 0,
            2..12 => self.rng.u64(..1_500),
            _ => self.rng.u64(..40_000),
        };
        let from = if name.ends_with("AT") { self.time_ms() } else { 0 };
        let unit = if name.starts_with('P') { 1 } else { 1_000 };
        ((from + ms) / unit).to_string().into_bytes()
    }

    fn fields(&mut self, args: &mut Command, has_values: bool) {
        let count = self.rng.usize(1..5);
        let told = if self.rng.u32(..40) == 0 { count + 1 } else { count };
        args.extend(words(["FIELDS"], [told.to_string().into_bytes()]));
        for _ in 0..count {
            args.push(self.element());
            if has_values {
                args.push(self.value());
            }
        }
    }

    fn field_deadlines(&mut self) -> Command {
        let key = self.key_of("h");
        let mut args = if self.rng.u32(..5) == 0 {
            words([self.pick(["HPERSIST", "HPERSIST", "HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME"])], [key])
        } else {
            let name = self.pick(["EXPIRE", "PEXPIRE", "PEXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]);
            let mut args = words([], [format!("H{name}").into_bytes(), key, self.soon(name)]);
            if self.rng.u32(..4) == 0 {
                args.extend(words([self.pick(["NX", "XX", "GT", "LT"])], []));
            }
            args
        };
        self.fields(&mut args, false);
        args
    }

    fn fields_with_deadlines(&mut self) -> Command {
        let key = self.key_of("h");
        let name = self.pick(["HSETEX", "HSETEX", "HSETEX", "HGETEX", "HGETDEL"]);
        let mut args = words([name], [key]);
        if name == "HSETEX" && self.rng.u32(..6) == 0 {
            args.extend(words([self.pick(["FNX", "FXX"])], []));
        }
        if name != "HGETDEL" && self.rng.u32(..5) > 0 {
            match self.pick(["EX", "PX", "PX", "EXAT", "PXAT", ""]) {
                "" => args.push(if name == "HSETEX" { b"KEEPTTL".to_vec() } else { b"PERSIST".to_vec() }),
                unit => args.extend(words([unit], [self.soon(unit)])),
            }
        }
        self.fields(&mut args, name == "HSETEX");
        args
    }

    fn entries_by_clock(&mut self) -> Command {
        let mut args = words(["XADD"], [self.key_of("x")]);
        if self.rng.u32(..4) == 0 {
            args.push(self.pick(["KEEPREF", "DELREF", "ACKED"]).into());
        }
        match self.rng.u32(..4) {
            0 | 1 => {}
            2 => args.extend(words(["IDMP", self.pick(["p", "q", "r"])], [self.rng.u32(..9).to_string().into_bytes()])),
            _ => args.extend(words(["IDMPAUTO", self.pick(["p", "q", "r"])], [])),
        }
        if self.rng.u32(..4) == 0 {
            self.trim_options(&mut args);
        }
        args.push(b"*".to_vec());
        for name in self.pick(["f", "fg", "gf"]).bytes() {
            args.extend([vec![name], self.small()]);
        }
        args
    }

    fn entries_of_groups(&mut self) -> Command {
        let (key, group) = (self.key_of("x"), self.group());
        let name = self.pick(["XDELEX", "XACKDEL", "XNACK", "XTRIM"]);
        let mut args = words([name], [key]);
        if name == "XTRIM" {
            self.trim_options(&mut args);
        } else if name != "XDELEX" {
            args.push(group);
        }
        if name == "XNACK" {
            args.push(self.pick(["FAIL", "SILENT", "FATAL"]).into());
        } else if self.rng.u32(..4) > 0 {
            args.push(self.pick(["KEEPREF", "DELREF", "ACKED"]).into());
        }
        if name != "XTRIM" {
            let ids = (0..self.rng.usize(1..5)).map(|_| self.recent_id()).collect::<Vec<_>>();
            args.extend(words(["IDS"], [ids.len().to_string().into_bytes()]));
            args.extend(ids);
        }
        if name == "XNACK" && self.rng.bool() {
            args.extend(words(["RETRYCOUNT"], [self.small()]));
        }
        if name == "XNACK" && self.rng.bool() {
            args.push(b"FORCE".to_vec());
        }
        args
    }

    fn entries_claimed(&mut self) -> Command {
        let mut args = words(["XREADGROUP", "GROUP"], [self.group(), self.consumer()]);
        self.stream_count(&mut args);
        args.extend(words(["CLAIM"], [self.pick(["0", "0", "1", "20", "500000000"]).into()]));
        args.extend(words(["STREAMS"], [self.key_of("x"), b">".to_vec()]));
        args
    }
}

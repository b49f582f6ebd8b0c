//! SORT and SORT_RO. What patterns name is in the slot of the key, so that a server of several shards may look for it. The sorted sets
//! are none whose encoding is asked for: in Redis SORT changes it.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    pub(super) fn sorting(&mut self) -> Command {
        match self.rng.u32(..10) {
            0 | 1 => {
                let name = self.pick(["RPUSH", "SADD", "ZADD"]);
                let key = self.sorted_key(match name {
                    "RPUSH" => "l",
                    "SADD" => "s",
                    _ => "z",
                });
                let first = if name == "ZADD" { self.score() } else { self.element() };
                words([name], [key, first, self.element()])
            }
            2 => {
                let key = [b"w{t}".to_vec(), self.element()].concat();
                words(["SET"], [key, self.weight()])
            }
            3 => {
                let key = [b"x{t}".to_vec(), self.element()].concat();
                words(["HSET"], [key, self.pick(["f", "g"]).into(), self.weight()])
            }
            4 => self.by_themselves(),
            5 => words(["LRANGE"], [self.sorted_key("l"), b"0".to_vec(), b"-1".to_vec()]),
            _ => self.by_patterns(),
        }
    }

    /// Any key, without patterns: a server of several shards takes them all.
    fn by_themselves(&mut self) -> Command {
        let key = match self.pick(["l", "s", "z", "h"]) {
            "z" => self.sorted_key("z"),
            prefix => self.key_of(prefix),
        };
        let mut args = words([self.pick(["SORT", "SORT", "SORT_RO"])], [key]);
        self.order(&mut args);
        self.limit(&mut args);
        if self.rng.bool() {
            args.push(b"ALPHA".to_vec());
        }
        if self.rng.u32(..4) == 0 {
            args.extend(words(["GET", "#"], []));
        }
        if self.rng.u32(..4) == 0 {
            args.extend(words(["STORE"], [self.key_of("l")]));
        }
        args
    }

    fn by_patterns(&mut self) -> Command {
        let prefix = self.pick(["l", "s", "z"]);
        let mut args = words([self.pick(["SORT", "SORT", "SORT_RO"])], [self.sorted_key(prefix)]);
        let by = self.pick(["w{t}*", "x{t}*->f", "nosort", "w{t}*->f", "x{t}*", ""]);
        if !by.is_empty() {
            args.extend(words(["BY", by], []));
        }
        self.order(&mut args);
        for _ in 0..self.rng.usize(..3) {
            args.extend(words(["GET", self.pick(["w{t}*", "x{t}*->g", "#", "x{t}*->", "w{t}*->f", "none"])], []));
        }
        // Which of several elements of one weight comes first is told for numbers only; a set has no order of its own.
        let is_text = self.rng.bool();
        args.extend(is_text.then(|| b"ALPHA".to_vec()));
        if !is_text && by != "nosort" {
            self.limit(&mut args);
            if self.rng.u32(..4) == 0 {
                args.extend(words(["STORE"], [self.sorted_key("l")]));
            }
        }
        args
    }

    fn order(&mut self, args: &mut Command) {
        if self.rng.bool() {
            args.push(self.pick(["ASC", "DESC", "desc"]).into());
        }
    }
    fn limit(&mut self, args: &mut Command) {
        if self.rng.u32(..3) == 0 {
            args.extend(words(["LIMIT"], [self.small(), self.small()]));
        }
    }
    fn sorted_key(&mut self, prefix: &str) -> Vec<u8> {
        format!("{prefix}{{t}}{}", self.rng.u32(..3)).into_bytes()
    }
    fn weight(&mut self) -> Vec<u8> {
        if self.rng.u32(..12) == 0 { self.value() } else { self.rng.i32(-20..20).to_string().into_bytes() }
    }
}

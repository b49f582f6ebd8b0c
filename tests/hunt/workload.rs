//! What the clients of a hunt do next: random steps on a few keys, so that nearly everything conflicts. Knows nothing of
//! who runs them. The same seed gives the same steps.

use super::history::Token;
use super::model::{Call, Key};
use fastrand::Rng;

/// One step of a client.
#[derive(Clone, Debug)]
pub enum Plan {
    Single(Call),
    /// MULTI, the calls, EXEC.
    Multi(Vec<Call>),
    /// WATCH and GET the keys, then write them in MULTI and EXEC: an optimistic read-modify-write.
    Watch(Vec<Key>, Vec<Call>),
    /// Sent in one write; each call is an operation of its own, and they take effect in this order.
    Pipeline(Vec<Call>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Single,
    Mset,
    Multi,
    Watch,
    Pipeline,
    Del,
    /// RENAME and COPY.
    Move,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// SET and GETSET.
    Registers,
    /// APPEND: every read tells the order of all writes so far.
    Lists,
    Both,
}

#[derive(Clone, Debug)]
pub struct Mix {
    pub kinds: Vec<Kind>,
    pub writes: Writes,
    pub keys: Key,
}

impl Mix {
    /// Every kind that keeps the versions of a key in one line.
    pub fn registers() -> Mix {
        let kinds = vec![Kind::Single, Kind::Mset, Kind::Multi, Kind::Watch, Kind::Pipeline];
        Mix { kinds, writes: Writes::Registers, keys: 5 }
    }
    pub fn lists() -> Mix {
        Mix { writes: Writes::Lists, ..Mix::registers() }
    }
    /// All there is.
    pub fn everything() -> Mix {
        let kinds = [Mix::registers().kinds, vec![Kind::Del, Kind::Move]].concat();
        Mix { kinds, writes: Writes::Both, keys: 5 }
    }
}

/// Makes the steps of one client.
pub struct Planner {
    mix: Mix,
    rng: Rng,
    next_token: u32,
}

/// Tokens that one client can use.
pub const TOKENS_PER_CLIENT: u32 = 100_000;

impl Planner {
    pub fn new(mix: Mix, seed: u64, client: u32) -> Planner {
        let rng = Rng::with_seed(seed ^ u64::from(client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Planner { mix, rng, next_token: client * TOKENS_PER_CLIENT }
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    pub fn next(&mut self) -> Plan {
        match self.mix.kinds[self.rng.usize(..self.mix.kinds.len())] {
            Kind::Single => Plan::Single(self.single()),
            Kind::Mset => Plan::Single(self.over_shards()),
            Kind::Multi => {
                let calls = (0..self.rng.usize(2..5)).map(|_| self.single()).collect();
                Plan::Multi(calls)
            }
            Kind::Watch => {
                let keys = self.some_keys(1..3);
                let writes = keys.iter().map(|key| self.write(*key)).collect();
                Plan::Watch(keys, writes)
            }
            Kind::Pipeline => {
                let keys = self.some_keys(2..5);
                let calls = keys.into_iter().map(|key| if self.rng.bool() { Call::Get(key) } else { self.write(key) });
                Plan::Pipeline(calls.collect::<Vec<_>>())
            }
            Kind::Del => Plan::Single(Call::Del(self.some_keys(1..4))),
            Kind::Move => self.move_value(),
        }
    }

    /// Reads everything: at the end of a history it fixes what came last.
    pub fn read_all(&self) -> Plan {
        Plan::Single(Call::Mget((0..self.mix.keys).collect()))
    }

    fn single(&mut self) -> Call {
        let key = self.rng.u8(..self.mix.keys);
        if self.rng.bool() { Call::Get(key) } else { self.write(key) }
    }

    fn write(&mut self, key: Key) -> Call {
        let token = self.token();
        match (self.mix.writes, self.rng.u8(..4)) {
            (Writes::Lists, _) | (Writes::Both, 2..) => Call::Append(key, token),
            (Writes::Registers, 2..) | (_, 1) => Call::GetSet(key, token),
            (Writes::Registers | Writes::Both, _) => Call::Set(key, token),
        }
    }

    fn over_shards(&mut self) -> Call {
        let keys = self.some_keys(2..4);
        // A list never starts anew: its order would be lost.
        if self.mix.writes == Writes::Lists || self.rng.bool() {
            return Call::Mget(keys);
        }
        let writes = keys.into_iter().map(|key| (key, self.token())).collect();
        match self.mix.kinds.contains(&Kind::Del) && self.rng.u8(..3) == 0 {
            true => Call::Msetnx(writes),
            false => Call::Mset(writes),
        }
    }

    /// Half of them look before, so that what was moved is known.
    fn move_value(&mut self) -> Plan {
        let keys = self.some_keys(2..3);
        let (from, to) = (keys[0], keys[1]);
        let call = if self.rng.bool() { Call::Rename(from, to) } else { Call::Copy(from, to) };
        if self.mix.kinds.contains(&Kind::Multi) && self.rng.bool() {
            return Plan::Multi(vec![Call::Get(from), call, Call::Get(to)]);
        }
        Plan::Single(call)
    }

    fn some_keys(&mut self, count: std::ops::Range<usize>) -> Vec<Key> {
        let count = self.rng.usize(count);
        let mut keys = (0..self.mix.keys).collect::<Vec<_>>();
        self.rng.shuffle(&mut keys);
        keys.truncate(count);
        keys
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token - 1)
    }
}

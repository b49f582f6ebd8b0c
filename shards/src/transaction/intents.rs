//! One shard's intents: which transactions hold which keys, and in what order the others wait for them.
//!
//! Keys are known by hash; a collision makes somebody wait needlessly, nothing worse. A claim is granted as a whole, or waits
//! as a whole. Each key has a line; a claim waits while, on any of its keys, a holder or somebody further ahead conflicts.
//!
//! ```text
//!           holders         waiting, holding others elsewhere      waiting, empty-handed
//! key ──► [ a:write ]  ──►  [ b:write ][ c:read ]  ──────────────► [ d:read ][ e:write ]
//! ```
//!
//! Who comes with intents elsewhere goes ahead of all the empty-handed, and stays there. If somebody older that conflicts is
//! in the line, it has to yield instead: it stands at the end, empty-handed, and its coordinator lets go of the rest.

use super::Age;
use crate::unsettled::AlreadyHashed;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
}

/// What a transaction wants of one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// Hashes of keys; each once after `settle`.
    keys: Vec<(u64, Access)>,
    /// All keys of the shard (FLUSHALL, or DBSIZE in a MULTI).
    whole: Option<Access>,
}

impl Claim {
    pub fn add(&mut self, key_hash: u64, access: Access) {
        self.keys.push((key_hash, access));
    }
    pub fn add_whole(&mut self, access: Access) {
        self.whole = Some(self.whole.map_or(access, |before| stronger(before, access)));
    }
    /// To be called once after the last key: each key once, or none when all are claimed.
    pub fn settle(&mut self) {
        if let Some(whole) = &mut self.whole {
            if self.keys.iter().any(|(_, access)| *access == Access::Write) {
                *whole = Access::Write;
            }
            self.keys.clear();
        }
        self.keys.sort_unstable_by_key(|(hash, access)| (*hash, *access == Access::Read));
        // A write comes before a read of the same key, and stays.
        self.keys.dedup_by_key(|(hash, _)| *hash);
    }
    pub fn clear(&mut self) {
        self.keys.clear();
        self.whole = None;
    }
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.whole.is_none()
    }

    fn mode(&self) -> Mode {
        let writes = || self.keys.iter().any(|(_, access)| *access == Access::Write);
        match self.whole {
            Some(Access::Write) => Mode::Write,
            Some(Access::Read) => Mode::Read,
            None if writes() => Mode::WriteSome,
            None => Mode::ReadSome,
        }
    }
}

fn stronger(a: Access, b: Access) -> Access {
    if a == Access::Write { a } else { b }
}

/// What a claim does in one line: in a key's line it reads or writes the key, in the shard's line all or some of the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    ReadSome = 1,
    WriteSome = 2,
    Read = 4,
    Write = 8,
}

impl Mode {
    /// The modes that can't be held at the same time.
    fn conflicts(self) -> Modes {
        match self {
            Mode::ReadSome => Modes(Mode::Write as u8),
            Mode::WriteSome => Modes(Mode::Read as u8 | Mode::Write as u8),
            Mode::Read => Modes(Mode::WriteSome as u8 | Mode::Write as u8),
            Mode::Write => Modes(15),
        }
    }
}

impl From<Access> for Mode {
    fn from(access: Access) -> Mode {
        match access {
            Access::Read => Mode::Read,
            Access::Write => Mode::Write,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Modes(u8);

impl Modes {
    fn with(self, mode: Mode) -> Modes {
        Modes(self.0 | mode as u8)
    }
    fn has(self, mode: Mode) -> bool {
        self.0 & mode as u8 != 0
    }
    fn meets(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether a claimant holds intents on other shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    EmptyHanded,
    HoldsElsewhere,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds its intents here.
    Granted,
    /// It stands in line; `next_granted` will name it.
    Waits,
    /// It stands in line, and must let go of what it holds elsewhere.
    Yields,
}

#[derive(Clone, Debug)]
struct Entry {
    claim: Claim,
    mode: Mode,
    standing: Standing,
    /// Number of lines in which somebody is in the way; `None` once granted.
    blocked: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    age: Age,
    mode: Mode,
    standing: Standing,
    blocked: bool,
}

#[derive(Clone, Debug, Default)]
struct Line {
    holders: SmallVec<[(Age, Mode); 1]>,
    waiting: VecDeque<Waiter>,
}

impl Line {
    fn held(&self) -> Modes {
        self.holders.iter().fold(Modes::default(), |held, (_, mode)| held.with(*mode))
    }
    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiting.is_empty()
    }
    /// Where a newcomer stands among those who wait: who holds elsewhere is never overtaken, so that all that it ever waits
    /// for are those in its way now.
    fn place(&self, standing: Standing) -> usize {
        match standing {
            Standing::HoldsElsewhere => self.waiting.partition_point(|one| one.standing == Standing::HoldsElsewhere),
            Standing::EmptyHanded => self.waiting.len(),
        }
    }
    /// Those that a newcomer conflicts with and can't go past.
    fn in_the_way(&self, age: Age, mode: Mode, standing: Standing) -> impl Iterator<Item = Age> {
        let conflicts = mode.conflicts();
        let goes_past = move |waiter: &&Waiter| {
            standing == Standing::HoldsElsewhere && waiter.standing == Standing::EmptyHanded && waiter.age > age
        };
        let holders = self.holders.iter().map(|(age, mode)| (*age, *mode));
        let waiting = self.waiting.iter().filter(move |waiter| !goes_past(waiter));
        let waiting = waiting.map(|waiter| (waiter.age, waiter.mode));
        holders.chain(waiting).filter(move |(_, mode)| conflicts.has(*mode)).map(|(age, _)| age)
    }
    fn leave(&mut self, age: Age) {
        if let Some(at) = self.holders.iter().position(|(holder, _)| *holder == age) {
            self.holders.swap_remove(at);
        } else if let Some(at) = self.waiting.iter().position(|waiter| waiter.age == age) {
            self.waiting.remove(at);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Intents {
    entries: BTreeMap<Age, Entry>,
    keys: HashMap<u64, Line, BuildHasherDefault<AlreadyHashed>>,
    /// The line for the shard as a whole, in which every claim stands; made when somebody claims the whole shard and dropped
    /// with the last such claim: without one, nobody is in anybody's way there.
    whole: Line,
    whole_claims: usize,
    granted: VecDeque<Age>,
}

impl Intents {
    /// Nobody holds or wants anything.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a claim would have to wait.
    pub fn conflicts(&self, claim: &Claim) -> bool {
        if self.is_idle() {
            return false;
        }
        if claim.whole.is_some() || self.whole_claims > 0 {
            let conflicts = claim.mode().conflicts();
            if self.entries.values().any(|entry| conflicts.has(entry.mode)) {
                return true;
            }
        }
        claim.keys.iter().any(|(hash, access)| self.key_conflicts(*hash, *access))
    }

    /// As `conflicts`, of one key.
    pub fn conflicts_on(&self, key_hash: u64, access: Access) -> bool {
        if self.whole_claims > 0 {
            let some = if access == Access::Write { Mode::WriteSome } else { Mode::ReadSome };
            if self.entries.values().any(|entry| some.conflicts().has(entry.mode)) {
                return true;
            }
        }
        self.key_conflicts(key_hash, access)
    }

    fn key_conflicts(&self, hash: u64, access: Access) -> bool {
        let Some(line) = self.keys.get(&hash) else { return false };
        let conflicts = Mode::from(access).conflicts();
        let waiting = || line.waiting.iter().any(|waiter| conflicts.has(waiter.mode));
        line.held().meets(conflicts) || waiting()
    }

    /// Takes the intents of `claim`, or a place in line for them. One claim per transaction at a time.
    pub fn acquire(&mut self, age: Age, claim: Claim, standing: Standing) -> Outcome {
        let mode = claim.mode();
        if claim.whole.is_some() && self.whole_claims == 0 {
            self.form_whole_line();
        }
        let (mut blocked, mut older) = (0, false);
        {
            let mut look = |line: &Line, mode: Mode| {
                let mut in_the_way = line.in_the_way(age, mode, standing).peekable();
                blocked += in_the_way.peek().is_some() as u32;
                older |= in_the_way.any(|other| other < age);
            };
            look(&self.whole, mode);
            for (hash, access) in &claim.keys {
                if let Some(line) = self.keys.get(hash) {
                    look(line, Mode::from(*access));
                }
            }
        }
        let yields = blocked > 0 && older && standing == Standing::HoldsElsewhere;
        let standing = if yields { Standing::EmptyHanded } else { standing };
        self.whole_claims += claim.whole.is_some() as usize;
        let granted = blocked == 0;
        let mut blocked_now = Vec::new();
        let stand = |line: &mut Line, mode: Mode, blocked_now: &mut Vec<Age>| {
            if granted {
                // It may have come past some that wait for something else.
                line.holders.push((age, mode));
                line.look_again(0, blocked_now);
            } else {
                let at = line.place(standing);
                line.waiting.insert(at, Waiter { age, mode, standing, blocked: false });
                line.look_again(at, blocked_now);
            }
        };
        if self.whole_claims > 0 {
            stand(&mut self.whole, mode, &mut blocked_now);
        }
        for (hash, access) in &claim.keys {
            stand(self.keys.entry(*hash).or_default(), Mode::from(*access), &mut blocked_now);
        }
        let entry = Entry { claim, mode, standing, blocked: (!granted).then_some(0) };
        let before = self.entries.insert(age, entry);
        assert!(before.is_none(), "a transaction has one claim per shard");
        for age in blocked_now {
            let entry = self.entries.get_mut(&age).expect("who stands in line has an entry");
            *entry.blocked.as_mut().expect("holders are never blocked") += 1;
        }
        match (granted, yields) {
            (true, _) => Outcome::Granted,
            (false, false) => Outcome::Waits,
            (false, true) => Outcome::Yields,
        }
    }

    /// Gives up what the transaction holds here, or its place in line. Nothing happens if it has neither.
    pub fn release(&mut self, age: Age) {
        let Some(entry) = self.entries.remove(&age) else { return };
        self.granted.retain(|granted| *granted != age);
        let mut freed = Vec::new();
        if self.whole_claims > 0 {
            self.whole.leave(age);
            self.whole.move_up(&mut freed);
            self.whole_claims -= entry.claim.whole.is_some() as usize;
            if self.whole_claims == 0 {
                self.whole = Line::default();
            }
        }
        for (hash, _) in &entry.claim.keys {
            let line = self.keys.get_mut(hash).expect("a claim stands in the lines of its keys");
            line.leave(age);
            line.move_up(&mut freed);
            if line.is_empty() {
                self.keys.remove(hash);
            }
        }
        for age in freed {
            self.unblock(age);
        }
    }

    /// Hashes of the keys that a transaction may write here; `None`: of all.
    pub fn written_by(&self, age: Age) -> Option<impl Iterator<Item = u64>> {
        let claim = self.entries.get(&age).map(|entry| &entry.claim);
        if claim.is_some_and(|claim| claim.whole == Some(Access::Write)) {
            return None;
        }
        let keys = claim.into_iter().flat_map(|claim| &claim.keys);
        Some(keys.filter(|(_, access)| *access == Access::Write).map(|(hash, _)| *hash))
    }

    fn form_whole_line(&mut self) {
        for (&age, &Entry { mode, standing, blocked, .. }) in &self.entries {
            match blocked {
                None => self.whole.holders.push((age, mode)),
                // In no particular order otherwise: they claim some keys each, so none is in another's way here.
                Some(_) => {
                    let at = self.whole.place(standing);
                    self.whole.waiting.insert(at, Waiter { age, mode, standing, blocked: false });
                }
            }
        }
    }

    /// The next transaction that was granted while it waited.
    pub fn next_granted(&mut self) -> Option<Age> {
        self.granted.pop_front()
    }

    /// One line less is in the way of `age`; grants it when that was the last.
    fn unblock(&mut self, age: Age) {
        let entry = self.entries.get_mut(&age).expect("who stands in line has an entry");
        let blocked = entry.blocked.as_mut().expect("holders are never blocked");
        *blocked -= 1;
        if *blocked > 0 {
            return;
        }
        entry.blocked = None;
        if self.whole_claims > 0 {
            self.whole.hold(age);
        }
        for (hash, _) in &entry.claim.keys {
            self.keys.get_mut(hash).expect("a claim stands in the lines of its keys").hold(age);
        }
        self.granted.push_back(age);
    }

    /// Panics unless lines and entries agree. Walks everything.
    pub fn check_invariants(&self) {
        let mut blocked: BTreeMap<Age, u32> = BTreeMap::new();
        for line in self.keys.values().chain([&self.whole]) {
            let mut ahead = line.held();
            for (at, (age, mode)) in line.holders.iter().enumerate() {
                assert!(self.entries[age].blocked.is_none(), "{age:?} holds");
                let others = line.holders.iter().enumerate().filter(|(other, _)| *other != at);
                let others = others.fold(Modes::default(), |held, (_, (_, mode))| held.with(*mode));
                assert!(!mode.conflicts().meets(others), "holders don't conflict");
            }
            assert!(line.waiting.iter().is_sorted_by_key(|waiter| waiter.standing == Standing::EmptyHanded));
            for waiter in &line.waiting {
                assert_eq!(waiter.blocked, waiter.mode.conflicts().meets(ahead), "{waiter:?} knows who is ahead");
                *blocked.entry(waiter.age).or_default() += waiter.blocked as u32;
                ahead = ahead.with(waiter.mode);
            }
        }
        for (age, entry) in &self.entries {
            assert_eq!(entry.blocked.unwrap_or(0), blocked.get(age).copied().unwrap_or(0), "{age:?} counts its lines");
            assert!(entry.blocked != Some(0), "nobody waits for nothing");
        }
        assert!(self.keys.values().all(|line| !line.is_empty()), "lines that nobody stands in are gone");
        assert_eq!(self.whole_claims, self.entries.values().filter(|entry| entry.claim.whole.is_some()).count());
    }
}

impl Line {
    /// After an insertion at `from`: those from there on look again who is ahead; names those that got somebody in the way.
    fn look_again(&mut self, from: usize, blocked_now: &mut Vec<Age>) {
        let ahead = self.waiting.iter().take(from);
        let mut ahead = ahead.fold(self.held(), |ahead, waiter| ahead.with(waiter.mode));
        for waiter in self.waiting.iter_mut().skip(from) {
            if !waiter.blocked && waiter.mode.conflicts().meets(ahead) {
                waiter.blocked = true;
                blocked_now.push(waiter.age);
            }
            ahead = ahead.with(waiter.mode);
        }
    }

    /// After somebody left: names those that have nobody in the way any more.
    fn move_up(&mut self, freed: &mut Vec<Age>) {
        let mut ahead = self.held();
        for waiter in &mut self.waiting {
            let still = waiter.mode.conflicts().meets(ahead);
            ahead = ahead.with(waiter.mode);
            if waiter.blocked && still && waiter.mode == Mode::Write {
                // It is in the way of all who stand behind it, as before.
                return;
            }
            if waiter.blocked && !still {
                waiter.blocked = false;
                freed.push(waiter.age);
            }
        }
    }

    /// Who waited, holds.
    fn hold(&mut self, age: Age) {
        let at = self.waiting.iter().position(|waiter| waiter.age == age).expect("it stood in this line");
        let waiter = self.waiting.remove(at).expect("just found");
        self.holders.push((age, waiter.mode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ShardId;

    fn age(number: u64) -> Age {
        Age { number, front: ShardId(0) }
    }

    fn claim(keys: &[(u64, Access)]) -> Claim {
        let mut claim = Claim { keys: keys.to_vec(), whole: None };
        claim.settle();
        claim
    }

    fn write(keys: &[u64]) -> Claim {
        claim(&keys.iter().map(|key| (*key, Access::Write)).collect::<Vec<_>>())
    }

    fn granted(intents: &mut Intents) -> Vec<u64> {
        intents.check_invariants();
        std::iter::from_fn(|| intents.next_granted()).map(|age| age.number).collect()
    }

    #[test]
    fn readers_share_and_a_writer_waits_for_all_of_them() {
        let mut intents = Intents::default();
        let read = claim(&[(7, Access::Read)]);
        assert_eq!(intents.acquire(age(1), read.clone(), Standing::EmptyHanded), Outcome::Granted);
        assert_eq!(intents.acquire(age(2), read.clone(), Standing::EmptyHanded), Outcome::Granted);
        assert_eq!(intents.acquire(age(3), write(&[7]), Standing::EmptyHanded), Outcome::Waits);
        assert_eq!(intents.acquire(age(4), read.clone(), Standing::EmptyHanded), Outcome::Waits, "behind the writer");
        intents.release(age(1));
        assert_eq!(granted(&mut intents), []);
        intents.release(age(2));
        assert_eq!(granted(&mut intents), [3]);
        intents.release(age(3));
        assert_eq!(granted(&mut intents), [4]);
        intents.release(age(4));
        assert!(intents.is_idle() && intents.keys.is_empty());
    }

    #[test]
    fn who_holds_elsewhere_waits_for_the_younger_and_yields_to_the_older() {
        let mut intents = Intents::default();
        intents.acquire(age(5), write(&[1]), Standing::EmptyHanded);
        assert_eq!(intents.acquire(age(3), write(&[1]), Standing::HoldsElsewhere), Outcome::Waits);
        assert_eq!(intents.acquire(age(4), write(&[1]), Standing::HoldsElsewhere), Outcome::Yields);
        assert_eq!(
            intents.acquire(age(2), write(&[1]), Standing::HoldsElsewhere),
            Outcome::Waits,
            "ahead of 4, behind 3"
        );
        for expected in [3, 2, 4] {
            let holder = intents.keys[&1].holders[0].0;
            intents.release(holder);
            assert_eq!(granted(&mut intents), [expected]);
        }
    }

    #[test]
    fn who_holds_elsewhere_is_never_overtaken() {
        let read = || claim(&[(1, Access::Read)]);
        let mut whole = Claim::default();
        whole.add_whole(Access::Write);
        for five in [write(&[1]), whole] {
            let mut intents = Intents::default();
            intents.acquire(age(9), write(&[1]), Standing::EmptyHanded);
            assert_eq!(intents.acquire(age(6), read(), Standing::EmptyHanded), Outcome::Waits);
            assert_eq!(intents.acquire(age(7), read(), Standing::HoldsElsewhere), Outcome::Waits);
            // Not past 7 with 6: 5 may wait for 7 elsewhere.
            assert_eq!(intents.acquire(age(5), five, Standing::HoldsElsewhere), Outcome::Waits);
            for (gone, next) in [(9, 7), (7, 5), (5, 6)] {
                intents.release(age(gone));
                assert_eq!(granted(&mut intents), [next]);
            }
        }
    }

    #[test]
    fn nobody_goes_past_the_older_that_wait_behind_the_younger() {
        let mut intents = Intents::default();
        for number in [8, 9, 4] {
            intents.acquire(age(number), write(&[1]), Standing::EmptyHanded);
        }
        assert_eq!(intents.acquire(age(5), write(&[1]), Standing::HoldsElsewhere), Outcome::Yields);
    }

    #[test]
    fn a_claim_of_the_whole_shard_waits_for_all_before_it_and_all_behind_it_wait() {
        let mut intents = Intents::default();
        intents.acquire(age(1), write(&[1]), Standing::EmptyHanded);
        intents.acquire(age(2), write(&[1]), Standing::EmptyHanded);
        let mut all = Claim::default();
        all.add(9, Access::Read);
        all.add_whole(Access::Write);
        all.settle();
        assert_eq!(intents.acquire(age(3), all, Standing::EmptyHanded), Outcome::Waits);
        assert!(intents.conflicts_on(8, Access::Read));
        assert_eq!(intents.acquire(age(4), claim(&[(8, Access::Read)]), Standing::EmptyHanded), Outcome::Waits);
        intents.release(age(1));
        assert_eq!(granted(&mut intents), [2]);
        intents.release(age(2));
        assert_eq!(granted(&mut intents), [3]);
        intents.release(age(3));
        assert_eq!(granted(&mut intents), [4]);
    }

    #[test]
    fn a_claim_with_keys_twice_is_one_and_a_write_wins() {
        let mut intents = Intents::default();
        intents.acquire(
            age(1),
            claim(&[(1, Access::Read), (1, Access::Write), (1, Access::Read)]),
            Standing::EmptyHanded,
        );
        assert!(intents.conflicts_on(1, Access::Read));
        intents.check_invariants();
        intents.release(age(1));
        assert!(intents.keys.is_empty());
    }

    #[test]
    fn whoever_comes_and_goes_lines_and_entries_agree_and_nobody_is_forgotten() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut intents = Intents::default();
            let (mut inside, mut holding): (Vec<Age>, Vec<Age>) = (Vec::new(), Vec::new());
            for number in 0..200 {
                if random.bool() || inside.is_empty() {
                    let mut claim = Claim::default();
                    for _ in 0..random.usize(0..4) {
                        let access = if random.bool() { Access::Read } else { Access::Write };
                        claim.add(random.u64(0..5), access);
                    }
                    if random.u8(0..10) == 0 {
                        claim.add_whole(if random.bool() { Access::Read } else { Access::Write });
                    }
                    claim.settle();
                    let age = Age { number: random.u64(0..1_000), front: ShardId(number) };
                    let standing = if random.bool() { Standing::EmptyHanded } else { Standing::HoldsElsewhere };
                    let free = !intents.conflicts(&claim);
                    let outcome = intents.acquire(age, claim, standing);
                    assert!(!free || outcome == Outcome::Granted, "seed {seed}");
                    inside.push(age);
                    if outcome == Outcome::Granted {
                        holding.push(age);
                    }
                } else {
                    let age = inside.swap_remove(random.usize(..inside.len()));
                    holding.retain(|holder| *holder != age);
                    intents.release(age);
                }
                intents.check_invariants();
                holding.extend(std::iter::from_fn(|| intents.next_granted()));
            }
            while let Some(age) = holding.pop() {
                inside.retain(|other| *other != age);
                intents.release(age);
                holding.extend(std::iter::from_fn(|| intents.next_granted()));
            }
            assert!(inside.is_empty() && intents.is_idle(), "seed {seed}: all were granted in the end");
        }
    }
}

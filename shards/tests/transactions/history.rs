//! Strict serializability, judged from what ran: who read and wrote which key after whom, and who had replied before
//! whom began. The order that follows must have no cycle.

/// Set of transactions, one bit each.
type Set = u128;

pub const TRANSACTIONS_MAX: usize = Set::BITS as usize;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
struct Key {
    writer: Option<u8>,
    readers_since: Set,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct History {
    keys: Vec<Key>,
    /// All that must come before each transaction, directly or not.
    before: Vec<Set>,
    replied: Set,
    cyclic: bool,
}

impl History {
    pub fn new(transactions: usize, keys: usize) -> History {
        assert!(transactions <= TRANSACTIONS_MAX);
        History { keys: vec![Key::default(); keys], before: vec![0; transactions], replied: 0, cyclic: false }
    }
    pub fn begins(&mut self, one: usize) {
        let replied = self.replied;
        self.all_before(replied, one);
    }
    /// Its client has its reply; whatever begins now comes after it.
    pub fn replies(&mut self, one: usize) {
        self.replied |= 1 << one;
    }
    pub fn reads(&mut self, one: usize, key: usize) {
        let writer = self.keys[key].writer.map_or(0, |writer| 1 << writer);
        self.all_before(writer, one);
        self.keys[key].readers_since |= 1 << one;
    }
    pub fn writes(&mut self, one: usize, key: usize) {
        let before = self.keys[key].readers_since | self.keys[key].writer.map_or(0, |writer| 1 << writer);
        self.all_before(before, one);
        self.keys[key] = Key { writer: Some(one as u8), readers_since: 0 };
    }
    pub fn is_serializable(&self) -> bool {
        !self.cyclic
    }

    fn all_before(&mut self, set: Set, one: usize) {
        let mut before = set & !(1 << one);
        for other in 0..self.before.len() {
            if set >> other & 1 == 1 && other != one {
                before |= self.before[other];
            }
        }
        self.before[one] |= before;
        let before = self.before[one];
        for behind in &mut self.before {
            if *behind >> one & 1 == 1 {
                *behind |= before;
            }
        }
        self.cyclic |= self.before[one] >> one & 1 == 1;
    }
}

#[test]
fn half_a_transaction_seen_by_another_is_a_cycle_and_so_is_an_old_value_after_a_reply() {
    let mut half = History::new(2, 2);
    half.writes(0, 0);
    half.reads(1, 0);
    half.reads(1, 1);
    assert!(half.is_serializable());
    half.writes(0, 1);
    assert!(!half.is_serializable());

    let mut old = History::new(2, 1);
    old.writes(0, 0);
    old.replies(0);
    old.begins(1);
    assert!(old.is_serializable());
    old.reads(1, 0);
    old.writes(0, 0);
    assert!(!old.is_serializable(), "it took effect after its reply");
}

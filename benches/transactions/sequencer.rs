//! Design (c): core 0 puts every transaction over several shards into one order and sends each participant its part.
//! Parts run as they arrive, so all shards run them in the same order, and nobody locks.
//!
//! What was seen of number n may be told to a client only once everything up to n has arrived everywhere, its own
//! parts or not: before that, another shard could still answer as if n, or something before n, had not been.

use crate::model::{Four, Message, OpId, Table, owner};
use crate::node::Node;
use std::collections::VecDeque;

pub struct Sequencer {
    /// Core 0: the last number given.
    number: u64,
    /// Core 0: by shard, the numbers sent to it that have not arrived.
    under_way: Vec<VecDeque<u64>>,
    settled: u64,
    /// Any core: what has arrived in this turn.
    arrived: usize,
}

impl Sequencer {
    pub fn new(shards: usize) -> Self {
        Sequencer { number: 0, under_way: vec![VecDeque::new(); shards], settled: 0, arrived: 0 }
    }
    pub fn arrived(&mut self, shard: usize, count: usize) {
        self.under_way[shard].drain(..count);
    }
}

impl Node {
    /// On core 0.
    pub fn order(&mut self, op: OpId, keys: Four) {
        self.sequencer.number += 1;
        let number = self.sequencer.number;
        let mut parts: Table<u64, Four> = Table::default();
        for key in keys.as_slice() {
            parts.entry(owner(*key, self.shared.load.shards) as u64).or_default().push(*key);
        }
        for (shard, keys) in parts {
            if shard == 0 {
                self.execute(op, keys, number);
            } else {
                self.sequencer.under_way[shard as usize].push_back(number);
                self.lanes.send(shard as usize, Message::Ordered { op, number, keys });
            }
        }
    }

    pub fn arrive(&mut self, op: OpId, number: u64, keys: Four) {
        self.sequencer.arrived += 1;
        self.execute(op, keys, number);
    }

    /// One word per turn about what has arrived, and from core 0 one to each about what has arrived everywhere.
    pub fn end_sequencer_turn(&mut self) {
        let arrived = std::mem::take(&mut self.sequencer.arrived);
        if arrived > 0 {
            self.lanes.send(0, Message::Arrived(arrived));
        }
        let oldest = self.sequencer.under_way.iter().filter_map(|numbers| numbers.front()).min();
        let settled = oldest.map_or(self.sequencer.number, |oldest| oldest - 1);
        if self.own == 0 && settled > self.sequencer.settled {
            self.sequencer.settled = settled;
            (1..self.shared.load.shards).for_each(|to| self.lanes.send(to, Message::Settled(settled)));
            self.settled(settled);
        }
    }
}

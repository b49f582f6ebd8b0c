//! A shard's intents: a line of operations for each key that anybody holds or waits for.
//!
//! Lines are in the order of ranks, the same in all lines of a shard; a request stands in all of its lines or in none. It
//! is granted when it is first in all of them and nobody holds them. The rule that keeps cycles of waiting across
//! shards away is the design's: by age, by number, or none but the order of arrival.

use crate::model::{Design, Four, OpId, Rank, Request, Table};
use std::collections::VecDeque;

pub struct Intents {
    design: Design,
    lines: Table<u32, Line>,
    placed: Table<u64, Placed>,
    /// Ranks given by the shard itself, where the design wants it.
    arrivals: u64,
    number_max: u64,
    pub single_waits: u64,
}

#[derive(Default)]
struct Line {
    holder: Option<(Rank, OpId)>,
    /// By rank, lowest first.
    waiting: Vec<(Rank, OpId)>,
}

struct Placed {
    request: Request,
    held: bool,
    /// An older one has asked for it.
    wanted: bool,
}

/// What follows from a change, in this order.
pub enum Notice {
    /// Now, before anything else happens to its keys. It is in no line any more.
    Run(OpId, Four),
    Granted(OpId, u32),
    Yield(OpId, u32),
    Wanted(OpId, u32),
    Refused(OpId, u32),
}

impl Intents {
    pub fn new(design: Design) -> Self {
        let (lines, placed) = Default::default();
        Intents { design, lines, placed, arrivals: 0, number_max: 0, single_waits: 0 }
    }

    /// Puts a request into its lines, or runs it if nobody is there.
    pub fn place(&mut self, mut request: Request, notices: &mut VecDeque<Notice>) {
        request.rank = self.rank(&request);
        let rank = request.rank;
        let (mut free, mut behind_older, mut before_holder) = (true, false, false);
        for line in request.keys.as_slice().iter().filter_map(|key| self.lines.get(key)) {
            if let Some((holder, _)) = line.holder {
                free = false;
                behind_older |= holder < rank;
                before_holder |= holder > rank;
            }
            if line.waiting.first().is_some_and(|(first, _)| *first < rank) {
                free = false;
                behind_older = true;
            }
        }
        if before_holder && matches!(self.design, Design::Numbers | Design::NumbersShort) {
            return notices.push_back(Notice::Refused(request.op, request.tag));
        }
        if free && request.run {
            return notices.push_back(Notice::Run(request.op, request.keys));
        }
        self.single_waits += u64::from(request.single);
        self.overtake(&request, notices);
        if free {
            notices.push_back(Notice::Granted(request.op, request.tag));
        } else if behind_older && !request.alone && self.design == Design::Age {
            request.alone = true;
            request.run = false;
            notices.push_back(Notice::Yield(request.op, request.tag));
        }
        if before_holder && self.design == Design::GiveBack {
            self.want(&request, notices);
        }
        self.enter_lines(&request, free);
        self.placed.insert(request.op.raw(), Placed { request, held: free, wanted: false });
    }

    /// What is held is held no longer: its place is where its rank is.
    pub fn give_back(&mut self, op: OpId, notices: &mut VecDeque<Notice>) {
        let placed = self.placed.get_mut(&op.raw()).expect("who gives back is placed");
        assert!(placed.held, "nobody gives back what it hasn't got");
        (placed.held, placed.wanted) = (false, false);
        let request = placed.request;
        let mut next = VecDeque::new();
        for key in request.keys.as_slice() {
            self.lines.get_mut(key).expect("it is held").holder = None;
        }
        self.enter_lines(&request, false);
        request.keys.as_slice().iter().for_each(|key| self.next_in_line(*key, &mut next));
        self.promote(next, notices);
    }

    /// Whether it is still to run: if so, it won't.
    pub fn dont_run(&mut self, op: OpId) -> bool {
        let placed = self.placed.get_mut(&op.raw());
        placed.is_some_and(|placed| std::mem::take(&mut placed.request.run))
    }

    fn enter_lines(&mut self, request: &Request, as_holder: bool) {
        let me = (request.rank, request.op);
        for key in request.keys.as_slice() {
            let line = self.lines.entry(*key).or_default();
            if as_holder {
                line.holder = Some(me);
            } else {
                let at = line.waiting.partition_point(|other| *other < me);
                line.waiting.insert(at, me);
            }
        }
    }

    /// Younger ones hold what it asks for: they hear of it, once.
    fn want(&mut self, request: &Request, notices: &mut VecDeque<Notice>) {
        for key in request.keys.as_slice() {
            let Some((_, holder)) = self.lines.get(key).and_then(|line| line.holder) else { continue };
            let holder = self.placed.get_mut(&holder.raw()).expect("who holds is placed");
            if holder.request.rank > request.rank && !std::mem::replace(&mut holder.wanted, true) {
                notices.push_back(Notice::Wanted(holder.request.op, holder.request.tag));
            }
        }
    }

    pub fn is_placed(&self, op: OpId) -> bool {
        self.placed.contains_key(&op.raw())
    }

    /// Takes a request out of its lines, whether it held them or waited. Its keys.
    pub fn remove(&mut self, op: OpId, notices: &mut VecDeque<Notice>) -> Option<Four> {
        let Placed { request, held, wanted: _ } = self.placed.remove(&op.raw())?;
        let mut next = VecDeque::new();
        for key in request.keys.as_slice() {
            let line = self.lines.get_mut(key).expect("a placed request stands in all of its lines");
            if held {
                line.holder = None;
            } else {
                line.waiting.retain(|(_, other)| *other != op);
            }
            self.next_in_line(*key, &mut next);
        }
        self.promote(next, notices);
        Some(request.keys)
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.placed.is_empty()
    }

    fn rank(&mut self, request: &Request) -> Rank {
        self.arrivals += 1;
        match self.design {
            Design::Age | Design::GiveBack => request.rank,
            // An operation of this shard alone has no number: it goes behind all that have come.
            Design::Numbers | Design::NumbersShort if request.single => (self.number_max, 1 << 63 | self.arrivals),
            Design::Numbers | Design::NumbersShort => {
                self.number_max = self.number_max.max(request.rank.0);
                request.rank
            }
            Design::ShardOrder | Design::Sequencer | Design::Nothing | Design::SequencerAtOnce => (self.arrivals, 0),
        }
    }

    /// Younger ones that hold something elsewhere and are about to wait for an older one.
    fn overtake(&mut self, request: &Request, notices: &mut VecDeque<Notice>) {
        if self.design != Design::Age {
            return;
        }
        for key in request.keys.as_slice() {
            let Some(line) = self.lines.get(key) else { continue };
            for (_, younger) in line.waiting.iter().filter(|(rank, _)| *rank > request.rank) {
                let younger = &mut self.placed.get_mut(&younger.raw()).expect("who waits is placed").request;
                if !younger.alone {
                    younger.alone = true;
                    younger.run = false;
                    notices.push_back(Notice::Yield(younger.op, younger.tag));
                }
            }
        }
    }

    /// After somebody left the line of `key`.
    fn next_in_line(&mut self, key: u32, next: &mut VecDeque<OpId>) {
        let line = &self.lines[&key];
        match (line.holder, line.waiting.first()) {
            (None, Some((_, first))) => next.push_back(*first),
            (None, None) => drop(self.lines.remove(&key)),
            (Some(_), _) => {}
        }
    }

    fn promote(&mut self, mut next: VecDeque<OpId>, notices: &mut VecDeque<Notice>) {
        while let Some(op) = next.pop_front() {
            let Some(placed) = self.placed.get_mut(&op.raw()).filter(|placed| !placed.held) else { continue };
            let lines = &self.lines;
            let first = |key: &u32| lines[key].holder.is_none() && lines[key].waiting[0].1 == op;
            if !placed.request.keys.as_slice().iter().all(first) {
                continue;
            }
            let request = placed.request;
            placed.held = true;
            for key in request.keys.as_slice() {
                let line = self.lines.get_mut(key).expect("just looked at");
                line.waiting.remove(0);
                line.holder = (!request.run).then_some((request.rank, op));
                if request.run {
                    self.next_in_line(*key, &mut next);
                }
            }
            if request.run {
                self.placed.remove(&op.raw());
                notices.push_back(Notice::Run(op, request.keys));
            } else {
                notices.push_back(Notice::Granted(op, request.tag));
            }
        }
    }
}

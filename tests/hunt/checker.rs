//! Is a recorded history strictly serializable? Looks for a cycle among the operations: "must come before" edges out of
//! what was read, what was overwritten, and real time.
//!
//! Edges: A wrote the version that B found (saw); A found a version of a key that B overwrote (missed); A's write of a key
//! lies before the write that B made (replaced); A had returned before B was sent (time); A was sent before B on one
//! connection (program). The versions of a key are ordered by what operations found when they wrote: APPEND's list and
//! GETSET say so directly. Where that leaves two writes unordered, an order that follows from edges already known is
//! added, until nothing new follows: with R having found W's version and X another writer of the key, W before X implies
//! R before X, and X before R implies X before W.
//!
//! Sound: a cycle is an anomaly, because each edge holds in every order that explains the history. Complete where every
//! version is read or built upon, as with APPEND; for blind SETs the implied order is all that polynomial time gives, and
//! a history may pass although no order of all its operations exists. `search` decides that, at a price. Not used here:
//! counts and conditions that name no version (MSETNX = 0, DEL of several), and keys that a value was moved to unread.

use super::footprint::{Left, Seen, Touch, footprint};
use super::history::{History, NIL, Version};
use super::model::Key;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The anomaly of a history, told for a reader; `None` when no cycle was found.
pub fn check(history: &History) -> Option<String> {
    let mut history = history.clone();
    match Graph::new(&mut history) {
        Ok(mut graph) => graph.saturate().map(|cycle| graph.tell(&cycle)),
        Err(told) => Some(told),
    }
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Saw(Key, Version),
    Missed(Key, Version),
    /// Because this later node found what the next one had left.
    Replaced(Key, usize),
    Program,
    /// Into and out of points in time; see `add_time`.
    Returned,
    Sent,
    Later,
}

struct Graph<'h> {
    history: &'h History,
    /// Operation of each node; the first is the empty store before everything, the last ones are points in time.
    op_of: Vec<Option<usize>>,
    edges: Vec<Vec<(usize, Why)>>,
    /// Writers and overwritten versions, by key.
    keys: BTreeMap<Key, Trace>,
}

#[derive(Default)]
struct Trace {
    writers: Vec<usize>,
    /// Nodes that left this version behind, and that had it in between.
    left: HashMap<Version, Vec<usize>>,
    between: HashMap<Version, usize>,
    finders: Vec<(usize, Version)>,
    /// Something unknown was written: no version has a certain writer.
    murky: bool,
}

const EMPTY_STORE: usize = 0;

impl<'h> Graph<'h> {
    fn new(history: &'h mut History) -> Result<Graph<'h>, String> {
        let seen = Seen::new(&history.ops, &history.versions);
        if let Some((one, other)) = seen.contradiction {
            let (one, other) = (history.versions.show(one), history.versions.show(other));
            return Err(format!("one append was seen in two places: {one} and {other}"));
        }
        let mut touches = Vec::new();
        for index in 0..history.ops.len() {
            let happened = history.ops[index].certain || {
                let mut tokens = history.ops[index].calls.iter().flat_map(|(call, _)| call.tokens());
                tokens.any(|token| seen.of(token).is_some())
            };
            let touched = footprint(&history.ops[index], &seen, &mut history.versions);
            let touched = touched.map_err(|why| format!("{}\n  {why}", history.show(index)))?;
            touches.push((happened, touched));
        }
        let is_seen = |version| history.versions.parent(version).is_none_or(|(_, token)| seen.of(token).is_some());
        // Whoever can't be shown to have happened still may have: as a candidate for a value that it moved or removed.
        let maybe = touches.iter().filter(|(happened, _)| !happened).flat_map(|(_, touched)| touched);
        let murky = maybe.filter(|(_, touch)| match touch.left {
            Left::AsFound | Left::Unseen => false,
            Left::Wrote(version) => is_seen(version),
            Left::Anything => true,
        });
        let murky = murky.map(|(key, _)| *key).collect::<Vec<_>>();
        let mut graph = Graph { history, op_of: vec![None], edges: vec![Vec::new()], keys: BTreeMap::new() };
        for key in 0..graph.history.keys.len() {
            let trace = graph.keys.entry(key as Key).or_default();
            trace.writers.push(EMPTY_STORE);
            trace.left.insert(NIL, vec![EMPTY_STORE]);
            trace.murky = murky.contains(&(key as Key));
        }
        graph.add_touches(touches);
        graph.add_program_order();
        graph.add_time();
        graph.add_finds()?;
        Ok(graph)
    }

    fn add_touches(&mut self, touches: Vec<(bool, BTreeMap<Key, Touch>)>) {
        for (op, (happened, touched)) in touches.into_iter().enumerate() {
            if !happened {
                continue;
            }
            let node = self.op_of.len();
            self.op_of.push(Some(op));
            self.edges.push(Vec::new());
            self.edges[EMPTY_STORE].push((node, Why::Later));
            for (key, touch) in touched {
                let trace = self.keys.get_mut(&key).expect("every key has a trace");
                trace.between.extend(touch.between.into_iter().map(|version| (version, node)));
                trace.finders.extend(touch.found.map(|version| (node, version)));
                match touch.left {
                    Left::AsFound => continue,
                    Left::Wrote(version) => trace.left.entry(version).or_default().push(node),
                    Left::Unseen => {}
                    Left::Anything => trace.murky = true,
                }
                trace.writers.push(node);
            }
        }
    }

    fn add_program_order(&mut self) {
        let mut last: HashMap<u32, usize> = HashMap::new();
        for node in 1..self.op_of.len() {
            let op = &self.history.ops[self.op_of[node].expect("only operations so far")];
            if let Some(before) = last.insert(op.session, node) {
                self.edges[before].push((node, Why::Program));
            }
        }
    }

    /// "A had returned before B was sent" for all pairs by a chain of points in time: A, the first point after its end,
    /// later points, the last one before B's start, B. So the edges stay linear in the number of operations.
    fn add_time(&mut self) {
        let mut moments = Vec::new();
        for node in 1..self.op_of.len() {
            let op = &self.history.ops[self.op_of[node].expect("only operations so far")];
            moments.push((op.start, false, node));
            if op.end != u64::MAX {
                moments.push((op.end, true, node));
            }
        }
        // At the same time: sent first, so that a tie orders nothing.
        moments.sort_unstable();
        let (mut point, mut returned) = (None, Vec::new());
        for (_, is_end, node) in moments {
            if is_end {
                returned.push(node);
                continue;
            }
            if !returned.is_empty() {
                let next = self.op_of.len();
                self.op_of.push(None);
                self.edges.push(Vec::new());
                if let Some(point) = point.replace(next) {
                    self.edges[point].push((next, Why::Later));
                }
                returned.drain(..).for_each(|node| self.edges[node].push((next, Why::Returned)));
            }
            if let Some(point) = point {
                self.edges[point].push((node, Why::Sent));
            }
        }
    }

    /// Edges that follow from one find: from its writer, and to those who found the same and overwrote it.
    fn add_finds(&mut self) -> Result<(), String> {
        for (key, trace) in &self.keys {
            let mut successors: HashMap<Version, Vec<usize>> = HashMap::new();
            let writers = trace.writers.iter().collect::<std::collections::HashSet<_>>();
            for (node, version) in trace.finders.iter().filter(|(node, _)| writers.contains(node)) {
                successors.entry(*version).or_default().push(*node);
            }
            for &(node, version) in &trace.finders {
                let Some(writer) = trace.writer_of(version, node).map_err(|why| {
                    let shown = self.history.show(self.op_of[node].expect("only operations find"));
                    let (key, version) = (self.history.key(*key), self.history.versions.show(version));
                    let other = why.and_then(|node| self.op_of[node]).map(|op| self.history.show(op));
                    match other {
                        Some(other) => format!("{shown}\n  saw {key} = {version} from the middle of\n{other}"),
                        None => format!("{shown}\n  saw {key} = {version}, which nobody wrote"),
                    }
                })?
                else {
                    continue;
                };
                if writer != EMPTY_STORE && writer != node {
                    self.edges[writer].push((node, Why::Saw(*key, version)));
                }
                for &next in successors.get(&version).into_iter().flatten().filter(|next| **next != node) {
                    self.edges[node].push((next, Why::Missed(*key, version)));
                }
            }
        }
        Ok(())
    }

    /// Adds what follows from what is known until nothing does. The cycle, when there is one.
    fn saturate(&mut self) -> Option<Vec<(usize, Why)>> {
        loop {
            let order = match self.topological_order() {
                Ok(order) => order,
                Err(rest) => return Some(self.shortest_cycle(&rest)),
            };
            let reach = Reach::new(&self.edges, &order);
            let (mut missed, mut replaced) = (Vec::new(), Vec::new());
            for (key, trace) in &self.keys {
                for &(reader, version) in &trace.finders {
                    let Ok(Some(writer)) = trace.writer_of(version, reader) else { continue };
                    for &other in trace.writers.iter().filter(|other| **other != writer && **other != reader) {
                        if reach.has(writer, other) && !reach.has(reader, other) {
                            missed.push((reader, other, Why::Missed(*key, version)));
                        }
                        if reach.has(other, reader) && !reach.has(other, writer) {
                            replaced.push((other, writer, Why::Replaced(*key, reader)));
                        }
                    }
                }
            }
            // What was missed makes the better story, so it gets the first chance of closing a cycle.
            let found = if missed.is_empty() { replaced } else { missed };
            if found.is_empty() {
                return None;
            }
            found.into_iter().for_each(|(from, to, why)| self.edges[from].push((to, why)));
        }
    }

    /// All nodes, each after those with edges to it; or the nodes that no such order has room for.
    fn topological_order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut incoming = vec![0u32; self.edges.len()];
        self.edges.iter().flatten().for_each(|(to, _)| incoming[*to] += 1);
        let mut order = (0..self.edges.len()).filter(|node| incoming[*node] == 0).collect::<Vec<_>>();
        let mut at = 0;
        while at < order.len() {
            for (to, _) in &self.edges[order[at]] {
                incoming[*to] -= 1;
                if incoming[*to] == 0 {
                    order.push(*to);
                }
            }
            at += 1;
        }
        if order.len() == self.edges.len() {
            return Ok(order);
        }
        Err((0..self.edges.len()).filter(|node| incoming[*node] > 0).collect())
    }

    /// With the fewest operations in it. `rest` holds all cycles there are.
    fn shortest_cycle(&self, rest: &[usize]) -> Vec<(usize, Why)> {
        const STARTS_MAX: usize = 500;
        let within = rest.iter().copied().collect::<std::collections::HashSet<_>>();
        let starts = rest.iter().filter(|node| self.op_of[**node].is_some()).take(STARTS_MAX);
        let cycles = starts.filter_map(|start| self.cycle_through(*start, &within));
        // No cycle is made of points in time alone, and 500 starts downstream of it all would be a strange graph.
        cycles.min_by_key(Vec::len).unwrap_or_default()
    }

    fn cycle_through(&self, start: usize, within: &std::collections::HashSet<usize>) -> Option<Vec<(usize, Why)>> {
        let mut came_from: HashMap<usize, (usize, Why)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for &(to, why) in self.edges[node].iter().filter(|(to, _)| within.contains(to)) {
                if to == start {
                    let mut cycle = vec![(node, why)];
                    while cycle.last().expect("it was just made").0 != start {
                        cycle.push(came_from[&cycle.last().expect("it was just made").0]);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if to != EMPTY_STORE && !came_from.contains_key(&to) {
                    came_from.insert(to, (node, why));
                    // The chain through time costs nothing: only operations count.
                    match why {
                        Why::Later | Why::Sent => queue.push_front(to),
                        Why::Saw(..) | Why::Missed(..) | Why::Replaced(..) => queue.push_back(to),
                        Why::Program | Why::Returned => queue.push_back(to),
                    }
                }
            }
        }
        None
    }

    fn tell(&self, cycle: &[(usize, Why)]) -> String {
        let mut text = String::from("a cycle: each must have come before the next, and the last before the first\n");
        for (node, why) in cycle {
            if let Some(op) = self.op_of[*node] {
                text += &format!("{}\n", self.history.show(op));
            }
            let key = |key: &Key| self.history.key(*key);
            let shown = |version: &Version| self.history.versions.show(*version);
            match why {
                Why::Saw(k, version) => text += &format!("  wrote {} = {}, found by\n", key(k), shown(version)),
                Why::Missed(k, version) => {
                    text += &format!("  found {} = {}, not yet what was written by\n", key(k), shown(version));
                }
                Why::Replaced(k, later) => {
                    let later = self.op_of[*later].map(|op| self.history.show(op)).unwrap_or_default();
                    text += &format!(
                        "  wrote {}, and a later one,\n  ({later})\n  still found what was left there by\n",
                        key(k)
                    );
                }
                Why::Program => text += "  was sent, on the same connection, before\n",
                Why::Returned => text += "  had returned before the sending of\n",
                Why::Sent | Why::Later => {}
            }
        }
        text
    }
}

impl Trace {
    /// Who left `version` for `reader` to find: `None` when that isn't certain, `Err` when nobody can have, with who had
    /// it in between.
    fn writer_of(&self, version: Version, reader: usize) -> Result<Option<usize>, Option<usize>> {
        if self.murky {
            return Ok(None);
        }
        match self.left.get(&version).map(Vec::as_slice) {
            Some([writer]) if *writer == reader => Err(None),
            Some([writer]) => Ok(Some(*writer)),
            Some(_) => Ok(None),
            None => Err(self.between.get(&version).copied()),
        }
    }
}

/// Which nodes can be reached from which, as a table of bits.
struct Reach {
    words: usize,
    bits: Vec<u64>,
}

impl Reach {
    fn new(edges: &[Vec<(usize, Why)>], order: &[usize]) -> Reach {
        let words = edges.len().div_ceil(64);
        let mut reach = Reach { words, bits: vec![0; words * edges.len()] };
        let mut row = vec![0; words];
        for &node in order.iter().rev() {
            row.fill(0);
            for &(to, _) in &edges[node] {
                // Whoever is already in was taken with everything behind it.
                if row[to / 64] >> (to % 64) & 1 == 0 {
                    row[to / 64] |= 1 << (to % 64);
                    let behind = &reach.bits[to * words..][..words];
                    row.iter_mut().zip(behind).for_each(|(word, more)| *word |= more);
                }
            }
            reach.bits[node * words..][..words].copy_from_slice(&row);
        }
        reach
    }

    fn has(&self, from: usize, to: usize) -> bool {
        self.bits[from * self.words + to / 64] >> (to % 64) & 1 == 1
    }
}

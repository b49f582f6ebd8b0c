//! Unions, intersections and differences of sorted sets and sets (whose members have the score 1).

use super::super::elements::integer_within;
use super::{ranges, reply_elements};
use crate::call::Call;
use crate::error::{CommandError, CommandResult, SYNTAX, WRONG_TYPE};
use crate::numbers::{integer, parse_float};
use crate::types::set::SetRef;
use crate::types::sorted_set::SortedSetRef;
use crate::types::{CollectionRef, View};
use std::collections::BTreeMap;

/// Members and scores that are not in order yet.
type Scores = BTreeMap<Vec<u8>, f64>;

#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(SetRef<'a>),
    SortedSet(SortedSetRef<'a>),
}

impl Source<'_> {
    fn len(self) -> usize {
        match self {
            Source::Missing => 0,
            Source::Set(set) => set.len(),
            Source::SortedSet(set) => set.len(),
        }
    }
    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Missing => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::SortedSet(set) => set.score(member),
        }
    }
    fn visit(self, visit: &mut dyn FnMut(f64, &[u8]) -> bool) {
        match self {
            Source::Missing => {}
            Source::Set(set) => set.visit(&mut |member| visit(1.0, member)),
            Source::SortedSet(set) => set.visit(0..set.len(), false, &mut |score, member| visit(score, member)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            // The sum of both infinities is 0 to Redis.
            Aggregate::Sum => number(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What is asked for, with the sources looked up.
struct Query<'a> {
    /// Each with its weight.
    sources: Vec<(Source<'a>, f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Of ZINTERCARD.
    limit: usize,
}

/// Which options a command has besides its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Elements,
    Store,
    Count,
}

impl<'a> Query<'a> {
    /// The number of keys is at argument `at`.
    fn parse(call: &'a Call<'_>, at: usize, operation: Operation, reply: Reply) -> Result<Query<'a>, CommandError> {
        let args = call.args;
        let numkeys = integer(args.at(at))?;
        if numkeys < 1 {
            return Err(CommandError::owned(format!("ERR at least 1 input key is needed for '{}' command", call.name)));
        }
        if numkeys as u64 > (args.len() - at - 1) as u64 {
            return Err(SYNTAX);
        }
        let end = at + 1 + numkeys as usize;
        let sources = (at + 1..end).map(|at| Ok((source(call, args.at(at))?, 1.0)));
        let sources = sources.collect::<Result<Vec<_>, CommandError>>()?;
        let mut query = Query { sources, aggregate: Aggregate::Sum, with_scores: false, limit: usize::MAX };
        let weighs = operation != Operation::Difference && reply != Reply::Count;
        let mut at = end;
        while at < args.len() {
            if weighs && args.is(at, "weights") && args.len() - at > query.sources.len() {
                for (_, weight) in &mut query.sources {
                    at += 1;
                    *weight = parse_float(args.at(at)).ok_or(CommandError::new("ERR weight value is not a float"))?;
                }
            } else if weighs && args.is(at, "aggregate") && at + 1 < args.len() {
                at += 1;
                query.aggregate = match () {
                    _ if args.is(at, "sum") => Aggregate::Sum,
                    _ if args.is(at, "min") => Aggregate::Min,
                    _ if args.is(at, "max") => Aggregate::Max,
                    _ => return Err(SYNTAX),
                };
            } else if reply == Reply::Elements && args.is(at, "withscores") {
                query.with_scores = true;
            } else if reply == Reply::Count && args.is(at, "limit") && at + 1 < args.len() {
                at += 1;
                let limit = integer_within(args.at(at), 0, i64::MAX, Some("ERR LIMIT can't be negative"))?;
                query.limit = if limit == 0 { usize::MAX } else { limit as usize };
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        Ok(query)
    }
    fn run(mut self, operation: Operation) -> Vec<(f64, Vec<u8>)> {
        if operation != Operation::Difference {
            // Small ones first, as in Redis: the order in which scores are added shows in the last digits.
            self.sources.sort_by_key(|(source, _)| source.len());
        }
        let scores = match operation {
            Operation::Union => self.union(),
            Operation::Intersection => self.intersection(),
            Operation::Difference => self.difference(),
        };
        let mut elements: Vec<(f64, Vec<u8>)> = scores.into_iter().map(|(member, score)| (score, member)).collect();
        elements.sort_by(|a, b| a.partial_cmp(b).expect("scores are numbers"));
        elements
    }
    fn union(&self) -> Scores {
        let mut scores = Scores::new();
        for (source, weight) in &self.sources {
            source.visit(&mut |score, member| {
                let score = number(score * weight);
                match scores.get_mut(member) {
                    Some(old) => *old = self.aggregate.apply(*old, score),
                    None => drop(scores.insert(member.to_vec(), score)),
                }
                true
            });
        }
        scores
    }
    fn intersection(&self) -> Scores {
        let mut scores = Scores::new();
        let (first, weight) = self.sources[0];
        first.visit(&mut |score, member| {
            let first = Some(number(score * weight));
            let all = self.sources[1..].iter().fold(first, |all, (source, weight)| {
                // No number, it makes a sum 0, as in Redis; the first is 0 before that.
                let score = source.score(member)? * weight;
                all.map(|all| self.aggregate.apply(all, score))
            });
            if let Some(score) = all {
                scores.insert(member.to_vec(), score);
            }
            scores.len() < self.limit
        });
        scores
    }
    fn difference(&self) -> Scores {
        let mut scores = Scores::new();
        self.sources[0].0.visit(&mut |score, member| {
            if self.sources[1..].iter().all(|(source, _)| source.score(member).is_none()) {
                scores.insert(member.to_vec(), score);
            }
            true
        });
        scores
    }
}

fn source<'c>(call: &'c Call<'_>, key: &[u8]) -> Result<Source<'c>, CommandError> {
    let Some(entry) = call.keyspace.get(call.db, key, call.now) else { return Ok(Source::Missing) };
    match entry.collection()? {
        CollectionRef::Set(set) => Ok(Source::Set(set)),
        CollectionRef::SortedSet(set) => Ok(Source::SortedSet(set)),
        CollectionRef::Hash(_) | CollectionRef::List(_) | CollectionRef::Stream(_) => Err(WRONG_TYPE),
    }
}

fn reply(call: &mut Call<'_>, operation: Operation) -> CommandResult {
    let query = Query::parse(call, 1, operation, Reply::Elements)?;
    let with_scores = query.with_scores;
    let elements = query.run(operation);
    reply_elements(call, &elements, with_scores);
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation) -> CommandResult {
    let elements = Query::parse(call, 2, operation, Reply::Store)?.run(operation);
    ranges::store(call, &elements)
}

pub(super) fn zunion(call: &mut Call<'_>) -> CommandResult {
    reply(call, Operation::Union)
}

pub(super) fn zinter(call: &mut Call<'_>) -> CommandResult {
    reply(call, Operation::Intersection)
}

pub(super) fn zdiff(call: &mut Call<'_>) -> CommandResult {
    reply(call, Operation::Difference)
}

pub(super) fn zunionstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Union)
}

pub(super) fn zinterstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Intersection)
}

pub(super) fn zdiffstore(call: &mut Call<'_>) -> CommandResult {
    store(call, Operation::Difference)
}

/// `ZINTERCARD numkeys key [key ...] [LIMIT limit]`
pub(super) fn zintercard(call: &mut Call<'_>) -> CommandResult {
    let query = Query::parse(call, 1, Operation::Intersection, Reply::Count)?;
    let count = query.run(Operation::Intersection).len();
    call.reply.integer(count as i64);
    Ok(())
}

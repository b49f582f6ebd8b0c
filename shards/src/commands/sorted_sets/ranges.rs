//! Ranges of sorted sets: by rank, by score, by member.

use super::{between, collect, read, read_to_write, remove_ranks, reply_elements};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::NewDeadline;
use crate::numbers::{integer, parse_float};
use crate::types::sorted_set::{Bound, SortedSetChange, SortedSetRef};
use crate::types::{Kind, View};
use std::ops::Range;

const NOT_A_SCORE: CommandError = CommandError::new("ERR min or max is not a float");
const NOT_A_MEMBER: CommandError = CommandError::new("ERR min or max not valid string range item");

/// What a range is given by, as clients wrote it, the lower end first.
#[derive(Clone, Copy)]
enum Span<'a> {
    Ranks(i64, i64),
    Scores(Limit<f64>, Limit<f64>),
    Members(MemberLimit<'a>, MemberLimit<'a>),
}

#[derive(Clone, Copy)]
struct Limit<T> {
    value: T,
    excluded: bool,
}

#[derive(Clone, Copy)]
enum MemberLimit<'a> {
    /// `-`
    Least,
    /// `+`
    Greatest,
    At(Limit<&'a [u8]>),
}

fn parse_score(arg: &[u8]) -> Result<Limit<f64>, CommandError> {
    let (excluded, text) = match arg {
        [b'(', rest @ ..] => (true, rest),
        _ => (false, arg),
    };
    // No digits at all are 0 to Redis here, and an error everywhere else.
    let value = if text.is_empty() { 0.0 } else { parse_float(text).ok_or(NOT_A_SCORE)? };
    Ok(Limit { value, excluded })
}

fn parse_member(arg: &[u8]) -> Result<MemberLimit<'_>, CommandError> {
    match arg {
        [b'-'] => Ok(MemberLimit::Least),
        [b'+'] => Ok(MemberLimit::Greatest),
        [b'(', value @ ..] => Ok(MemberLimit::At(Limit { value, excluded: true })),
        [b'[', value @ ..] => Ok(MemberLimit::At(Limit { value, excluded: false })),
        _ => Err(NOT_A_MEMBER),
    }
}

impl<'a> Span<'a> {
    fn ranks(first: &[u8], last: &[u8]) -> Result<Self, CommandError> {
        Ok(Span::Ranks(integer(first)?, integer(last)?))
    }
    fn scores(least: &[u8], greatest: &[u8]) -> Result<Self, CommandError> {
        Ok(Span::Scores(parse_score(least)?, parse_score(greatest)?))
    }
    fn members(least: &'a [u8], greatest: &'a [u8]) -> Result<Self, CommandError> {
        Ok(Span::Members(parse_member(least)?, parse_member(greatest)?))
    }
    /// The ranks it covers; of ranks that are counted from the highest score, if so.
    fn resolve(self, set: SortedSetRef<'_>, backwards: bool) -> Range<usize> {
        let len = set.len();
        match self {
            Span::Ranks(first, last) => {
                let resolve = |rank: i64| if rank < 0 { rank.saturating_add(len as i64) } else { rank };
                let (first, last) = (resolve(first).max(0), resolve(last).min(len as i64 - 1));
                if first > last {
                    return 0..0;
                }
                let (first, end) = (first as usize, last as usize + 1);
                if backwards { len - end..len - first } else { first..end }
            }
            Span::Scores(least, greatest) => {
                let from = Bound::Score { score: least.value, behind: least.excluded };
                let to = Bound::Score { score: greatest.value, behind: !greatest.excluded };
                between(set, Some(from), Some(to))
            }
            Span::Members(least, greatest) => {
                let from = match least {
                    MemberLimit::Least => None,
                    MemberLimit::Greatest => return 0..0,
                    MemberLimit::At(limit) => Some(Bound::Member { member: limit.value, behind: limit.excluded }),
                };
                let to = match greatest {
                    MemberLimit::Least => return 0..0,
                    MemberLimit::Greatest => None,
                    MemberLimit::At(limit) => Some(Bound::Member { member: limit.value, behind: !limit.excluded }),
                };
                between(set, from, to)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// A range command with its options.
struct Query<'a> {
    span: Span<'a>,
    backwards: bool,
    with_scores: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
}

impl<'a> Query<'a> {
    /// The ends are the first two of `args`, options follow. `by` and `backwards` where the command's name says so.
    fn parse(
        args: &Args<'a>,
        by: Option<By>,
        backwards: Option<bool>,
        stores: bool,
    ) -> Result<Query<'a>, CommandError> {
        const LIMIT_OF_RANKS: CommandError =
            CommandError::new("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
        const SCORES_BY_LEX: CommandError =
            CommandError::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        let (mut found_by, mut found_backwards) = (by, backwards);
        let (mut with_scores, mut limit) = (false, None);
        let mut at = 2;
        while at < args.len() {
            if !stores && args.is(at, "withscores") {
                with_scores = true;
            } else if args.is(at, "limit") && at + 2 < args.len() {
                limit = Some((integer(args.at(at + 1))?, integer(args.at(at + 2))?));
                at += 2;
            } else if backwards.is_none() && args.is(at, "rev") {
                found_backwards = Some(true);
            } else if by.is_none() && args.is(at, "bylex") {
                found_by = Some(By::Member);
            } else if by.is_none() && args.is(at, "byscore") {
                found_by = Some(By::Score);
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        let (by, backwards) = (found_by.unwrap_or(By::Rank), found_backwards.unwrap_or(false));
        if limit.is_some_and(|(_, count)| count != -1) && by == By::Rank {
            return Err(LIMIT_OF_RANKS);
        }
        if with_scores && by == By::Member {
            return Err(SCORES_BY_LEX);
        }
        // Backwards, the greater end is named first.
        let (least, greatest) = if backwards && by != By::Rank { (1, 0) } else { (0, 1) };
        let (least, greatest) = (args.at(least), args.at(greatest));
        let span = match by {
            By::Rank => Span::ranks(least, greatest)?,
            By::Score => Span::scores(least, greatest)?,
            By::Member => Span::members(least, greatest)?,
        };
        let (offset, count) = limit.unwrap_or((0, -1));
        Ok(Query { span, backwards, with_scores, offset, count })
    }
    fn run(&self, set: SortedSetRef<'_>) -> Vec<(f64, Vec<u8>)> {
        let mut ranks = self.span.resolve(set, self.backwards);
        let len = ranks.len();
        // An offset below 0 never ends being skipped.
        let skipped = usize::try_from(self.offset).map_or(len, |offset| offset.min(len));
        let kept = usize::try_from(self.count).map_or(len - skipped, |count| count.min(len - skipped));
        ranks = if self.backwards {
            ranks.end - skipped - kept..ranks.end - skipped
        } else {
            ranks.start + skipped..ranks.start + skipped + kept
        };
        collect(set, ranks, self.backwards)
    }
}

fn reply_range(call: &mut Call<'_>, by: Option<By>, backwards: Option<bool>) -> CommandResult {
    let query = Query::parse(&call.args.from(2), by, backwards, false)?;
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let found = set.map_or(Vec::new(), |set| query.run(set));
    reply_elements(call, &found, query.with_scores);
    Ok(())
}

pub(super) fn zrange(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, None, None)
}

pub(super) fn zrevrange(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, Some(By::Rank), Some(true))
}

pub(super) fn zrangebyscore(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, Some(By::Score), Some(false))
}

pub(super) fn zrevrangebyscore(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, Some(By::Score), Some(true))
}

pub(super) fn zrangebylex(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, Some(By::Member), Some(false))
}

pub(super) fn zrevrangebylex(call: &mut Call<'_>) -> CommandResult {
    reply_range(call, Some(By::Member), Some(true))
}

pub(super) fn zrangestore(call: &mut Call<'_>) -> CommandResult {
    let query = Query::parse(&call.args.from(3), None, None, true)?;
    let set = read(call.keyspace, call.db, call.args.at(2), call.now)?;
    let found = set.map_or(Vec::new(), |set| query.run(set));
    store(call, &found)
}

/// Keeps elements at argument 1, in place of whatever is there.
pub(super) fn store(call: &mut Call<'_>, elements: &[(f64, Vec<u8>)]) -> CommandResult {
    let mut changes = Vec::new();
    for (score, member) in elements {
        SortedSetChange::Put { score: *score, member }.encode(&mut changes);
    }
    replace(call, call.args.at(1), &changes);
    call.reply.integer(elements.len() as i64);
    Ok(())
}

/// Puts what changes make of nothing at a key, in place of whatever is there.
pub(in super::super) fn replace(call: &mut Call<'_>, key: &[u8], changes: &[u8]) {
    if !changes.is_empty() {
        call.keyspace.put_collection(call.db, key, Kind::SortedSet, changes, NewDeadline::None);
    } else if call.keyspace.peek(call.db, key, call.now).is_some() {
        call.keyspace.remove(call.db, key);
    }
}

fn count(call: &mut Call<'_>, span: Span<'_>) -> CommandResult {
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let count = set.map_or(0, |set| span.resolve(set, false).len());
    call.reply.integer(count as i64);
    Ok(())
}

pub(super) fn zcount(call: &mut Call<'_>) -> CommandResult {
    let span = Span::scores(call.args.at(2), call.args.at(3))?;
    count(call, span)
}

pub(super) fn zlexcount(call: &mut Call<'_>) -> CommandResult {
    let span = Span::members(call.args.at(2), call.args.at(3))?;
    count(call, span)
}

fn remove(call: &mut Call<'_>, span: Span<'_>) -> CommandResult {
    let key = call.args.at(1);
    let set = read_to_write(call.keyspace, call.db, key, call.now)?;
    let (ranks, len) = set.map_or((0..0, 0), |set| (span.resolve(set, false), set.len()));
    call.reply.integer(ranks.len() as i64);
    remove_ranks(call, key, ranks, len);
    Ok(())
}

pub(super) fn zremrangebyrank(call: &mut Call<'_>) -> CommandResult {
    let span = Span::ranks(call.args.at(2), call.args.at(3))?;
    remove(call, span)
}

pub(super) fn zremrangebyscore(call: &mut Call<'_>) -> CommandResult {
    let span = Span::scores(call.args.at(2), call.args.at(3))?;
    remove(call, span)
}

pub(super) fn zremrangebylex(call: &mut Call<'_>) -> CommandResult {
    let span = Span::members(call.args.at(2), call.args.at(3))?;
    remove(call, span)
}

pub(super) fn zrank(call: &mut Call<'_>) -> CommandResult {
    rank(call, false)
}

pub(super) fn zrevrank(call: &mut Call<'_>) -> CommandResult {
    rank(call, true)
}

/// `ZRANK key member [WITHSCORE]`
fn rank(call: &mut Call<'_>, backwards: bool) -> CommandResult {
    if call.args.len() > 4 {
        return Err(CommandError::wrong_arity(call.name));
    }
    let with_score = call.args.len() == 4;
    if with_score && !call.args.is(3, "withscore") {
        return Err(SYNTAX);
    }
    let member = call.args.at(2);
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let Some((set, score)) = set.and_then(|set| Some((set, set.score(member)?))) else {
        if with_score {
            call.reply.null_array();
        } else {
            call.reply.null();
        }
        return Ok(());
    };
    let rank = set.rank(&Bound::Element { score, member });
    let rank = if backwards { set.len() - 1 - rank } else { rank };
    if with_score {
        call.reply.array(2);
    }
    call.reply.integer(rank as i64);
    if with_score {
        call.reply.double(score);
    }
    Ok(())
}

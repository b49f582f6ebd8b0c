//! SORT and SORT_RO: the elements of a list, set or sorted set in an order, by themselves or by what other keys hold.
//!
//! BY and GET name keys that follow from the elements, which no row can tell. So they work where the shard that runs them has
//! those keys for certain, as `Limits::sight` says: on a server of one shard, or if a tag in the pattern puts all of them into the
//! slot of the key. The rule that must hold: a key that may be elsewhere is an error, never one that doesn't exist.

use crate::call::{Args, Call, Sight};
use crate::error::{CommandError, CommandResult, SYNTAX, WRONG_TYPE};
use crate::keyspace::{Entry, NewDeadline};
use crate::numbers::{integer, parse_float};
use crate::reply::Reply;
use crate::slot::slot_of;
use crate::types::list::ListChange;
use crate::types::{CollectionRef, Kind, View};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

const NO_SCORE: CommandError = CommandError::new("ERR One or more scores can't be converted into double");
const BY_DENIED: CommandError = CommandError::new(
    "ERR BY option of SORT denied with several shards when keys formed by the pattern may be on different ones.",
);
const GET_DENIED: CommandError = CommandError::new(
    "ERR GET option of SORT denied with several shards when keys formed by the pattern may be on different ones.",
);

pub(super) fn sort(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(&call.args, true)?;
    run(call, &options)
}

pub(super) fn sort_ro(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(&call.args, false)?;
    run(call, &options)
}

/// For the row: the key, and the one that STORE names last.
pub(super) fn find_keys(args: &Args<'_>, out: &mut Vec<usize>) -> bool {
    out.push(1);
    let (mut at, mut store) = (2, None);
    while at < args.len() {
        at += match () {
            () if args.is(at, "limit") => 3,
            () if args.is(at, "by") || args.is(at, "get") => 2,
            () if args.is(at, "store") && at + 1 < args.len() => {
                store = Some(at + 1);
                2
            }
            () => 1,
        };
    }
    out.extend(store);
    true
}

struct Options<'a> {
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    /// BY a pattern without `*`: they stay in the order they have.
    keeps_order: bool,
    descending: bool,
    alpha: bool,
    start: i64,
    count: i64,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, may_store: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options {
            by: None,
            get: Vec::new(),
            keeps_order: false,
            descending: false,
            alpha: false,
            start: 0,
            count: -1,
            store: None,
        };
        let mut at = 2;
        while at < args.len() {
            let (first, second) = (args.get(at + 1), args.get(at + 2));
            match (first, second) {
                _ if args.is(at, "asc") => options.descending = false,
                _ if args.is(at, "desc") => options.descending = true,
                _ if args.is(at, "alpha") => options.alpha = true,
                (Some(start), Some(count)) if args.is(at, "limit") => {
                    (options.start, options.count) = (integer(start)?, integer(count)?);
                    at += 2;
                }
                (Some(key), _) if may_store && args.is(at, "store") => {
                    options.store = Some(key);
                    at += 1;
                }
                (Some(pattern), _) if args.is(at, "by") => {
                    options.by = Some(Pattern::new(pattern));
                    options.keeps_order |= !pattern.contains(&b'*');
                    at += 1;
                }
                (Some(pattern), _) if args.is(at, "get") => {
                    options.get.push(Pattern::new(pattern));
                    at += 1;
                }
                _ => return Err(SYNTAX),
            }
            at += 1;
        }
        Ok(options)
    }
    /// An error unless the shard has all keys that the patterns may name.
    fn check_sight(&self, sight: Sight, key: &[u8]) -> CommandResult {
        let store_fits = self.store.is_none_or(|store| slot_of(store) == slot_of(key));
        let sees = |pattern: &Pattern<'_>| match sight {
            _ if !pattern.names_keys() => true,
            Sight::Everything => true,
            // With the other key elsewhere it would have come to a scratch keyspace.
            Sight::Shard => store_fits && pattern.slot() == Some(slot_of(key)),
            Sight::Named => false,
        };
        match () {
            () if !self.keeps_order && !self.by.iter().all(sees) => Err(BY_DENIED),
            () if !self.get.iter().all(sees) => Err(GET_DENIED),
            () => Ok(()),
        }
    }
    /// Which of `len` elements are asked for.
    fn range(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.start.max(0)).unwrap_or(usize::MAX).min(len);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX).min(len - start);
        start..start + count
    }
}

/// What BY or GET says: a name with the element in place of the first `*`, and perhaps a field of the hash there.
struct Pattern<'a> {
    whole: &'a [u8],
    /// Around the `*`, if there is one.
    around: Option<(&'a [u8], &'a [u8])>,
    field: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    fn new(whole: &'a [u8]) -> Self {
        let Some(star) = whole.iter().position(|&byte| byte == b'*') else {
            return Pattern { whole, around: None, field: None };
        };
        let (before, after) = (&whole[..star], &whole[star + 1..]);
        let arrow = after.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < after.len());
        match arrow {
            Some(at) => Pattern { whole, around: Some((before, &after[..at])), field: Some(&after[at + 2..]) },
            None => Pattern { whole, around: Some((before, after)), field: None },
        }
    }
    fn is_element(&self) -> bool {
        self.whole == b"#"
    }
    fn names_keys(&self) -> bool {
        self.around.is_some()
    }
    /// The slot of all keys it may name, if a tag before the element decides it.
    fn slot(&self) -> Option<u16> {
        let (before, _) = self.around?;
        let open = before.iter().position(|&byte| byte == b'{')?;
        let len = before[open + 1..].iter().position(|&byte| byte == b'}')?;
        (len > 0).then(|| slot_of(before))
    }
    /// What it stands for, with this element; `key` is room to make names in.
    fn value<'v>(&self, call: &'v Call<'_>, element: &'v [u8], key: &mut Vec<u8>) -> Option<Cow<'v, [u8]>> {
        if self.is_element() {
            return Some(Cow::Borrowed(element));
        }
        let (before, after) = self.around?;
        key.clear();
        [before, element, after].iter().for_each(|part| key.extend_from_slice(part));
        let entry = call.keyspace.get(call.db, key, call.now)?;
        match self.field {
            Some(field) => entry.hash().ok()?.at(call.now).get(field).map(Cow::Borrowed),
            None => Some(text(&entry)?),
        }
    }
}

fn text<'a>(entry: &Entry<'a>) -> Option<Cow<'a, [u8]>> {
    let value = entry.string().ok()?;
    Some(match value.as_integer() {
        Some(_) => Cow::Owned(value.to_bytes().into_owned()),
        None => value.to_bytes(),
    })
}

type Elements<'a> = Vec<Cow<'a, [u8]>>;

fn run(call: &mut Call<'_>, options: &Options<'_>) -> CommandResult {
    let key = call.args.at(1);
    options.check_sight(call.limits.sight, key)?;
    let mut out = Output { is_stored: options.store.is_some(), ..Output::default() };
    if let Some(entry) = call.keyspace.get(call.db, key, call.now) {
        let (elements, is_in_order) = elements(&entry, options)?;
        let range = options.range(elements.len());
        let elements = if is_in_order { elements } else { in_order(call, elements, options)? };
        let mut name = Vec::new();
        for element in &elements[range] {
            if options.get.is_empty() {
                out.push(call, Some(element));
            }
            for pattern in &options.get {
                out.push(call, pattern.value(call, element, &mut name).as_deref());
            }
        }
    }
    match options.store {
        None => {
            call.reply.array(out.count);
            call.reply.raw(&out.bytes);
        }
        Some(store) => {
            if out.count > 0 {
                call.keyspace.put_collection(call.db, store, Kind::List, &out.bytes, NewDeadline::None);
            } else if call.keyspace.peek(call.db, store, call.now).is_some() {
                call.keyspace.remove(call.db, store);
            }
            call.reply.integer(out.count as i64);
        }
    }
    Ok(())
}

/// Replies put aside, or the changes that make a list of them.
#[derive(Default)]
struct Output {
    is_stored: bool,
    bytes: Vec<u8>,
    count: usize,
}

impl Output {
    fn push(&mut self, call: &Call<'_>, value: Option<&[u8]>) {
        self.count += 1;
        if self.is_stored {
            ListChange::PushRight { value: value.unwrap_or_default() }.encode(&mut self.bytes);
            return;
        }
        let mut reply = Reply::new(&mut self.bytes, call.reply.protocol());
        match value {
            Some(value) => reply.bulk(value),
            None => reply.null(),
        }
    }
}

/// The elements, and whether they are in the order asked for.
fn elements<'a>(entry: &Entry<'a>, options: &Options<'_>) -> Result<(Elements<'a>, bool), CommandError> {
    let mut elements = Elements::new();
    let mut is_in_order = options.keeps_order;
    match entry.collection()? {
        CollectionRef::List(list) => elements.extend(list.iter().map(Cow::Borrowed)),
        CollectionRef::Set(set) => {
            elements.extend(set.members().into_iter().map(Cow::Owned));
            // What is stored of a set, which has no order, must not depend on how it is kept.
            is_in_order &= options.store.is_none();
        }
        CollectionRef::SortedSet(set) => {
            let backwards = options.keeps_order && options.descending;
            set.visit(0..set.len(), backwards, &mut |_, member| {
                elements.push(Cow::Borrowed(member));
                true
            });
        }
        CollectionRef::Hash(_) | CollectionRef::Stream(_) => return Err(WRONG_TYPE),
    }
    Ok((elements, is_in_order))
}

fn in_order<'a>(call: &Call<'_>, elements: Elements<'a>, options: &Options<'_>) -> Result<Elements<'a>, CommandError> {
    // A set that was to keep its order is sorted by its members.
    let by = options.by.as_ref().filter(|_| !options.keeps_order);
    let turned = |order: Ordering| if options.descending { order.reverse() } else { order };
    let mut name = Vec::new();
    if options.alpha || options.keeps_order {
        let Some(by) = by else {
            let mut elements = elements;
            elements.sort_unstable_by(|a, b| turned(a.cmp(b)));
            return Ok(elements);
        };
        let weight = |element: &Cow<'_, [u8]>, name: &mut Vec<u8>| by.value(call, element, name).map(Cow::into_owned);
        let weighed = elements.into_iter().map(|element| (weight(&element, &mut name), element));
        let mut weighed: Vec<_> = weighed.collect();
        weighed.sort_by(|(a, _), (b, _)| turned(a.cmp(b)));
        return Ok(weighed.into_iter().map(|(_, element)| element).collect());
    }
    let mut scored = Vec::with_capacity(elements.len());
    for element in elements {
        let score = match by {
            Some(by) => by.value(call, &element, &mut name).map_or(Some(0.0), |weight| score(&weight)),
            None => score(&element),
        };
        scored.push((score.ok_or(NO_SCORE)?, element));
    }
    let order = |a: &(f64, Cow<'_, [u8]>), b: &(f64, Cow<'_, [u8]>)| {
        a.0.partial_cmp(&b.0).expect("scores are numbers").then_with(|| a.1.cmp(&b.1))
    };
    scored.sort_unstable_by(|a, b| turned(order(a, b)));
    Ok(scored.into_iter().map(|(_, element)| element).collect())
}

/// As strtod reads it: with space before it, and nothing is 0.
fn score(text: &[u8]) -> Option<f64> {
    if text.is_empty() { Some(0.0) } else { parse_float(text.trim_ascii_start()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Span;
    use crate::commands::strings::tested::Shard;

    fn words(reply: &str) -> Vec<&str> {
        reply.split("\r\n").filter(|line| !line.starts_with(['*', '$']) && !line.is_empty()).collect()
    }

    #[test]
    fn elements_are_sorted_as_numbers_or_as_text() {
        let mut shard = Shard::new();
        shard.run("RPUSH l 10 9 -1 1.5 9");
        assert_eq!(words(&shard.run("SORT l")), ["-1", "1.5", "9", "9", "10"]);
        assert_eq!(words(&shard.run("SORT l DESC LIMIT 1 2")), ["9", "9"]);
        assert_eq!(words(&shard.run("SORT_RO l ALPHA")), ["-1", "1.5", "10", "9", "9"]);
        assert_eq!(shard.run("SORT l LIMIT 9 9"), "*0\r\n");
        assert_eq!(shard.run("SORT nope"), "*0\r\n");
        shard.run("RPUSH l x");
        assert_eq!(shard.run("SORT l"), "-ERR One or more scores can't be converted into double\r\n");
        assert_eq!(shard.run("SORT_RO l STORE m"), "-ERR syntax error\r\n");
    }

    #[test]
    fn patterns_name_other_keys_and_fields() {
        let mut shard = Shard::new();
        shard.run("SADD s a b c");
        shard.run("MSET w_a 3 w_b 1 w_c 2");
        shard.run("HSET h_a f A");
        assert_eq!(words(&shard.run("SORT s BY w_*")), ["b", "c", "a"]);
        assert_eq!(shard.run("SORT s BY w_* GET # GET h_*->f LIMIT 2 1"), "*2\r\n$1\r\na\r\n$1\r\nA\r\n");
        assert_eq!(shard.run("SORT s BY w_* GET h_*->f LIMIT 0 1"), "*1\r\n$-1\r\n");
        assert_eq!(shard.run("SORT s BY nosort STORE d"), ":3\r\n");
        assert_eq!(words(&shard.run("LRANGE d 0 -1")), ["a", "b", "c"]);
        assert_eq!(shard.run("SORT nope STORE d"), ":0\r\n");
        assert_eq!(shard.run("EXISTS d"), ":0\r\n");
    }

    #[test]
    fn the_order_of_a_sorted_set_stays_under_a_pattern_without_star() {
        let mut shard = Shard::new();
        shard.run("ZADD z 1 c 2 b 3 a");
        assert_eq!(words(&shard.run("SORT z BY x")), ["c", "b", "a"]);
        assert_eq!(words(&shard.run("SORT z BY x DESC LIMIT 0 2")), ["a", "b"]);
        assert_eq!(words(&shard.run("SORT z ALPHA")), ["a", "b", "c"]);
    }

    #[test]
    fn patterns_are_refused_where_their_keys_may_be_elsewhere() {
        let check = |sight, line: &str| {
            let buffer = line.replace(' ', "");
            let mut start = 0;
            let span = |word: &str| {
                let len = word.len() as u32;
                start += len;
                Span { start: start - len, len }
            };
            let spans: Vec<Span> = line.split(' ').map(span).collect();
            let args = Args::new(buffer.as_bytes(), &spans);
            let options = Options::parse(&args, true).expect("it has no mistakes");
            options.check_sight(sight, args.at(1)).is_ok()
        };
        for sight in [Sight::Everything, Sight::Shard, Sight::Named] {
            assert!(check(sight, "SORT k{t} BY nosort GET # STORE d"), "no other keys");
        }
        assert!(check(Sight::Everything, "SORT k BY w_* STORE d"));
        assert!(!check(Sight::Shard, "SORT k BY w_*"));
        assert!(!check(Sight::Shard, "SORT k{t} GET w_*->{t}"));
        assert!(!check(Sight::Shard, "SORT k{t} GET w_{*}"));
        assert!(check(Sight::Shard, "SORT k{t} BY w_{t}* GET {t}*->f STORE d{t}"));
        assert!(!check(Sight::Shard, "SORT k{t} BY w_{t}* STORE d{u}"), "runs on a scratch keyspace");
        assert!(!check(Sight::Named, "SORT k{t} BY w_{t}*"));
    }
}

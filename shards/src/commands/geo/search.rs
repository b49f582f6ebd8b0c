//! The members in an area: GEOSEARCH, GEOSEARCHSTORE, and GEORADIUS, GEORADIUSBYMEMBER with those of their forms that only
//! read. All have the same options, but for where the center and the size are, and whether the result can be kept.

use super::super::sorted_sets::{between, read, replace};
use super::{parse_point, parse_unit, reply_distance, reply_point};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::{integer, parse_float};
use crate::reply::Reply;
use crate::types::geo::{Cell, Point, Search, Shape, Unit};
use crate::types::sorted_set::{Bound, SortedSetChange, SortedSetRef};

/// Which command it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS: the center and the radius are in front of the options.
    Point { may_store: bool },
    /// GEORADIUSBYMEMBER: so are the member and the radius.
    Member { may_store: bool },
    /// GEOSEARCH: center and shape are options.
    Search,
    /// GEOSEARCHSTORE: the destination is argument 1.
    SearchStore,
}

impl Form {
    fn may_store(self) -> bool {
        match self {
            Form::Point { may_store } | Form::Member { may_store } => may_store,
            Form::Search | Form::SearchStore => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NearestFirst,
    FarthestFirst,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Member,
    Point,
}

/// What is asked for.
#[derive(Default)]
struct Query<'a> {
    from: Option<Start>,
    /// Not of a member where there is no sorted set.
    center: Option<Point>,
    area: Option<(Shape, Unit)>,
    with_distance: bool,
    with_score: bool,
    with_point: bool,
    order: Option<Order>,
    count: Option<usize>,
    /// Whichever are found first will do.
    any: bool,
    destination: Option<&'a [u8]>,
    keeps_distances: bool,
}

struct Found<'k> {
    member: &'k [u8],
    score: f64,
    point: Point,
    meters: f64,
}

pub(super) fn georadius(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::Point { may_store: true })
}

pub(super) fn georadius_ro(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::Point { may_store: false })
}

pub(super) fn georadiusbymember(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::Member { may_store: true })
}

pub(super) fn georadiusbymember_ro(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::Member { may_store: false })
}

pub(super) fn geosearch(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::Search)
}

pub(super) fn geosearchstore(call: &mut Call<'_>) -> CommandResult {
    run(call, Form::SearchStore)
}

/// The keys of GEORADIUS and GEORADIUSBYMEMBER, whose options begin at argument `first`.
pub(super) fn find_destinations(args: &Args<'_>, first: usize, out: &mut Vec<usize>) -> bool {
    out.push(1);
    let mut at = first;
    while at + 1 < args.len() {
        let is_destination = args.is(at, "store") || args.is(at, "storedist");
        if is_destination {
            out.push(at + 1);
        }
        at += if is_destination || args.is(at, "count") { 2 } else { 1 };
    }
    true
}

fn run(call: &mut Call<'_>, form: Form) -> CommandResult {
    let args = call.args;
    let source = args.at(if form == Form::SearchStore { 2 } else { 1 });
    let set = read(call.keyspace, call.db, source, call.now)?;
    let query = Query::parse(&args, form, set)?;
    let unit = query.area.map_or(Unit::Meters, |(_, unit)| unit);
    let found = set.map_or(Vec::new(), |set| query.run(set));
    let Some(destination) = query.destination else {
        query.reply(&mut call.reply, &found, unit);
        return Ok(());
    };
    let mut changes = Vec::new();
    for Found { member, score, meters, .. } in &found {
        let score = if query.keeps_distances { meters / unit.meters() } else { *score };
        SortedSetChange::Put { score, member }.encode(&mut changes);
    }
    call.reply.integer(found.len() as i64);
    replace(call, destination, &changes);
    Ok(())
}

/// What `at` and the argument behind it say: a radius and its unit.
fn parse_circle(args: &Args<'_>, at: usize) -> Result<(Shape, Unit), CommandError> {
    let radius = parse_float(args.at(at)).ok_or(CommandError::new("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(CommandError::new("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, parse_unit(args.at(at + 1))?))
}

fn parse_box(args: &Args<'_>, at: usize) -> Result<(Shape, Unit), CommandError> {
    let width = parse_float(args.at(at)).ok_or(CommandError::new("ERR need numeric width"))?;
    let height = parse_float(args.at(at + 1)).ok_or(CommandError::new("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::new("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, parse_unit(args.at(at + 2))?))
}

impl<'a> Query<'a> {
    /// `set` is where members are looked up.
    fn parse(args: &Args<'a>, form: Form, set: Option<SortedSetRef<'_>>) -> Result<Query<'a>, CommandError> {
        let mut query = Query::default();
        let mut at = match form {
            Form::Point { .. } => {
                query.center = Some(parse_point(args, 2)?);
                query.area = Some(parse_circle(args, 4)?);
                6
            }
            Form::Member { .. } => {
                query.start_at(set, args.at(2))?;
                // Redis doesn't look at the radius either where there is nothing.
                if set.is_some() {
                    query.area = Some(parse_circle(args, 3)?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.destination = Some(args.at(1));
                3
            }
        };
        while at < args.len() {
            at += query.parse_option(args, at, form, set)?;
        }
        query.check(args, form)?;
        Ok(query)
    }
    fn start_at(&mut self, set: Option<SortedSetRef<'_>>, member: &[u8]) -> CommandResult {
        const NO_SUCH_MEMBER: CommandError = CommandError::new("ERR could not decode requested zset member");
        if let Some(set) = set {
            self.center = Some(Point::of_score(set.score(member).ok_or(NO_SUCH_MEMBER)?));
        }
        Ok(())
    }
    /// How many arguments from `at` on make up the option.
    fn parse_option(
        &mut self,
        args: &Args<'a>,
        at: usize,
        form: Form,
        set: Option<SortedSetRef<'_>>,
    ) -> Result<usize, CommandError> {
        let value = args.get(at + 1);
        match value {
            _ if args.is(at, "withdist") => self.with_distance = true,
            _ if args.is(at, "withhash") => self.with_score = true,
            _ if args.is(at, "withcoord") => self.with_point = true,
            _ if args.is(at, "any") => self.any = true,
            _ if args.is(at, "asc") => self.order = Some(Order::NearestFirst),
            _ if args.is(at, "desc") => self.order = Some(Order::FarthestFirst),
            Some(value) if args.is(at, "count") => {
                let count = integer(value)?;
                if count <= 0 {
                    return Err(CommandError::new("ERR COUNT must be > 0"));
                }
                self.count = Some(usize::try_from(count).unwrap_or(usize::MAX));
                return Ok(2);
            }
            Some(key) if form.may_store() && (args.is(at, "store") || args.is(at, "storedist")) => {
                self.destination = Some(key);
                self.keeps_distances = args.is(at, "storedist");
                return Ok(2);
            }
            _ if form == Form::SearchStore && args.is(at, "storedist") => self.keeps_distances = true,
            _ if matches!(form, Form::Search | Form::SearchStore) => return self.parse_area(args, at, set),
            _ => return Err(SYNTAX),
        }
        Ok(1)
    }
    /// The same for the options that say where to search. Of each pair only one may stand, but that as often as it likes.
    fn parse_area(&mut self, args: &Args<'a>, at: usize, set: Option<SortedSetRef<'_>>) -> Result<usize, CommandError> {
        let following = args.len() - at - 1;
        let (in_circle, in_box) = match self.area {
            None => (true, true),
            Some((Shape::Circle { .. }, _)) => (true, false),
            Some((Shape::Box { .. }, _)) => (false, true),
        };
        if args.is(at, "frommember") && following >= 1 && self.from != Some(Start::Point) {
            self.start_at(set, args.at(at + 1))?;
            self.from = Some(Start::Member);
            return Ok(2);
        }
        if args.is(at, "fromlonlat") && following >= 2 && self.from != Some(Start::Member) {
            self.center = Some(parse_point(args, at + 1)?);
            self.from = Some(Start::Point);
            return Ok(3);
        }
        if args.is(at, "byradius") && following >= 2 && in_circle {
            self.area = Some(parse_circle(args, at + 1)?);
            return Ok(3);
        }
        if args.is(at, "bybox") && following >= 3 && in_box {
            self.area = Some(parse_box(args, at + 1)?);
            return Ok(4);
        }
        Err(SYNTAX)
    }
    /// Whether the options fit together.
    fn check(&self, args: &Args<'_>, form: Form) -> CommandResult {
        if self.destination.is_some() && (self.with_distance || self.with_score || self.with_point) {
            let what = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CommandError::owned(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if matches!(form, Form::Search | Form::SearchStore) {
            let missing = match (self.from, self.area) {
                (None, _) => Some("FROMMEMBER or FROMLONLAT"),
                (_, None) => Some("BYRADIUS and BYBOX"),
                (Some(_), Some(_)) => None,
            };
            if let Some(missing) = missing {
                // As the client wrote it.
                let name = String::from_utf8_lossy(args.at(0));
                return Err(CommandError::owned(format!("ERR exactly one of {missing} can be specified for {name}")));
            }
        }
        if self.any && self.count.is_none() {
            return Err(CommandError::new("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
    fn run<'k>(&self, set: SortedSetRef<'k>) -> Vec<Found<'k>> {
        let Some((center, (shape, unit))) = self.center.zip(self.area) else { return Vec::new() };
        let search = Search { center, shape, unit };
        let count = self.count.unwrap_or(usize::MAX);
        let enough = if self.any { count } else { usize::MAX };
        let mut found = Vec::new();
        for (low, high) in search.cells().into_iter().map(Cell::scores) {
            if found.len() >= enough {
                break;
            }
            let before = |score| Some(Bound::Score { score, behind: false });
            set.visit(between(set, before(low), before(high)), false, &mut |score, member| {
                let point = Point::of_score(score);
                if let Some(meters) = search.distance(point) {
                    found.push(Found { member, score, point, meters });
                }
                found.len() < enough
            });
        }
        // The nearest ones are meant by a count, unless any will do.
        let by_default = (self.count.is_some() && !self.any).then_some(Order::NearestFirst);
        if let Some(order) = self.order.or(by_default) {
            keep_first(&mut found, order, count);
        }
        found
    }
    fn reply(&self, reply: &mut Reply<'_>, found: &[Found<'_>], unit: Unit) {
        let details = self.with_distance as usize + self.with_score as usize + self.with_point as usize;
        reply.array(found.len());
        for Found { member, score, point, meters } in found {
            if details > 0 {
                reply.array(1 + details);
            }
            reply.bulk(member);
            if self.with_distance {
                reply_distance(reply, *meters, unit);
            }
            if self.with_score {
                reply.integer(*score as i64);
            }
            if self.with_point {
                reply_point(reply, *point);
            }
        }
    }
}

/// The first `count` in an order, in that order.
fn keep_first(found: &mut Vec<Found<'_>>, order: Order, count: usize) {
    let by_distance = |a: &Found<'_>, b: &Found<'_>| match order {
        Order::NearestFirst => a.meters.total_cmp(&b.meters),
        Order::FarthestFirst => b.meters.total_cmp(&a.meters),
    };
    if count < found.len() {
        // Which of equally far ones are kept must not depend on how the selection goes.
        let in_full = |a: &Found<'_>, b: &Found<'_>| {
            by_distance(a, b).then_with(|| a.score.total_cmp(&b.score)).then_with(|| a.member.cmp(b.member))
        };
        found.select_nth_unstable_by(count, in_full);
        found.truncate(count);
        found.sort_unstable_by(in_full);
    } else {
        // Equally far ones stay in the order in which they were found, as with Redis.
        found.sort_by(by_distance);
    }
}

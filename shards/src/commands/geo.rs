//! Points as members of sorted sets: the scores are geohashes (`types::geo`). GEOSEARCH and its older relatives are in
//! `search`.

mod search;

use super::sorted_sets::{AddOptions, add, read};
use crate::call::{Args, Call};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::numbers::float;
use crate::reply::{Protocol, Reply};
use crate::row::{KeyUse, Keys, Row, Traits};
use crate::types::geo::{Point, Unit, distance_text};
use smallvec::SmallVec;

const READ: Traits = Traits::READ;
const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);
const MAY_STORE: Traits = GROWS.and(Traits::MOVABLE_KEYS);

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("geoadd", -5, GROWS, geoadd).key(KeyUse::ReadWrite)
        .docs("geo", "3.2.0", "O(log N) per member", "Gives members longitudes and latitudes; adds those that are not there."),
    <Row>::new("geodist", -4, READ, geodist).key(KeyUse::Read)
        .docs("geo", "3.2.0", "O(1)", "Replies how far apart two members are."),
    <Row>::new("geohash", -2, READ, geohash).key(KeyUse::Read)
        .docs("geo", "3.2.0", "O(1) per member", "Replies the places of members as geohashes."),
    <Row>::new("geopos", -2, READ, geopos).key(KeyUse::Read)
        .docs("geo", "3.2.0", "O(1) per member", "Replies the longitudes and latitudes of members."),
    <Row>::new("georadius", -6, MAY_STORE, search::georadius)
        .keys(Keys::Find { find: |args, out| search::find_destinations(args, 6, out), usage: KeyUse::ReadWrite })
        .docs("geo", "3.2.0", "O(N + log M) for N members near the circle of M in all", "Replies or keeps the members within a distance of a point."),
    <Row>::new("georadius_ro", -6, READ, search::georadius_ro).key(KeyUse::Read)
        .docs("geo", "3.2.10", "O(N + log M) for N members near the circle of M in all", "Replies the members within a distance of a point."),
    <Row>::new("georadiusbymember", -5, MAY_STORE, search::georadiusbymember)
        .keys(Keys::Find { find: |args, out| search::find_destinations(args, 5, out), usage: KeyUse::ReadWrite })
        .docs("geo", "3.2.0", "O(N + log M) for N members near the circle of M in all", "Replies or keeps the members within a distance of one of them."),
    <Row>::new("georadiusbymember_ro", -5, READ, search::georadiusbymember_ro).key(KeyUse::Read)
        .docs("geo", "3.2.10", "O(N + log M) for N members near the circle of M in all", "Replies the members within a distance of one of them."),
    <Row>::new("geosearch", -7, READ, search::geosearch).key(KeyUse::Read)
        .docs("geo", "6.2.0", "O(N + log M) for N members near the area of M in all", "Replies the members in a circle or a box."),
    <Row>::new("geosearchstore", -8, GROWS, search::geosearchstore)
        .keys(Keys::Two { first: (1, KeyUse::Overwrite), rest: (2, 2, KeyUse::Read) })
        .docs("geo", "6.2.0", "O(N + log M) for N members near the area of M in all", "Keeps the members in a circle or a box."),
];

/// The longitude at argument `at` and the latitude behind it.
fn parse_point(args: &Args<'_>, at: usize) -> Result<Point, CommandError> {
    let point = Point { longitude: float(args.at(at))?, latitude: float(args.at(at + 1))? };
    if !point.is_valid() {
        let Point { longitude, latitude } = point;
        return Err(CommandError::owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok(point)
}

fn parse_unit(arg: &[u8]) -> Result<Unit, CommandError> {
    Unit::parse(arg).ok_or(CommandError::new("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

fn reply_distance(reply: &mut Reply<'_>, meters: f64, unit: Unit) {
    reply.bulk(distance_text(meters / unit.meters()).as_bytes());
}

fn reply_point(reply: &mut Reply<'_>, point: Point) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = degrees_text(degrees);
        match reply.protocol() {
            Protocol::Resp2 => reply.bulk(text.as_bytes()),
            // A double, but with more digits than the shortest that read back.
            Protocol::Resp3 => reply.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}

/// 17 decimals, without zeros at the end.
fn degrees_text(degrees: f64) -> String {
    let digits = format!("{degrees:.17}");
    match digits.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".into(),
        trimmed => trimmed.into(),
    }
}

/// `GEOADD key [NX|XX] [CH] longitude latitude member [longitude latitude member ...]`
fn geoadd(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let mut options = AddOptions::default();
    let mut first = 2;
    while first < args.len() {
        let flag = match () {
            _ if args.is(first, "nx") => &mut options.only_new,
            _ if args.is(first, "xx") => &mut options.only_existing,
            _ if args.is(first, "ch") => &mut options.count_changed,
            _ => break,
        };
        *flag = true;
        first += 1;
    }
    let arguments = args.len() - first;
    if arguments == 0 || !arguments.is_multiple_of(3) || options.only_new && options.only_existing {
        return Err(SYNTAX);
    }
    let elements = (first..args.len())
        .step_by(3)
        .map(|at| Ok((parse_point(&args, at)?.score(), args.at(at + 2))))
        .collect::<Result<SmallVec<[(f64, &[u8]); 4]>, CommandError>>()?;
    add(call, &options, &elements)
}

/// `GEODIST key member member [unit]`
fn geodist(call: &mut Call<'_>) -> CommandResult {
    let args = call.args;
    let unit = match args.len() {
        4 => Unit::Meters,
        5 => parse_unit(args.at(4))?,
        _ => return Err(SYNTAX),
    };
    let set = read(call.keyspace, call.db, args.at(1), call.now)?;
    let place = |at| set.and_then(|set| set.score(args.at(at))).map(Point::of_score);
    match place(2).zip(place(3)) {
        Some((from, to)) => reply_distance(&mut call.reply, from.distance(to), unit),
        None => call.reply.null(),
    }
    Ok(())
}

fn geohash(call: &mut Call<'_>) -> CommandResult {
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let members = call.args.from(2);
    call.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => call.reply.bulk(&Point::of_score(score).geohash()),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn geopos(call: &mut Call<'_>) -> CommandResult {
    let set = read(call.keyspace, call.db, call.args.at(1), call.now)?;
    let members = call.args.from(2);
    call.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply_point(&mut call.reply, Point::of_score(score)),
            None => call.reply.null_array(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::strings::tested::Shard;
    use super::degrees_text;

    #[test]
    fn only_a_moved_member_is_an_edit() {
        let mut shard = Shard::new();
        assert_eq!(shard.edits("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"), 1);
        assert_eq!(shard.edits("GEOADD g 13.361389 38.115556 Palermo"), 0);
        assert_eq!(shard.edits("GEOADD g XX 1 1 Rome"), 0);
        assert_eq!(shard.edits("GEOADD g 13.3614 38.1156 Palermo"), 1);
        assert_eq!(shard.edits("GEORADIUS g 15 37 200 km"), 0);
        assert_eq!(shard.edits("GEORADIUS g 15 37 200 km STORE near"), 1);
        assert_eq!(shard.edits("GEOSEARCHSTORE near nokey FROMMEMBER a BYRADIUS 1 m"), 1);
        assert_eq!(shard.edits("GEOSEARCHSTORE near nokey FROMMEMBER a BYRADIUS 1 m"), 0);
    }

    #[test]
    fn failed_commands_make_no_edit() {
        let mut shard = Shard::new();
        shard.run("SET s text");
        shard.run("GEOADD g 13.361389 38.115556 Palermo");
        for command in [
            "GEOADD s 1 1 a",
            "GEOADD g 1 1 a 200 1 b",
            "GEOADD g 1 1 a 1",
            "GEORADIUS g 15 37 200 km STORE s WITHDIST",
            "GEORADIUS g 15 37 200 km STORE s ANY",
            "GEORADIUSBYMEMBER g Rome 200 km STORE s",
            "GEOSEARCHSTORE s g FROMMEMBER Rome BYRADIUS 1 m",
            "GEOSEARCHSTORE g s FROMMEMBER Rome BYRADIUS 1 m",
        ] {
            assert_eq!(shard.edits(command), 0, "{command}");
        }
    }

    #[test]
    fn degrees_have_no_zeros_at_the_end() {
        for (degrees, text) in [(180.0, "180"), (-0.0, "0"), (0.5, "0.5"), (-1e-20, "0"), (100.0, "100")] {
            assert_eq!(degrees_text(degrees), text);
        }
    }
}

//! Points on the Earth as Redis keeps them: the score of a member of a sorted set is a geohash of 52 bits, 26 for the longitude
//! and 26 for the latitude in turn, longitude first. So the points of a cell of the grid lie between two scores, and a search
//! is nine such ranges at most (`areas`) with a test for each point in them (`Shape`).
//!
//! Floating-point steps are in Redis' order: printed digits, and the order in which points are found, are the same.

mod areas;
#[cfg(test)]
mod tests;

pub use areas::{Search, Shape};

/// Degrees that can be encoded; latitudes end where the square map of Web Mercator does (EPSG:3857).
pub const LONGITUDES: Degrees = Degrees { min: -180.0, max: 180.0 };
pub const LATITUDES: Degrees = Degrees { min: -85.051_128_78, max: 85.051_128_78 };
/// Latitudes of the geohashes of others (geohash.org), which are those of GEOHASH.
const ALL_LATITUDES: Degrees = Degrees { min: -90.0, max: 90.0 };

/// Bits of a score for each of longitude and latitude.
pub const STEPS: u8 = 26;
const EARTH_RADIUS_METERS: f64 = 6_372_797.560_856;
const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

/// Characters of a geohash as text.
pub const TEXT_BYTES: usize = 11;

/// A range of degrees, both ends included.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Degrees {
    pub min: f64,
    pub max: f64,
}

impl Degrees {
    fn contain(self, degrees: f64) -> bool {
        (self.min..=self.max).contains(&degrees)
    }
    /// Which of `1 << step` equal parts; one more than there are for the upper end.
    fn part(self, degrees: f64, step: u8) -> u32 {
        ((degrees - self.min) / (self.max - self.min) * (1u64 << step) as f64) as u32
    }
    fn of_part(self, part: u32, step: u8) -> Degrees {
        let end = |part: u32| self.min + part as f64 / (1u64 << step) as f64 * (self.max - self.min);
        // A crafted score may have more bits than the grid has parts.
        Degrees { min: end(part), max: end(part.wrapping_add(1)) }
    }
    fn middle(self) -> f64 {
        (self.min + self.max) / 2.0
    }
}

/// In degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

impl Point {
    /// Whether it can be encoded.
    pub fn is_valid(self) -> bool {
        LONGITUDES.contain(self.longitude) && LATITUDES.contain(self.latitude)
    }
    /// The score of a valid point: an integer below 2^52, but for those at the upper ends, which the grid has no cells for.
    pub fn score(self) -> f64 {
        Cell::around(self, STEPS).bits as f64
    }
    /// The middle of the cell that a score stands for. Any score has one, whoever made it.
    pub fn of_score(score: f64) -> Point {
        let (longitudes, latitudes) = Cell { bits: score as u64, step: STEPS }.extent();
        Point {
            longitude: longitudes.middle().clamp(LONGITUDES.min, LONGITUDES.max),
            latitude: latitudes.middle().clamp(LATITUDES.min, LATITUDES.max),
        }
    }
    /// The geohash as geohash.org writes it. Its 55 bits are three more than a score has: the last character is always `0`.
    pub fn geohash(self) -> [u8; TEXT_BYTES] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let parts = (LONGITUDES.part(self.longitude, STEPS), ALL_LATITUDES.part(self.latitude, STEPS));
        let bits = interleave(parts.1, parts.0);
        std::array::from_fn(|at| match (2 * STEPS as usize).checked_sub((at + 1) * 5) {
            Some(shift) => ALPHABET[(bits >> shift) as usize % 32],
            None => ALPHABET[0],
        })
    }
    /// Meters along a great circle, by the haversine formula.
    pub fn distance(self, to: Point) -> f64 {
        let radians = |degrees: f64| degrees * RADIANS_PER_DEGREE;
        let (latitude, to_latitude) = (radians(self.latitude), radians(to.latitude));
        let u = ((to_latitude - latitude) / 2.0).sin();
        let v = ((radians(to.longitude) - radians(self.longitude)) / 2.0).sin();
        if v == 0.0 {
            // As Redis does: by the formula, the last digit may be another.
            return EARTH_RADIUS_METERS * (to_latitude - latitude).abs();
        }
        // Of points opposite to each other, rounding may make it more than 1, which is the sine of nothing.
        let sine = (u * u + latitude.cos() * to_latitude.cos() * v * v).sqrt().min(1.0);
        2.0 * EARTH_RADIUS_METERS * sine.asin()
    }
}

/// A distance as GEODIST and WITHDIST print it: four decimals. Redis scales it and then rounds ties to even, where
/// formatting would round what is exactly stored.
pub fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
}

/// Units of distances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Meters,
    Kilometers,
    Feet,
    Miles,
}

impl Unit {
    /// Of any case.
    pub fn parse(name: &[u8]) -> Option<Unit> {
        let units = [("m", Unit::Meters), ("km", Unit::Kilometers), ("ft", Unit::Feet), ("mi", Unit::Miles)];
        units.into_iter().find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes())).map(|(_, unit)| unit)
    }
    pub fn meters(self) -> f64 {
        match self {
            Unit::Meters => 1.0,
            Unit::Kilometers => 1000.0,
            Unit::Feet => 0.3048,
            Unit::Miles => 1609.34,
        }
    }
}

/// A cell of the grid that has `1 << step` columns and rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub bits: u64,
    pub step: u8,
}

impl Cell {
    /// The one that a valid point is in.
    fn around(point: Point, step: u8) -> Cell {
        let column = LONGITUDES.part(point.longitude, step);
        let row = LATITUDES.part(point.latitude, step);
        Cell { bits: interleave(row, column), step }
    }
    /// Longitudes and latitudes.
    fn extent(self) -> (Degrees, Degrees) {
        let (row, column) = separate(self.bits);
        (LONGITUDES.of_part(column, self.step), LATITUDES.of_part(row, self.step))
    }
    /// The cell so many columns and rows further; the grid goes round at its edges.
    fn neighbour(self, columns: i32, rows: i32) -> Cell {
        let (row, column) = separate(self.bits);
        let mask = u32::MAX >> (32 - self.step as u32);
        // The upper end of a range is a part of its own, which only a step leads away from.
        let moved = |part: u32, by: i32| if by == 0 { part } else { part.wrapping_add_signed(by) & mask };
        let (row, column) = (moved(row, rows), moved(column, columns));
        Cell { bits: interleave(row, column), step: self.step }
    }
    /// Scores of points in it: from the first, up to but without the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS - self.step);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// The bits of two numbers in turn, the lowest one from `even`.
fn interleave(even: u32, odd: u32) -> u64 {
    spread(even) | spread(odd) << 1
}

/// The bits at even and at odd positions.
fn separate(bits: u64) -> (u32, u32) {
    (gather(bits), gather(bits >> 1))
}

/// How far bits move apart in each round, and which ones are in place then.
const ROUNDS: [(u32, u64); 5] = [
    (16, 0x0000_ffff_0000_ffff),
    (8, 0x00ff_00ff_00ff_00ff),
    (4, 0x0f0f_0f0f_0f0f_0f0f),
    (2, 0x3333_3333_3333_3333),
    (1, 0x5555_5555_5555_5555),
];

fn spread(number: u32) -> u64 {
    ROUNDS.iter().fold(number as u64, |bits, (shift, mask)| (bits | bits << shift) & mask)
}

fn gather(bits: u64) -> u32 {
    let mut bits = bits & ROUNDS[4].1;
    for at in (0..ROUNDS.len()).rev() {
        let mask = if at == 0 { 0xffff_ffff } else { ROUNDS[at - 1].1 };
        bits = (bits | bits >> ROUNDS[at].0) & mask;
    }
    bits as u32
}

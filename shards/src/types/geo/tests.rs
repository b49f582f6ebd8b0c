//! Scores, printed digits, and points found in their order, against those of redis-server 7.0.15.

use super::*;

/// Longitude and latitude given, score, GEOPOS, GEOHASH.
const POINTS: [(f64, f64, f64, &str, &str, &str); 14] = [
    (
        -98.93105681876291,
        -40.12720800998365,
        466728047903689.0,
        "-98.93105596303939819",
        "-40.12720742695174181",
        "3bcesz0d560",
    ),
    (
        -175.8044571605881,
        73.17201463457604,
        1484111956608647.0,
        "-175.80445915460586548",
        "73.17201485501250602",
        "bj4br2x1gh0",
    ),
    (15.0, -16.393442139149357, 2614473722989021.0, "14.99999910593032837", "-16.39344217088552824", "km4dtrdtm20"),
    (
        -175.79036141495143,
        73.19127765018949,
        1484112724915111.0,
        "-175.79036146402359009",
        "73.19127873582347377",
        "bj4bru165e0",
    ),
    (-56.7240502249996, 85.05112878, 5104656815005864.0, "-56.72405093908309937", "85.0511287799999991", "fxpev5nf9z0"),
    (180.0, 17.320392791137735, 10155364541535248.0, "180", "17.32038969885578439", "85048104840"),
    (
        43.253065725167744,
        -4.102916991588131,
        2672496431835278.0,
        "43.2530638575553894",
        "-4.10291638716514484",
        "kzqb8jpfv20",
    ),
    (
        -17.025485431174616,
        -7.572532259638152,
        1110157078134239.0,
        "-17.0254853367805481",
        "-7.57253142530888823",
        "7weuut6qv30",
    ),
    (
        -17.018964551940368,
        -7.556690582476536,
        1110157814537419.0,
        "-17.01896220445632935",
        "-7.55668941806300865",
        "7wevh8r5j60",
    ),
    (
        -16.820293559290604,
        -60.59828605541942,
        812560789710632.0,
        "-16.82029098272323608",
        "-60.59828721088033632",
        "5thp30rv6u0",
    ),
    (-180.0, -85.05112878, 0.0, "-179.99999731779098511", "-85.05112751263942528", "00bh0hbj200"),
    (0.0, 0.0, 3377699720527872.0, "0.00000268220901489", "0.00000126736058093", "s0000000000"),
    (13.361389, 38.115556, 3479099956230698.0, "13.36138933897018433", "38.11555639549629859", "sqc8b49rny0"),
    (15.087269, 37.502669, 3479447370796909.0, "15.08726745843887329", "37.50266842333162032", "sqdtr74hyu0"),
];

fn stored(at: usize) -> Point {
    Point::of_score(POINTS[at].2)
}

/// As GEOPOS prints.
fn digits(degrees: f64) -> String {
    format!("{degrees:.17}").trim_end_matches('0').trim_end_matches('.').to_string()
}

#[test]
fn scores_and_positions_are_those_of_redis() {
    for (longitude, latitude, score, printed_longitude, printed_latitude, geohash) in POINTS {
        let point = Point { longitude, latitude };
        assert!(point.is_valid());
        assert_eq!(point.score(), score, "{point:?}");
        let middle = Point::of_score(score);
        assert_eq!(
            (digits(middle.longitude), digits(middle.latitude)),
            (printed_longitude.into(), printed_latitude.into())
        );
        assert_eq!(middle.geohash(), geohash.as_bytes(), "{point:?}");
    }
}

#[test]
fn distances_are_those_of_redis() {
    for (from, to, unit, printed) in [
        (12, 13, "m", "166274.1516"),
        (12, 13, "km", "166.2742"),
        (12, 13, "ft", "545518.8700"),
        (12, 13, "mi", "103.3182"),
        (0, 1, "m", "13849312.6531"),
        (5, 10, "km", "11386.4051"),
        (7, 8, "ft", "6244.0371"),
        (3, 3, "m", "0.0000"),
        (11, 6, "m", "4828213.1112"),
    ] {
        let unit = Unit::parse(unit.as_bytes()).expect("a unit");
        assert_eq!(format!("{:.4}", stored(from).distance(stored(to)) / unit.meters()), printed, "{from} to {to}");
    }
    assert_eq!(Unit::parse(b"Km"), Some(Unit::Kilometers));
    assert_eq!(Unit::parse(b"yd"), None);
}

/// The points that a search finds, in the order in which it does.
fn found(search: Search) -> Vec<usize> {
    let mut found = Vec::new();
    for (low, high) in search.cells().into_iter().map(Cell::scores) {
        let mut inside: Vec<usize> = (0..POINTS.len()).filter(|&at| (low..high).contains(&POINTS[at].2)).collect();
        inside.sort_by(|a, b| POINTS[*a].2.total_cmp(&POINTS[*b].2));
        found.extend(inside.into_iter().filter(|at| search.distance(stored(*at)).is_some()));
    }
    found
}

#[test]
fn searches_find_what_those_of_redis_do_in_the_same_order() {
    let circle = |radius| Shape::Circle { radius };
    let around = |width, height| Shape::Box { width, height };
    for (longitude, latitude, shape, unit, expected) in [
        (15.0, 37.0, circle(200.0), Unit::Kilometers, &[12, 13][..]),
        (15.0, 37.0, circle(190.0), Unit::Kilometers, &[13]),
        (15.0, 37.0, around(400.0, 400.0), Unit::Kilometers, &[12, 13]),
        (15.0, 37.0, around(100.0, 400.0), Unit::Kilometers, &[13]),
        (13.36, 38.11, around(200.0, 400.0), Unit::Kilometers, &[12]),
        (13.36, 38.11, around(320.0, 120.0), Unit::Kilometers, &[12]),
        (13.36, 38.11, around(320.0, 140.0), Unit::Kilometers, &[12, 13]),
        (-17.0, -7.56, circle(3.0), Unit::Miles, &[7, 8]),
        (-17.0, -7.56, circle(9000.0), Unit::Kilometers, &[0, 9, 7, 8, 2, 6, 11, 12, 13]),
        (0.0, 0.0, circle(30_000.0), Unit::Kilometers, &[11, 12, 13, 2, 6, 1, 3, 10, 0, 9, 7, 8]),
        (0.0, 0.0, around(20_000.0, 12_000.0), Unit::Kilometers, &[11, 12, 13, 2, 6, 0, 7, 8]),
        (-175.8, 73.18, around(9000.0, 9000.0), Unit::Feet, &[3, 1]),
        (179.9, 17.3, circle(100.0), Unit::Kilometers, &[]),
        (0.0, 85.0, circle(1000.0), Unit::Miles, &[]),
        (15.0, 37.0, circle(0.0), Unit::Meters, &[]),
    ] {
        let search = Search { center: Point { longitude, latitude }, shape, unit };
        assert_eq!(found(search), expected, "{search:?}");
    }
}

#[test]
fn a_search_near_a_pole_has_larger_cells() {
    for (latitude, radius, step) in [
        (0.0, 1000.0, 14),
        (66.0, 1000.0, 14),
        (66.5, 1000.0, 13),
        (-66.5, 1000.0, 13),
        (80.5, 1000.0, 12),
        (0.0, 20_037_726.37, 1),
        (80.5, 5_000_000.0, 1),
        (0.0, 0.1, 26),
        (0.0, 0.0, 26),
    ] {
        let center = Point { longitude: 0.01, latitude };
        let search = Search { center, shape: Shape::Circle { radius }, unit: Unit::Meters };
        assert_eq!(search.cells()[0].step, step, "{search:?}");
    }
}

#[test]
fn points_outside_of_the_map_are_not_valid() {
    for (longitude, latitude) in [(180.1, 0.0), (-180.1, 0.0), (0.0, 85.06), (0.0, -85.06), (f64::NAN, 0.0)] {
        assert!(!Point { longitude, latitude }.is_valid(), "{longitude} {latitude}");
    }
}

#[test]
fn interleaved_bits_come_apart_again() {
    let mut random = fastrand::Rng::with_seed(31);
    for _ in 0..1000 {
        let (even, odd) = (random.u32(..), random.u32(..));
        let bits = interleave(even, odd);
        assert_eq!(separate(bits), (even, odd));
        let naive = (0..32).map(|at| (even as u64 >> at & 1) << (2 * at) | (odd as u64 >> at & 1) << (2 * at + 1));
        assert_eq!(bits, naive.sum::<u64>());
    }
}

/// Sorted sets hold any score, and searches take any size.
#[test]
fn no_score_and_no_size_is_too_odd() {
    let mut random = fastrand::Rng::with_seed(32);
    let odd = [0.0, -1.0, 1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 9007199254740993.0];
    for _ in 0..20_000 {
        let mut size = || if random.bool() { odd[random.usize(..odd.len())] } else { f64::from_bits(random.u64(..)) };
        let (score, width, height) = (size(), size(), size());
        let point = Point::of_score(score);
        assert!(point.is_valid(), "{score}");
        let shape = if random.bool() { Shape::Circle { radius: width } } else { Shape::Box { width, height } };
        let search = Search { center: point, shape, unit: Unit::Miles };
        assert!((1..=9).contains(&search.cells().len()));
        search.distance(Point::of_score(random.u64(..) as f64));
        point.geohash();
    }
}

#[test]
fn the_last_digit_of_a_distance_is_that_of_redis() {
    let point = |longitude, latitude| Point { longitude, latitude };
    for (from, to, unit, expected) in [
        // On one meridian.
        (
            point(49.621491730213165, -63.948136674245305),
            point(49.621491730213165, 80.05325558061661),
            Unit::Feet,
            "52548366.3233",
        ),
        // In the middle between two texts, once scaled.
        (
            point(168.12809878360596, 83.49715605002177),
            point(147.37956672906876, -84.26437794671335),
            Unit::Feet,
            "61291803.5174",
        ),
        (
            point(-106.61859185696025, -41.16305023250835),
            point(2.342939078807831, 12.187480497069195),
            Unit::Feet,
            "40948570.8094",
        ),
        (
            point(96.8129891386498, -2.2494604355732983),
            point(179.96467798948288, 65.10613924421627),
            Unit::Meters,
            "9917633.6314",
        ),
    ] {
        assert_eq!(distance_text(from.distance(to) / unit.meters()), expected);
    }
    assert_eq!(distance_text(0.0), "0.0000");
}

//! The wall clock steps while the server runs, by an hour and by a day, both ways, and many times a second: times to live keep
//! their length, points in time follow the clock, and nothing else notices.
//!
//! Times are compared with the test's own monotonic clock, with margins for a busy machine: far less than any step, and far
//! more than any pause of the scheduler. `SHARDIS_CLOCK_STEPS=100` is the long form: so many steps of each kind.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod clock_chaos {
    pub mod clock;
}
mod support;

use clock_chaos::clock::WallClock;
use std::time::{Duration, Instant};
use support::{Client, DataDir, Resp, Server, from_env, seed, wait_until};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const STEPS: [i64; 4] = [HOUR, -HOUR, DAY, -DAY];
/// Of what is measured in real time.
const MARGIN: Duration = Duration::from_millis(1500);
const FLAGS: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "everysec", "--shards", "2"];
/// Keys with long times to live, none of which a step may expire.
const CROWD: usize = 500;

/// How many steps of each kind.
fn rounds() -> usize {
    from_env("SHARDIS_CLOCK_STEPS", 1) as usize
}

// ---- what a step must not change -------------------------------------------------------------------------

#[test]
fn a_time_to_live_keeps_its_length_however_the_wall_clock_steps() {
    let Some(mut clock) = WallClock::new() else { return };
    let dir = DataDir::new();
    let server = clock.server(dir.path(), &FLAGS);
    let mut client = server.client();
    crowd(&mut client);
    for round in 0..rounds() {
        for step in STEPS {
            let keys = short_lived(&mut client, &format!("{round}:{step}"));
            clock.step_by(step);
            assert_follows(&mut client, &clock);
            assert_lives_to_its_end(&mut client, &keys);
            assert_no_mass_expiry(&mut client);
        }
    }
    assert_sane(&server, &mut client);
}

#[test]
fn many_rapid_steps_change_no_time_to_live_and_no_latency() {
    let Some(mut clock) = WallClock::new() else { return };
    let dir = DataDir::new();
    let server = clock.server(dir.path(), &FLAGS);
    let mut client = server.client();
    crowd(&mut client);
    let mut random = fastrand::Rng::with_seed(seed("SHARDIS_CLOCK_SEED"));
    for round in 0..rounds().div_ceil(4) {
        let keys = short_lived(&mut client, &format!("rapid:{round}"));
        let start = Instant::now();
        let mut steps = 0;
        while start.elapsed() < Duration::from_millis(1500) {
            clock.step_to(random.i64(-2 * DAY..2 * DAY));
            steps += 1;
            keys.iter().for_each(|key| assert_ttl_within(&mut client, &key.name, key.at, LIFE));
            std::thread::sleep(Duration::from_millis(2));
        }
        println!("{steps} steps in {:?}", start.elapsed());
        assert!(steps > 20, "only {steps} steps");
        assert_lives_to_its_end(&mut client, &keys);
        assert_no_mass_expiry(&mut client);
    }
    assert_sane(&server, &mut client);
}

#[test]
fn no_client_is_taken_for_idle_because_the_wall_clock_stepped() {
    let Some(mut clock) = WallClock::new() else { return };
    let dir = DataDir::new();
    let server = clock.server(dir.path(), &[&FLAGS[..], &["--timeout", "600"]].concat());
    let (mut idle, mut busy) = (server.client(), server.client());
    assert_eq!(idle.line("PING"), Resp::Simple(b"PONG".to_vec()));
    for _ in 0..rounds() {
        for step in STEPS {
            clock.step_by(step);
            assert_follows(&mut busy, &clock);
            // Two ticks and more.
            std::thread::sleep(Duration::from_millis(350));
        }
    }
    assert_eq!(idle.line("PING"), Resp::Simple(b"PONG".to_vec()), "it was connected for seconds only");
    // And the timeout itself goes by real time: a clock that went back holds nobody.
    assert_eq!(busy.line("CONFIG SET timeout 1"), Resp::ok());
    clock.step_by(-DAY);
    idle.set_timeout(Duration::from_secs(15));
    assert_eq!(idle.read_to_close().expect("an idle client is sent away"), b"");
}

// ---- what follows the wall clock -------------------------------------------------------------------------

#[test]
fn a_point_in_time_follows_the_wall_clock() {
    let Some(mut clock) = WallClock::new() else { return };
    let dir = DataDir::new();
    let server = clock.server(dir.path(), &FLAGS);
    let mut client = server.client();
    for round in 0..rounds() {
        for step in [HOUR, DAY] {
            let (before, after) = (clock.now_ms() + (step - 600) * 1000, clock.now_ms() + (step + 600) * 1000);
            let names = ["pxat", "pexpireat", "expireat", "exat"].map(|kind| format!("{kind}:{round}:{step}"));
            for (at, suffix) in [(before, "due"), (after, "later")] {
                let keys = names.clone().map(|name| format!("{name}:{suffix}"));
                let (ms, seconds) = (at.to_string(), (at / 1000).to_string());
                assert_eq!(client.call(&["SET", &keys[0], "v", "PXAT", &ms]), Resp::ok());
                client.call(&["SET", &keys[1], "v"]);
                assert_eq!(client.call(&["PEXPIREAT", &keys[1], &ms]), Resp::Integer(1));
                client.call(&["SET", &keys[2], "v"]);
                assert_eq!(client.call(&["EXPIREAT", &keys[2], &seconds]), Resp::Integer(1));
                assert_eq!(client.call(&["SET", &keys[3], "v", "EXAT", &seconds]), Resp::ok());
            }
            clock.step_by(step);
            assert_follows(&mut client, &clock);
            for name in &names {
                let (due, later) = (format!("{name}:due"), format!("{name}:later"));
                assert_eq!(client.call(&["GET", &due]), Resp::Nil, "{due} is past");
                assert_eq!(client.call(&["PTTL", &due]), Resp::Integer(-2), "{due}");
                let left = client.call(&["PTTL", &later]).integer();
                assert!((550_000..=600_000 + MARGIN.as_millis() as i64).contains(&left), "{later} has {left} ms");
            }
            // Backwards, the time that is left grows.
            clock.step_by(-step);
            assert_follows(&mut client, &clock);
            for name in &names {
                let left = client.call(&["PTTL", &format!("{name}:later")]).integer();
                assert!((left - (step + 600) * 1000).abs() < 30_000, "{name}:later has {left} ms");
            }
            names.iter().for_each(|name| drop(client.call(&["DEL", &format!("{name}:later")])));
        }
    }
}

// ---- restarts --------------------------------------------------------------------------------------------

#[test]
fn a_restart_after_a_step_keeps_what_was_left_of_a_time_to_live() {
    let Some(mut clock) = WallClock::new() else { return };
    let dir = DataDir::new();
    let mut server = clock.server(dir.path(), &FLAGS);
    for round in 0..rounds() {
        for (step, while_down) in STEPS.iter().flat_map(|step| [(*step, false), (*step, true)]) {
            let mut client = server.client();
            let name = format!("long:{round}:{step}:{while_down}");
            let life = 3 * DAY * 1000;
            assert_eq!(client.call(&["SET", &name, "v", "PX", &life.to_string()]), Resp::ok());
            let at = Instant::now();
            if !while_down {
                clock.step_by(step);
                assert_follows(&mut client, &clock);
                // A record that is written after the step tells the restart of it. The first may be of a turn that read the
                // clock before the step and was held up.
                assert_eq!(client.line("SET other 1"), Resp::ok());
                assert_eq!(client.line("SET other 2"), Resp::ok());
            }
            drop(client);
            server.kill();
            if while_down {
                clock.step_by(step);
            }
            server = clock.server(dir.path(), &FLAGS);
            let left = server.client().call(&["PTTL", &name]).integer();
            // The time that passed while it was down is known from the wall clock only. None can pass backwards.
            let down_ms = if while_down { step.max(0) * 1000 } else { 0 };
            let (least, most) = (life - down_ms - at.elapsed().as_millis() as i64 - 500, life - down_ms + 500);
            assert!((least..=most).contains(&left), "{name}: {left} ms are left, not {least} to {most}");
            let uptime = field(&server.client().line("INFO server").text(), "uptime_in_seconds");
            assert!(uptime < 60, "up for {uptime} s after a restart");
        }
    }
}

// ---- the pieces ------------------------------------------------------------------------------------------

/// Of the keys of `short_lived`. Long enough to see that they live, short enough for a test.
const LIFE: Duration = Duration::from_secs(2);

struct ShortLived {
    name: String,
    at: Instant,
}

/// One key for each way to give it a time to live.
fn short_lived(client: &mut Client, suffix: &str) -> Vec<ShortLived> {
    let (seconds, ms) = (LIFE.as_secs().to_string(), LIFE.as_millis().to_string());
    let ways: [(&str, &[&str]); 6] = [
        ("expire", &["EXPIRE", &seconds]),
        ("pexpire", &["PEXPIRE", &ms]),
        ("ex", &["EX", &seconds]),
        ("px", &["PX", &ms]),
        ("setex", &["SETEX", &seconds]),
        ("psetex", &["PSETEX", &ms]),
    ];
    let make = |(kind, how): (&str, &[&str])| {
        let name = format!("{kind}:{suffix}");
        let at = Instant::now();
        match how {
            [command @ ("EXPIRE" | "PEXPIRE"), life] => {
                client.call(&["SET", &name, "v"]);
                assert_eq!(client.call(&[*command, &name, life]), Resp::Integer(1));
            }
            [option @ ("EX" | "PX"), life] => {
                assert_eq!(client.call(&["SET", &name, "v", option, life]), Resp::ok());
            }
            [command, life] => assert_eq!(client.call(&[*command, &name, life, "v"]), Resp::ok()),
            _ => unreachable!("a way has two words"),
        }
        ShortLived { name, at }
    };
    ways.into_iter().map(make).collect()
}

/// Each key lives as long as it was given, by the monotonic clock.
fn assert_lives_to_its_end(client: &mut Client, keys: &[ShortLived]) {
    for key in keys {
        loop {
            let asked = Instant::now();
            let there = client.call(&["GET", &key.name]) != Resp::Nil;
            let answered = Instant::now();
            // Its deadline was set between `at` and the reply; the margin below covers that, and whole milliseconds.
            assert!(there || answered >= key.at + LIFE - Duration::from_millis(5), "{} died early", key.name);
            assert!(!there || asked <= key.at + LIFE + MARGIN, "{} lives on", key.name);
            if !there {
                break;
            }
            assert_ttl_within(client, &key.name, key.at, LIFE);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(client.call(&["TTL", &key.name]), Resp::Integer(-2));
        assert_eq!(client.call(&["PTTL", &key.name]), Resp::Integer(-2));
    }
}

/// TTL and PTTL are what is left of `life`, or -2 afterwards.
fn assert_ttl_within(client: &mut Client, name: &str, at: Instant, life: Duration) {
    let most = life.as_millis() as i64 - at.elapsed().as_millis() as i64 + MARGIN.as_millis() as i64;
    let left = client.call(&["PTTL", name]).integer();
    let least = life.as_millis() as i64 - at.elapsed().as_millis() as i64 - 5;
    let is_over = left == -2 && at.elapsed() >= life - Duration::from_millis(5);
    assert!(is_over || (left >= 0 && left >= least && left <= most), "{name} has {left} ms, not {least} to {most}");
    let seconds = client.call(&["TTL", name]).integer();
    assert!(seconds == -2 || (0..=life.as_secs() as i64 + 1).contains(&seconds), "{name} has {seconds} s");
}

fn crowd(client: &mut Client) {
    for number in 0..CROWD {
        let (name, life) = (format!("crowd:{number}"), 100 + number as i64 % 500);
        assert_eq!(client.call(&["SET", &name, "v", "EX", &(life * 1000).to_string()]), Resp::ok());
    }
    assert_eq!(client.line("SET forever 1"), Resp::ok());
}

fn assert_no_mass_expiry(client: &mut Client) {
    // Longer than a tick, which removes what it holds for due.
    std::thread::sleep(Duration::from_millis(150));
    let names = (0..CROWD).map(|number| format!("crowd:{number}"));
    let exists = std::iter::once("EXISTS".to_string()).chain(names).collect::<Vec<_>>();
    assert_eq!(client.call(&exists), Resp::Integer(CROWD as i64), "keys expired by a step of the clock");
    assert_eq!(client.line("TTL forever"), Resp::Integer(-1));
    let left = client.line("TTL crowd:0").integer();
    assert!((99_000..=100_000).contains(&left), "crowd:0 has {left} s");
}

/// The step has arrived: TIME is the stepped clock's. What it shows is proof that the others could have noticed.
fn assert_follows(client: &mut Client, clock: &WallClock) {
    wait_until("TIME follows the step", Duration::from_secs(10), || {
        let seconds = client.line("TIME").items()[0].text().parse::<i64>().expect("a number");
        (seconds - clock.now_ms() / 1000).abs() <= 60
    });
}

fn field(info: &str, name: &str) -> u64 {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("INFO has no number {name}"))
}

/// Uptime and latencies are of this test, not of the steps.
fn assert_sane(server: &Server, client: &mut Client) {
    let uptime = field(&client.line("INFO server").text(), "uptime_in_seconds");
    let most = 60 + 30 * rounds() as u64;
    assert!(uptime <= most, "up for {uptime} s");
    let latencies = client.line("INFO latencystats").text();
    let mut figures = 0;
    for line in latencies.lines().filter(|line| line.starts_with("latency_percentiles_usec_")) {
        for figure in line.split(['=', ',']).filter_map(|part| part.parse::<f64>().ok()) {
            assert!((0.0..30_000_000.0).contains(&figure), "{line}");
            figures += 1;
        }
    }
    assert!(figures >= 3, "no latencies in {latencies}");
    let commands = client.line("INFO commandstats").text();
    for line in commands.lines().filter(|line| line.starts_with("cmdstat_")) {
        let usec = line.split("usec=").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
        assert!(usec.is_some_and(|usec| usec < most * 1_000_000), "{line}");
    }
    assert!(server.log().lines().count() < 100, "the operational log is full of it: {}", server.log());
}

//! Load for a server that speaks Redis' protocol, in units of one or several commands, measured at the client.
//!
//! Closed loop: a connection writes `--pipeline` units at once and writes the next when all of them are answered, as
//! redis-benchmark does. Open loop (`--rate`): units start at even distances whatever the server does, and a unit's latency
//! counts from when it should have started, so that a server that stalls can't hide it. Every reply is checked.
//!
//! This file owns the command line and the report; what a unit is stands in `unit`, what is a right reply in `reply`,
//! one thread with its connections in `drive`.
//!
//!     cargo build --release --example load
//!     target/release/examples/load --port 6379 --unit multi-set:4 --clients 50 --requests 200000
#![allow(clippy::disallowed_methods, reason = "a client reads the clock and makes threads")]

mod drive;
mod reply;
mod unit;

use clap::Parser;
use drive::{Outcome, Plan};
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Barrier;
use unit::{Mix, UnitKind};

#[derive(Parser)]
#[command(about = "Load in units of one or several commands; prints one line of JSON")]
struct Options {
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// Connections, over all threads
    #[arg(long, default_value_t = 50)]
    clients: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Units in flight per connection
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Units in all
    #[arg(long)]
    requests: Option<u64>,
    /// Units are started for so long
    #[arg(long)]
    seconds: Option<f64>,
    /// Units per second, started at even distances; without, each as soon as its connection is free
    #[arg(long)]
    rate: Option<f64>,
    /// Keys are drawn from so many
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 16)]
    value_bytes: usize,
    /// set, get, mset:N, mget:N, multi-set:N, multi-set-tag:N (the keys of a unit share a hash tag), or mixed[:PERCENT]:
    /// GETs and SETs, and so many percent (10) of MULTI with four SETs
    #[arg(long)]
    unit: UnitKind,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const REQUESTS_DEFAULT: u64 = 100_000;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(outcome) => {
            if let Some(error) = &outcome.first_error {
                eprintln!("the first of {} wrong replies: {error}", outcome.errors);
            }
            println!("{}", report(&options, &outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Outcome, String> {
    if options.threads == 0 || options.clients < options.threads || options.pipeline == 0 {
        return Err("every thread needs a connection, and every connection a unit in flight".into());
    }
    if options.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err("--rate is units per second".into());
    }
    let mix = Mix::new(options.unit, options.keys, options.value_bytes)?;
    let ready = Barrier::new(options.threads);
    let outcomes = std::thread::scope(|scope| {
        let plans: Vec<Plan<'_>> = (0..options.threads).map(|thread| plan(options, &mix, thread)).collect();
        let spawn = |plan| scope.spawn(|| drive::drive(plan, &ready));
        let threads: Vec<_> = plans.into_iter().map(spawn).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("a thread returns its errors");
        threads.into_iter().map(join).collect::<Vec<Result<Outcome, String>>>()
    });
    let mut all = Outcome::new(mix.scripts.len());
    for outcome in outcomes {
        all.add(outcome?);
    }
    Ok(all)
}

/// One thread's part of the work.
fn plan<'a>(options: &'a Options, mix: &'a Mix, thread: usize) -> Plan<'a> {
    let (at, of) = (thread as u64, options.threads as u64);
    let share = |whole: u64| whole / of + u64::from(at < whole % of);
    let requests = match (options.requests, options.seconds) {
        (None, None) => Some(REQUESTS_DEFAULT),
        (requests, _) => requests,
    };
    Plan {
        address: (&options.host, options.port),
        mix,
        clients: share(options.clients as u64) as usize,
        pipeline: options.pipeline,
        units: requests.map_or(u64::MAX, share),
        seconds: options.seconds,
        // Each thread starts every so many-th unit.
        interval_ns: options.rate.map(|rate| 1e9 / rate * of as f64),
        first_ns: options.rate.map_or(0.0, |rate| 1e9 / rate * at as f64),
        seed: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at),
    }
}

fn report(options: &Options, outcome: &Outcome) -> String {
    let mix = Mix::new(options.unit, options.keys, options.value_bytes).expect("it was made before");
    let timed = || mix.scripts.iter().zip(&outcome.latency).filter(|(_, latency)| !latency.is_empty());
    let mut latency: Vec<String> = timed().map(|(script, latency)| percentiles(&script.name, latency)).collect();
    let single: Vec<_> = timed().filter(|(script, _)| script.key_count() == 1).map(|(_, latency)| latency).collect();
    if single.len() > 1 {
        let mut all = drive::histogram();
        single.iter().for_each(|latency| all += *latency);
        latency.push(percentiles("single-key", &all));
    }
    let (units, seconds) = (outcome.units(), outcome.seconds());
    let mut line = format!(r#"{{"unit": "{}", "units": {units}, "seconds": {seconds:.3}, "#, options.unit);
    write!(line, r#""units_per_second": {:.1}, "errors": {}, "#, units as f64 / seconds, outcome.errors)
        .expect("a string takes it");
    write!(line, r#""unsent": {}, "latency_us": {{{}}}}}"#, outcome.unsent, latency.join(", "))
        .expect("a string takes it");
    line
}

fn percentiles(name: &str, latency: &Histogram<u64>) -> String {
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    let (p50, p99, p999, max) = (us(0.5), us(0.99), us(0.999), latency.max() as f64 / 1e3);
    let count = latency.len();
    format!(r#""{name}": {{"count": {count}, "p50": {p50:.1}, "p99": {p99:.1}, "p999": {p999:.1}, "max": {max:.1}}}"#)
}

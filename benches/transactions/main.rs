//! Ways to make a transaction over several shards one, against each other: messages, processor time, latency, and what
//! single-key commands feel of it. `cargo bench --bench transactions` prints the tables of
//! docs/decisions/0008-intents-by-age.md, in less than four minutes. With `-- check` it only looks for contradictions.
//!
//! No sockets, no log, no commands: threads, lanes, intents, and clients in closed loops inside the fronts.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and makes threads")]

mod check;
mod front;
mod intents;
mod lanes;
mod model;
mod node;
mod sequencer;

use model::Design;
use node::{Load, Node, Outcome, Shared};
use std::time::Duration;

const CLIENTS: usize = 50;
const FEW_KEYS: u32 = 16;
const MANY_KEYS: u32 = 1_000_000;
const RUNS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(150);
const MEASURED: Duration = Duration::from_millis(600);

fn main() {
    check_all();
    // Cargo's test runner starts benchmarks too, without this.
    let measure = std::env::args().any(|argument| argument == "--bench");
    if !measure || std::env::args().any(|argument| argument == "check") {
        return;
    }
    let mut rows = rows();
    for run in 0..RUNS {
        for row in &mut rows {
            let loads = [(MANY_KEYS, 100), (FEW_KEYS, 100), (MANY_KEYS, 10), (FEW_KEYS, 10)];
            for (index, (keys, transactions)) in loads.into_iter().enumerate() {
                let (design, shards) = (row.design, row.shards);
                let seed = (run * 100 + index) as u64;
                let (warm_up, measured, clients) = (WARM_UP, MEASURED, CLIENTS);
                let load = Load { design, shards, keys, clients, transactions, warm_up, measured, record: false, seed };
                row.figures[index].push(Figures::of(&run_load(load)));
            }
        }
    }
    print_tables(&rows);
}

/// Short runs with few keys and many conflicts, each operation recorded.
fn check_all() {
    let designs = Design::MEASURED.into_iter().chain([Design::Nothing, Design::SequencerAtOnce]);
    for design in designs {
        let (mut operations, mut unexplained) = (0, 0);
        for (seed, (shards, keys)) in [(2, 16), (8, 16), (3, 6), (8, 64), (2, 400), (8, 400)].into_iter().enumerate() {
            let (warm_up, measured) = (Duration::ZERO, Duration::from_millis(150));
            let (transactions, record, seed) = (50, true, seed as u64);
            let load = Load { design, shards, keys, clients: CLIENTS, transactions, warm_up, measured, record, seed };
            let outcomes = run_load(load);
            let events: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.events).collect();
            operations += events.len();
            unexplained += check::unexplained(&events);
        }
        println!("check: {}: {operations} operations, {unexplained} in or behind a contradiction", design.name());
        match design {
            Design::Nothing => assert!(unexplained > 0, "the check sees nothing"),
            // A matter of luck, and there to be looked at.
            Design::SequencerAtOnce => {}
            Design::Numbers
            | Design::NumbersShort
            | Design::ShardOrder
            | Design::Sequencer
            | Design::Age
            | Design::GiveBack => {
                assert_eq!(unexplained, 0, "{design:?} is not strictly serializable");
            }
        }
    }
}

fn run_load(load: Load) -> Vec<Outcome> {
    let shared = Shared::new(load);
    let lanes = lanes::lanes(load.shards).into_iter().enumerate();
    let threads: Vec<_> = lanes
        .map(|(own, lanes)| {
            let shared = shared.clone();
            std::thread::spawn(move || Node::new(own, shared, lanes).run())
        })
        .collect();
    let outcomes: Vec<Outcome> = threads.into_iter().map(|thread| thread.join().expect("a core ran through")).collect();
    let written: u64 = outcomes.iter().map(|outcome| outcome.written).sum();
    let acknowledged: u64 = outcomes.iter().map(|outcome| outcome.acknowledged).sum();
    assert_eq!(written, acknowledged, "{:?}: every write is acknowledged once", load.design);
    outcomes
}

struct Row {
    design: Design,
    shards: usize,
    /// By load, then by run.
    figures: [Vec<Figures>; 4],
}

fn rows() -> Vec<Row> {
    let row = |design, shards| Row { design, shards, figures: Default::default() };
    let mut rows = vec![row(Design::Age, 1)];
    for shards in [2, 8] {
        rows.extend(Design::MEASURED.into_iter().map(|design| row(design, shards)));
    }
    rows
}

/// What one run came to.
struct Figures {
    transactions_per_s: f64,
    operations_per_s: f64,
    messages: f64,
    cpu_us: f64,
    retries: f64,
    p50_us: f64,
    p99_us: f64,
    single_p50_us: f64,
    single_p99_us: f64,
    single_waits: f64,
}

impl Figures {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut transactions = outcomes[0].measured.transactions.clone();
        let mut singles = outcomes[0].measured.singles.clone();
        for outcome in &outcomes[1..] {
            transactions.add(&outcome.measured.transactions).expect("all have the same bounds");
            singles.add(&outcome.measured.singles).expect("all have the same bounds");
        }
        let sum = |figure: fn(&node::Measured) -> u64| {
            outcomes.iter().map(|outcome| figure(&outcome.measured) as f64).sum::<f64>()
        };
        let seconds = sum(|measured| measured.wall_ns) / outcomes.len() as f64 / 1e9;
        let count = (transactions.len() as f64).max(1.0);
        let all = (transactions.len() + singles.len()) as f64;
        Figures {
            transactions_per_s: count / seconds,
            operations_per_s: all / seconds,
            messages: sum(|measured| measured.messages) / count,
            cpu_us: sum(|measured| measured.cpu_ns) / count / 1e3,
            retries: sum(|measured| measured.retries) / count,
            p50_us: transactions.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: transactions.value_at_quantile(0.99) as f64 / 1e3,
            single_p50_us: singles.value_at_quantile(0.5) as f64 / 1e3,
            single_p99_us: singles.value_at_quantile(0.99) as f64 / 1e3,
            single_waits: sum(|measured| measured.single_waits) / (singles.len() as f64).max(1.0),
        }
    }
}

/// A table for each number of keys; the last four columns are of the loads with one transaction in ten operations.
fn print_tables(rows: &[Row]) {
    for (load, keys) in [(0, "1 M keys"), (1, "16 keys")] {
        println!(
            "\n| {keys} | messages | repeats | CPU | tx/s | p50 | p99 | mixed: op/s | single p50 | p99 | waited |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        for row in rows {
            let of = |load: usize, figure: fn(&Figures) -> f64| median(row.figures[load].iter().map(figure).collect());
            let only = |figure: fn(&Figures) -> f64| of(load, figure);
            let mixed = |figure: fn(&Figures) -> f64| of(load + 2, figure);
            print!("| {}: {} |", row.shards, row.design.name());
            print!(" {:.2} | {:.2} | {} |", only(|f| f.messages), only(|f| f.retries), us(only(|f| f.cpu_us)));
            print!(" {:.0} k | {} |", only(|f| f.transactions_per_s) / 1e3, us(only(|f| f.p50_us)));
            print!(" {} | {:.0} k |", us(only(|f| f.p99_us)), mixed(|f| f.operations_per_s) / 1e3);
            print!(" {} | {} |", us(mixed(|f| f.single_p50_us)), us(mixed(|f| f.single_p99_us)));
            println!(" {:.1} % |", mixed(|f| f.single_waits) * 100.0);
        }
    }
}

fn us(microseconds: f64) -> String {
    match microseconds {
        ..9.95 => format!("{microseconds:.1} µs"),
        ..9_950.0 => format!("{microseconds:.0} µs"),
        _ => format!("{:.1} ms", microseconds / 1e3),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

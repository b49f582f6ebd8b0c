//! How long the parser takes per command of a pipeline. `cargo bench --bench resp`.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use shardis::resp::{Parsed, Parser, RequestLimits};
use std::hint::black_box;
use std::time::Instant;

const DEPTH: usize = 16;
const ROUNDS: usize = 1_000_000;

fn main() {
    for value_bytes in [3, 64, 1024] {
        let command =
            format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000123\r\n${value_bytes}\r\n{:v$}\r\n", "", v = value_bytes);
        let pipeline = command.repeat(DEPTH).into_bytes();
        // The best of five: the others were disturbed.
        let best = (0..5).map(|_| ns_per_command(&pipeline)).fold(f64::INFINITY, f64::min);
        println!("resp: SET, {DEPTH} deep, value of {value_bytes} bytes: {best:.1} ns per command");
    }
}

fn ns_per_command(pipeline: &[u8]) -> f64 {
    let limits = RequestLimits::default();
    let (mut parser, mut spans) = (Parser::new(), Vec::new());
    let rounds = ROUNDS / DEPTH;
    let start = Instant::now();
    for _ in 0..rounds {
        spans.clear();
        let mut at = 0;
        while let Parsed::Command { used } = parser.next(black_box(pipeline), at, &limits, &mut spans) {
            at += used;
        }
        assert_eq!(black_box(&spans).len(), DEPTH * 3);
    }
    start.elapsed().as_nanos() as f64 / (rounds * DEPTH) as f64
}

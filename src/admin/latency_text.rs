//! Latencies for people and tools: the steps of LATENCY HISTOGRAM, the table of SHARDIS LATENCY.

use super::latency::{Nanoseconds, Stage};
use super::report::{Report, Reports};
use std::fmt::Write;

/// Upper bounds in microseconds and how many calls took no longer: per power of two from 1,024 ns, as in Redis, leaving
/// out bounds that add nothing.
pub fn cumulative(latencies: &Nanoseconds) -> Vec<(u64, u64)> {
    let mut steps = Vec::new();
    let mut below = 0;
    for step in latencies.iter_log(1024, 2.0) {
        if step.count_since_last_iteration() > 0 {
            below += step.count_since_last_iteration();
            steps.push((latencies.highest_equivalent(step.value_iterated_to()) / 1000, below));
        }
    }
    steps
}

/// Percentiles per core and stage in microseconds, then those of all cores together.
pub fn table(reports: &Reports) -> String {
    let mut text = String::from("core  stage           count     p50 us     p95 us     p99 us   p99.9 us\n");
    for (core, report) in reports.cores.iter().enumerate() {
        rows(&mut text, &core.to_string(), report);
    }
    rows(&mut text, "all", &reports.total);
    text
}

fn rows(text: &mut String, core: &str, report: &Report) {
    for stage in Stage::ALL {
        let Some(latencies) = report.histogram(stage.name()) else { continue };
        write!(text, "{core:<5} {:<9} {:>11}", stage.name(), latencies.len()).expect("a string takes every write");
        for quantile in [0.5, 0.95, 0.99, 0.999] {
            let us = latencies.value_at_quantile(quantile) as f64 / 1000.0;
            write!(text, " {us:>10.1}").expect("a string takes every write");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::latency::histogram;
    use super::*;

    #[test]
    fn calls_are_counted_up_to_powers_of_two() {
        let mut latencies = histogram();
        for nanoseconds in [500, 900, 3_000, 3_100, 100_000] {
            latencies.record(nanoseconds).expect("in range");
        }
        let steps = cumulative(&latencies);
        assert_eq!(steps.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(steps[0].0, 1);
        assert!((4..=5).contains(&steps[1].0), "{steps:?}");
        assert!((131..=133).contains(&steps[2].0), "{steps:?}");
        assert!(cumulative(&histogram()).is_empty());
    }

    #[test]
    fn the_table_has_a_row_per_core_and_stage_and_the_sum() {
        let report = |nanoseconds, count| {
            let mut latencies = histogram();
            latencies.record_n(nanoseconds, count).expect("in range");
            let mut report = Report::default();
            report.add_histogram("lane", latencies);
            report
        };
        let text = table(&Reports::new(vec![report(2_000, 3), report(900_000, 1)]));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1][..4], ["0", "lane", "3", "2.0"]);
        assert_eq!(lines[2][..3], ["1", "lane", "1"]);
        assert_eq!(lines[3][..4], ["all", "lane", "4", "2.0"]);
    }
}

//! A core's counters: plain cells, written by their core only, added up over the cores when asked for.

/// Declares the counters once: the struct, and their names for passing them between cores.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Commands in the last full sampling interval, per second.
            pub commands_per_second: u64,
            pub input_bytes_per_second: u64,
            pub output_bytes_per_second: u64,
            sampled_at_ms: u64,
            /// Commands, bytes in and bytes out at that time.
            sampled: [u64; 3],
        }

        impl Stats {
            /// Names and values of the counters, in the order of declaration.
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("commands_per_second", self.commands_per_second),
                    ("input_bytes_per_second", self.input_bytes_per_second),
                    ("output_bytes_per_second", self.output_bytes_per_second),
                ]
            }
            /// CONFIG RESETSTAT.
            pub fn reset(&mut self) {
                $(self.$name = 0;)*
                self.sampled = [0; 3];
            }
        }
    };
}

counters! {
    commands,
    connections_received,
    connections_rejected,
    net_input_bytes,
    net_output_bytes,
    expired_keys,
    protocol_errors,
    query_buffer_limit_disconnections,
    output_buffer_limit_disconnections,
    /// Calls sent to other cores.
    lane_calls,
    /// Times a peer core had to be woken.
    lane_wakes,
    /// Batches found by the backstop tick that no wake-up had announced; anything but 0 is a bug.
    backstop_found_work,
    turns,
    parks,
    wal_records,
    wal_bytes,
    wal_syncs,
    wal_delayed,
}

impl Stats {
    /// Called at each tick: updates the rates about once a second.
    pub fn sample(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.sampled_at_ms);
        if elapsed >= 1_000 {
            let counts = [self.commands, self.net_input_bytes, self.net_output_bytes];
            let rate = |at: usize| counts[at].saturating_sub(self.sampled[at]) * 1_000 / elapsed;
            let rates = [rate(0), rate(1), rate(2)];
            [self.commands_per_second, self.input_bytes_per_second, self.output_bytes_per_second] = rates;
            self.sampled = counts;
            self.sampled_at_ms = now_ms;
        }
    }
}

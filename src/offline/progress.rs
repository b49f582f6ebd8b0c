//! How far a tool has come, for who waits for it: a bar where standard error is a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes between two lines, and how many lines there are at most.
const LINE_BYTES_MIN: u64 = 16 << 20;
const LINES_MAX: u64 = 20;

const BAR: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left, {msg}";

/// Bytes of a file, of which so many are done. Whatever is drawn is gone when it is dropped.
pub struct Progress {
    bytes: u64,
    bar: ProgressBar,
    /// Where the next line is due, if there is no bar.
    line_at: u64,
}

impl Progress {
    pub fn new(bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(BAR).expect("the template is sound"));
        Progress { bytes, bar, line_at: line_step(bytes) }
    }
    /// What is done: bytes, and the keys in them.
    pub fn reached(&mut self, at: u64, keys: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{keys} keys"));
            self.bar.set_position(at);
        } else if at >= self.line_at {
            self.line_at = at + line_step(self.bytes);
            eprintln!("{} of {} MiB, {keys} keys", at >> 20, self.bytes >> 20);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line_step(bytes: u64) -> u64 {
    (bytes / LINES_MAX).max(LINE_BYTES_MIN)
}

//! Up to which time a core's edits are on disk, from samples of where they end.
//!
//! Told to the other cores, so that each knows which transactions over several shards no crash can take back. The rule: a
//! time is named only once every edit of every turn that began before it is on disk.

use shards::units::Offset;

#[derive(Default)]
pub struct DurableTime {
    /// When a turn began (steady milliseconds), and where the edits of all turns before it end, or a later place.
    sample: Option<(u64, Offset)>,
}

impl DurableTime {
    /// `end`: of all edits made, `durable`: of those on disk, `None` without a log. The time to be told, if there is news.
    pub fn at(&mut self, turn_began_ms: u64, end: Offset, durable: Option<Offset>) -> Option<u64> {
        let is_durable = |end: Offset| durable.is_none_or(|durable| durable >= end);
        if is_durable(end) {
            self.sample = None;
            return Some(turn_began_ms);
        }
        match self.sample {
            Some((began_ms, end_then)) if is_durable(end_then) => {
                self.sample = Some((turn_began_ms, end));
                Some(began_ms)
            }
            Some(_) => None,
            None => {
                self.sample = Some((turn_began_ms, end));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_once_what_was_made_before_is_on_disk() {
        let mut time = DurableTime::default();
        let mut at = |now, end, durable| time.at(now, Offset(end), Some(Offset(durable)));
        assert_eq!(at(100, 0, 0), Some(100));
        assert_eq!(at(200, 10, 0), None);
        assert_eq!(at(300, 20, 9), None, "not all that was made by 200");
        assert_eq!(at(400, 30, 10), Some(200));
        assert_eq!(at(500, 40, 29), None);
        assert_eq!(at(600, 50, 30), Some(400));
        assert_eq!(at(700, 50, 50), Some(700), "nothing is outstanding");
        assert_eq!(at(800, 60, 50), None);
    }

    #[test]
    fn without_a_log_nothing_is_outstanding() {
        assert_eq!(DurableTime::default().at(100, Offset(7), None), Some(100));
    }
}

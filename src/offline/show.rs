//! Times, keys, values and edits as text of one line.

use shards::keyspace::{Edit, StringRef};
use shards::units::{Deadline, DeadlineKind};
use shards::wal::GroupId;
use std::fmt::Write;

/// Of a key or a value, before it is shortened.
const SHOWN_BYTES_MAX: usize = 64;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// In UTC: `2026-11-23T07:16:04.123Z`.
pub fn time(unix_ms: u64) -> String {
    let (year, month, day) = civil(unix_ms / DAY_MS);
    let ms = unix_ms % DAY_MS;
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// The Gregorian date of a day, counted from 1970. Years are taken to begin in March, so that leap days end them.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From 1 March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and again.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + (month <= 2) as u64, month, day_of_month)
}

/// Quoted and escaped as redis-cli does; long ones are shortened, with their length behind.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in &bytes[..bytes.len().min(SHOWN_BYTES_MAX)] {
        match byte {
            b'"' | b'\\' => text.extend(['\\', *byte as char]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(*byte as char),
            _ => write!(text, "\\x{byte:02x}").expect("a string takes everything"),
        }
    }
    text.push('"');
    if bytes.len() > SHOWN_BYTES_MAX {
        write!(text, "...({} bytes)", bytes.len()).expect("a string takes everything");
    }
    text
}

pub fn group(id: GroupId) -> String {
    format!("{}:{}", id.front.0, id.number)
}

/// Kind, database, key and what else there is; without `values`, keys are all that is said of the content.
pub fn edit(edit: &Edit<'_>, values: bool) -> String {
    let value = |text: String| if values { format!(" {text}") } else { String::new() };
    match *edit {
        Edit::Put { db, key, value: string, deadline } => {
            let (kind, text) = match string {
                StringRef::Integer(number) => ("put", number.to_string()),
                StringRef::Bytes(bytes) => ("put", quoted(bytes)),
                StringRef::Raw(bytes) => ("put-raw", quoted(bytes)),
            };
            let expires = deadline.map_or(String::new(), |deadline| format!(" expires {}", expiry(deadline)));
            format!("{kind} {} {}{}{expires}", db.0, quoted(key), value(text))
        }
        Edit::PutCollection { db, key, kind, changes, deadline, .. } => {
            let expires = deadline.map_or(String::new(), |deadline| format!(" expires {}", expiry(deadline)));
            format!("put-{} {} {}{}{expires}", kind.name(), db.0, quoted(key), value(quoted(changes)))
        }
        Edit::Change { db, key, kind, changes } => {
            format!("change-{} {} {}{}", kind.name(), db.0, quoted(key), value(quoted(changes)))
        }
        Edit::Copy { db, key, to_db, to_key } => {
            format!("copy {} {} to {} {}", db.0, quoted(key), to_db.0, quoted(to_key))
        }
        Edit::Remove { db, key } => format!("remove {} {}", db.0, quoted(key)),
        Edit::SetDeadline { db, key, deadline } => {
            format!("deadline {} {} {}", db.0, quoted(key), deadline.map_or("none".into(), expiry))
        }
        Edit::Splice { db, key, offset, bytes } => {
            format!("splice {} {} at {offset}{}", db.0, quoted(key), value(quoted(bytes)))
        }
        Edit::Rename { db, key, to_db, to_key } => {
            format!("rename {} {} to {} {}", db.0, quoted(key), to_db.0, quoted(to_key))
        }
        Edit::Flush { db } => format!("flush {}", db.0),
        Edit::FlushAll => "flush-all".into(),
        Edit::Swap { a, b } => format!("swap {} {}", a.0, b.0),
        Edit::Nothing => "nothing".into(),
    }
}

/// The steady clock is the wall clock where that was never set.
fn expiry(deadline: Deadline) -> String {
    match deadline.kind() {
        DeadlineKind::Absolute => time(deadline.ms()),
        DeadlineKind::Relative => format!("{} (steady clock)", time(deadline.ms())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_767_225_599_000), "2025-12-31T23:59:59.000Z");
        assert_eq!(time(1_795_418_164_123), "2026-11-23T07:16:04.123Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        // The largest that a file can hold makes no sense, and no panic either.
        assert!(time(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn bytes_are_escaped_and_shortened() {
        assert_eq!(quoted(b"a \"b\"\\\n\x00\xff"), r#""a \"b\"\\\n\x00\xff""#);
        assert_eq!(quoted(&[b'x'; 100]), format!("\"{}\"...(100 bytes)", "x".repeat(64)));
    }
}

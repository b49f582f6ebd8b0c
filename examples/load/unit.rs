//! What is sent: a unit is one or several commands whose bytes are made once; only the digits of its keys change.

use crate::reply::Expected;
use std::fmt;
use std::str::FromStr;

/// As `--unit` names them. `keys` is how many of them a unit writes or reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitKind {
    Set,
    Get,
    Mset { keys: u32 },
    Mget { keys: u32 },
    MultiSet { keys: u32 },
    MultiSetTag { keys: u32 },
    Mixed { percent: u32 },
}

const KEYS_MAX: u32 = 10_000;
const MIXED_PERCENT: u32 = 10;
const MIXED_KEYS: u32 = 4;

impl FromStr for UnitKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let count = count.map(|count| count.parse::<u32>().map_err(|_| format!("{count} is no number")));
        let count = count.transpose()?;
        let keys =
            || count.filter(|keys| (1..=KEYS_MAX).contains(keys)).ok_or(format!("{name}:1 to {name}:{KEYS_MAX}"));
        match name {
            "set" if count.is_none() => Ok(UnitKind::Set),
            "get" if count.is_none() => Ok(UnitKind::Get),
            "mset" => Ok(UnitKind::Mset { keys: keys()? }),
            "mget" => Ok(UnitKind::Mget { keys: keys()? }),
            "multi-set" => Ok(UnitKind::MultiSet { keys: keys()? }),
            "multi-set-tag" => Ok(UnitKind::MultiSetTag { keys: keys()? }),
            "mixed" => match count.unwrap_or(MIXED_PERCENT) {
                percent @ 0..=100 => Ok(UnitKind::Mixed { percent }),
                _ => Err("mixed:0 to mixed:100".into()),
            },
            _ => Err("there is no such unit".into()),
        }
    }
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnitKind::Set => f.write_str("set"),
            UnitKind::Get => f.write_str("get"),
            UnitKind::Mset { keys } => write!(f, "mset:{keys}"),
            UnitKind::Mget { keys } => write!(f, "mget:{keys}"),
            UnitKind::MultiSet { keys } => write!(f, "multi-set:{keys}"),
            UnitKind::MultiSetTag { keys } => write!(f, "multi-set-tag:{keys}"),
            UnitKind::Mixed { percent } => write!(f, "mixed:{percent}"),
        }
    }
}

/// The scripts that a load draws from.
pub struct Mix {
    pub scripts: Vec<Script>,
    /// Percent of the units that are the last script; the others share the rest evenly.
    last_percent: u32,
    key_range: u64,
}

impl Mix {
    pub fn new(kind: UnitKind, keys: u64, value_bytes: usize) -> Result<Self, String> {
        let value = vec![b'v'; value_bytes];
        let one = |script| (vec![script], 100, keys);
        let (scripts, last_percent, key_range) = match kind {
            UnitKind::Set => one(Script::set(&value)),
            UnitKind::Get => one(Script::get()),
            UnitKind::Mset { keys } => one(Script::mset(keys, &value)),
            UnitKind::Mget { keys } => one(Script::mget(keys)),
            UnitKind::MultiSet { keys } => one(Script::multi_set(keys, &value)),
            // There are as many tags as leave as many keys.
            UnitKind::MultiSetTag { keys: tagged } => {
                (vec![Script::multi_set_tag(tagged, &value)], 100, keys / tagged as u64)
            }
            UnitKind::Mixed { percent } => {
                (vec![Script::get(), Script::set(&value), Script::multi_set(MIXED_KEYS, &value)], percent, keys)
            }
        };
        if !(1..=KEY_RANGE_MAX).contains(&key_range) {
            return Err(format!("--keys is at least the keys of a unit, and at most {KEY_RANGE_MAX}"));
        }
        Ok(Mix { scripts, last_percent, key_range })
    }

    /// Writes a unit to the end of `out`; which script it is.
    pub fn write(&self, random: &mut fastrand::Rng, out: &mut Vec<u8>) -> usize {
        let last = self.scripts.len() - 1;
        let script = match last {
            0 => 0,
            _ if random.u32(0..100) < self.last_percent => last,
            _ => random.usize(0..last),
        };
        let start = out.len();
        out.extend_from_slice(&self.scripts[script].bytes);
        self.scripts[script].fill(&mut out[start..], self.key_range, random);
        script
    }
}

/// The bytes of a unit, where in them keys go, and how it is answered.
pub struct Script {
    pub name: String,
    pub expected: Vec<Expected>,
    bytes: Vec<u8>,
    /// Where the digits of each key start.
    digits: Vec<usize>,
    /// All keys of a unit get the same digits.
    same: bool,
}

/// A key is `key:` and these, as redis-benchmark writes it.
const DIGITS: usize = 12;
const KEY_RANGE_MAX: u64 = 10u64.pow(DIGITS as u32);
const KEY: &[u8] = b"key:000000000000";

impl Script {
    pub fn key_count(&self) -> usize {
        self.digits.len()
    }

    fn set(value: &[u8]) -> Self {
        let mut script = Script::new("set");
        script.command(&[b"SET", KEY, value], Expected::Ok);
        script
    }

    fn get() -> Self {
        let mut script = Script::new("get");
        script.command(&[b"GET", KEY], Expected::Value);
        script
    }

    fn mset(keys: u32, value: &[u8]) -> Self {
        let mut script = Script::new("mset");
        let pairs = (0..keys).flat_map(|_| [KEY, value]);
        let words: Vec<&[u8]> = std::iter::once(&b"MSET"[..]).chain(pairs).collect();
        script.command(&words, Expected::Ok);
        script
    }

    fn mget(keys: u32) -> Self {
        let mut script = Script::new("mget");
        let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain((0..keys).map(|_| KEY)).collect();
        script.command(&words, Expected::Array(keys));
        script.expected.extend((0..keys).map(|_| Expected::Value));
        script
    }

    fn multi_set(keys: u32, value: &[u8]) -> Self {
        Script::multi("multi-set", (0..keys).map(|_| KEY.to_vec()).collect(), value)
    }

    fn multi_set_tag(keys: u32, value: &[u8]) -> Self {
        let key = |at: u32| [b"{", KEY, b"}:", at.to_string().as_bytes()].concat();
        Script { same: true, ..Script::multi("multi-set-tag", (0..keys).map(key).collect(), value) }
    }

    fn multi(name: &str, keys: Vec<Vec<u8>>, value: &[u8]) -> Self {
        let mut script = Script::new(name);
        script.command(&[b"MULTI"], Expected::Ok);
        keys.iter().for_each(|key| script.command(&[b"SET", key, value], Expected::Queued));
        script.command(&[b"EXEC"], Expected::Array(keys.len() as u32));
        script.expected.extend(keys.iter().map(|_| Expected::Ok));
        script
    }

    fn new(name: &str) -> Self {
        let (expected, bytes, digits) = (Vec::new(), Vec::new(), Vec::new());
        Script { name: name.into(), expected, bytes, digits, same: false }
    }

    fn command(&mut self, words: &[&[u8]], reply: Expected) {
        self.bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            if let Some(at) = word.windows(KEY.len()).position(|part| part == KEY) {
                self.digits.push(self.bytes.len() + at + KEY.len() - DIGITS);
            }
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.expected.push(reply);
    }

    fn fill(&self, bytes: &mut [u8], key_range: u64, random: &mut fastrand::Rng) {
        let mut key = random.u64(0..key_range);
        for (at, &start) in self.digits.iter().enumerate() {
            if at > 0 && !self.same {
                key = random.u64(0..key_range);
            }
            let mut rest = key;
            for digit in bytes[start..start + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: &str, keys: u64) -> String {
        let mix = Mix::new(kind.parse().expect("a unit"), keys, 1).expect("a mix");
        let mut out = Vec::new();
        mix.write(&mut fastrand::Rng::with_seed(1), &mut out);
        String::from_utf8(out).expect("text").replace("\r\n", " ")
    }

    #[test]
    fn a_key_is_written_as_redis_benchmark_does() {
        assert_eq!(text("set", 1), "*3 $3 SET $16 key:000000000000 $1 v ");
        assert_eq!(text("mget:2", 1), "*3 $4 MGET $16 key:000000000000 $16 key:000000000000 ");
    }

    #[test]
    fn the_keys_of_a_tagged_unit_share_their_digits() {
        let unit = text("multi-set-tag:2", 2_000_000);
        let digits: Vec<&str> = unit.split("{key:").skip(1).map(|rest| &rest[..DIGITS]).collect();
        assert_eq!(digits.len(), 2);
        assert_eq!(digits[0], digits[1]);
        assert!(unit.contains("}:0 ") && unit.contains("}:1 "), "{unit}");
    }

    #[test]
    fn units_are_named_as_they_are_asked_for() {
        for name in ["set", "get", "mset:10", "mget:10", "multi-set:4", "multi-set-tag:4", "mixed:0"] {
            assert_eq!(name.parse::<UnitKind>().expect("a unit").to_string(), name);
        }
        for wrong in ["", "set:2", "mset", "mset:0", "mset:x", "mixed:101", "del"] {
            assert!(wrong.parse::<UnitKind>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mix_holds_its_shares() {
        let mix = Mix::new(UnitKind::Mixed { percent: 10 }, 1000, 1).expect("a mix");
        let (mut random, mut counts) = (fastrand::Rng::with_seed(7), [0u32; 3]);
        for _ in 0..10_000 {
            counts[mix.write(&mut random, &mut Vec::new())] += 1;
        }
        assert!((900..1100).contains(&counts[2]) && counts[0].abs_diff(counts[1]) < 400, "{counts:?}");
    }
}

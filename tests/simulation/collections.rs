//! Collections of every type on several shards, in databases of their own: a list, a set, a hash and a sorted set that all have
//! the same elements, whatever transaction runs. Small and large ones, which recovery must find in the same form.

use super::sets::{Looked, Rule};
use fastrand::Rng;

/// So many are large in every type: by their number, or by the longest of them.
const MANY: usize = 150;
/// Longer than any threshold of bytes.
const LONG: usize = 70;

pub struct Collections {
    list: String,
    set: String,
    hash: String,
    sorted_set: String,
    /// Beside the list's, on another shard perhaps.
    aside: String,
}

impl Collections {
    /// Databases 3 and 4 are theirs.
    pub fn new(keys: Vec<String>) -> Collections {
        let [list, set, hash, sorted_set, aside] = keys.try_into().expect("five keys");
        Collections { list, set, hash, sorted_set, aside }
    }

    pub fn look(&self, rng: &mut Rng) -> Looked {
        let Collections { list, set, hash, sorted_set, aside } = self;
        let few = |rng: &mut Rng| (0..rng.usize(1..4)).map(|_| format!("e{}", rng.u32(..12))).collect::<Vec<_>>();
        let all = format!("{list} {set} {hash} {sorted_set}");
        let acts = match rng.u8(..14) {
            0..4 => {
                let elements = few(rng);
                let mut acts = self.removal(&elements);
                // Named twice, they would be twice in the list.
                let elements = std::collections::BTreeSet::from_iter(elements).into_iter().collect::<Vec<_>>();
                acts.extend(self.addition(&elements, rng));
                acts
            }
            4..6 => self.removal(&few(rng)),
            6 => {
                let seed = rng.u64(..);
                let long = "x".repeat(LONG);
                let many = (0..MANY).map(|n| format!("{seed:x}-{n}-{}", if n % 8 == 0 { &long } else { "" }));
                [vec![format!("DEL {all}")], self.addition(&many.collect::<Vec<_>>(), rng)].concat()
            }
            7 => {
                let elements = (0..rng.usize(1..20)).map(|_| format!("{:x}", rng.u64(..))).collect::<Vec<_>>();
                self.addition(&elements, rng)
            }
            8 => vec![format!("DEL {all}")],
            9 => vec!["FLUSHDB".to_string()],
            10 => vec!["SWAPDB 3 4".to_string()],
            11 => vec![format!("COPY {list} {aside} REPLACE"), format!("DEL {list}"), format!("RENAME {aside} {list}")],
            12 => vec![format!("LMOVE {list} {list} LEFT RIGHT"), format!("SUNIONSTORE {set} {set} {set}")],
            _ => Vec::new(),
        };
        let mut lines = vec![format!("SELECT {}", rng.u8(3..=4))];
        lines.extend(acts);
        lines.extend([
            format!("LRANGE {list} 0 -1"),
            format!("SMEMBERS {set}"),
            format!("HKEYS {hash}"),
            format!("ZRANGE {sorted_set} 0 -1"),
            "SELECT 0".to_string(),
        ]);
        Looked { lines, rule: Rule::SameElements }
    }

    fn addition(&self, elements: &[String], rng: &mut Rng) -> Vec<String> {
        let Collections { list, set, hash, sorted_set, .. } = self;
        let side = ["LPUSH", "RPUSH"][rng.usize(..2)];
        let with = |rng: &mut Rng, number_first: bool| {
            let pair = |element: &String| {
                let number = rng.i32(-100..100);
                if number_first { format!("{number} {element}") } else { format!("{element} {number}") }
            };
            elements.iter().map(pair).collect::<Vec<_>>().join(" ")
        };
        vec![
            format!("{side} {list} {}", elements.join(" ")),
            format!("SADD {set} {}", elements.join(" ")),
            format!("HSET {hash} {}", with(rng, false)),
            format!("ZADD {sorted_set} {}", with(rng, true)),
        ]
    }

    fn removal(&self, elements: &[String]) -> Vec<String> {
        let Collections { list, set, hash, sorted_set, .. } = self;
        let mut lines = elements.iter().map(|element| format!("LREM {list} 0 {element}")).collect::<Vec<_>>();
        let all = elements.join(" ");
        lines.extend([format!("SREM {set} {all}"), format!("HDEL {hash} {all}"), format!("ZREM {sorted_set} {all}")]);
        lines
    }
}

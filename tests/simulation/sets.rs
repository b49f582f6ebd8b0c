//! What the checkers' model doesn't know, in databases of its own: keys on several shards that all have the same value or
//! none, whatever transaction runs: MSET, FLUSHDB, SWAPDB, BITOP, COPY and MSETNX. Every transaction looks at them at its
//! end, with DBSIZE and KEYS, and must find that true.

use crate::support::Resp;
use fastrand::Rng;

pub struct Sets {
    keys: Vec<String>,
}

/// A transaction, whose last replies but one must agree.
#[derive(Clone, Debug)]
pub struct Looked {
    pub lines: Vec<String>,
    pub rule: Rule,
}

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// So many keys have one value, or are none, as MGET, DBSIZE and KEYS say.
    OneValue(usize),
    /// The last four but one are the same elements, each once.
    SameElements,
}

impl Sets {
    /// Databases 1 and 2 are theirs.
    pub fn new(keys: Vec<String>) -> Sets {
        Sets { keys }
    }

    pub fn look(&self, rng: &mut Rng) -> Looked {
        let value = rng.u32(1_000_000..9_999_999);
        let pairs = self.keys.iter().map(|key| format!("{key} {value}")).collect::<Vec<_>>();
        let at = rng.usize(..self.keys.len());
        let (a, b) = (&self.keys[at], &self.keys[(at + 1) % self.keys.len()]);
        let acts = match rng.u8(..10) {
            0 => vec![format!("MSET {}", pairs.join(" "))],
            1 => pairs.iter().map(|pair| format!("SET {pair}")).collect(),
            2 => vec!["FLUSHDB".to_string()],
            3 => vec!["SWAPDB 1 2".to_string()],
            4 => vec![format!("BITOP OR {a} {}", self.keys.join(" "))],
            5 => vec![format!("COPY {a} {b} REPLACE")],
            6 => vec![format!("MSETNX {}", pairs.join(" "))],
            7 => vec![format!("DEL {}", self.keys.join(" "))],
            8 => vec![format!("APPEND {a} x"), format!("MSET {}", pairs.join(" ")), "RANDOMKEY".to_string()],
            _ => Vec::new(),
        };
        let db = rng.u8(1..=2);
        let mut lines = vec![format!("SELECT {db}")];
        lines.extend(acts);
        lines.extend([format!("MGET {}", self.keys.join(" ")), "DBSIZE".to_string(), "KEYS *".to_string()]);
        lines.push("SELECT 0".to_string());
        Looked { lines, rule: Rule::OneValue(self.keys.len()) }
    }
}

impl Looked {
    pub fn judge(&self, reply: &Resp) -> Result<(), String> {
        let told = |why: &str| Err(format!("{why}: {:?} = {reply}", self.lines));
        let Resp::Array(replies) = reply else { return told("no array") };
        // RENAME and COPY of what isn't there.
        let is_refused = |reply: &Resp| reply.is_error() && reply.bytes() != b"ERR no such key";
        if replies.len() != self.lines.len() || replies.iter().any(is_refused) {
            return told("not all was run");
        }
        match self.rule {
            Rule::OneValue(all) => {
                let [.., values, count, keys, _] = &replies[..] else { return told("too few") };
                let first = &values.items()[0];
                let held = if *first == Resp::Nil { 0 } else { all };
                if values.items().iter().any(|value| value != first) {
                    return told("torn");
                }
                if count.integer() != held as i64 || keys.items().len() != held {
                    return told("miscounted");
                }
            }
            Rule::SameElements => {
                let [.., list, set, hash, sorted_set, _] = &replies[..] else { return told("too few") };
                let sorted = |reply: &Resp| {
                    let mut elements = reply.items().to_vec();
                    elements.sort();
                    elements
                };
                let elements = sorted(list);
                if [set, hash, sorted_set].into_iter().any(|other| sorted(other) != elements) {
                    return told("torn");
                }
            }
        }
        Ok(())
    }
}

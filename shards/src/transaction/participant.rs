//! One shard's side of transactions: what becomes of a question, at once or when whoever was in the way is gone.
//!
//! Single commands that find intents in their way take part like a transaction of one shard: they ask empty-handed, to run on
//! their grant.

use super::acquisition::Ask;
use super::intents::{Access, Claim, Intents, Outcome};
use super::{Age, Standing};
use std::collections::BTreeMap;

/// What a shard does with a claimant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Run it now; it holds its intents until `release`.
    Run,
    /// Say that it holds its intents.
    Granted { attempt: u32 },
    /// Nothing for now: `next_granted` will name it.
    Waits,
    /// Say that it must let go of its other intents. `next_granted` will name it once it is granted.
    Yields { attempt: u32 },
}

#[derive(Clone, Debug)]
struct Asked {
    attempt: u32,
    run: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Participant {
    intents: Intents,
    waiting: BTreeMap<Age, Asked>,
}

impl Participant {
    /// Nobody holds or wants intents here: a single command needn't look further.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.intents.is_idle()
    }
    pub fn conflicts(&self, claim: &Claim) -> bool {
        self.intents.conflicts(claim)
    }
    pub fn conflicts_on(&self, key_hash: u64, access: Access) -> bool {
        self.intents.conflicts_on(key_hash, access)
    }

    /// A question; never twice for the same transaction without `release` between.
    pub fn ask(&mut self, age: Age, claim: Claim, ask: Ask) -> Verdict {
        let Ask { attempt, standing, run, .. } = ask;
        match self.intents.acquire(age, claim, standing) {
            Outcome::Granted if run => Verdict::Run,
            Outcome::Granted => Verdict::Granted { attempt },
            Outcome::Waits => {
                self.waiting.insert(age, Asked { attempt, run });
                Verdict::Waits
            }
            Outcome::Yields => {
                // The others will be let go, so it can't run before they were asked again.
                self.waiting.insert(age, Asked { attempt, run: false });
                Verdict::Yields { attempt }
            }
        }
    }

    /// A single command's question: it holds nothing elsewhere and runs as soon as it may.
    pub fn ask_alone(&mut self, age: Age, claim: Claim) -> Verdict {
        self.ask(age, claim, Ask { participant: 0, attempt: 0, standing: Standing::EmptyHanded, run: true })
    }

    /// Its part has run, or it is let go or given up.
    pub fn release(&mut self, age: Age) {
        self.waiting.remove(&age);
        self.intents.release(age);
    }

    /// Hashes of the keys that a claimant may write here; `None`: of all.
    pub fn written_by(&self, age: Age) -> Option<impl Iterator<Item = u64>> {
        self.intents.written_by(age)
    }

    /// The next claimant that was granted after waiting.
    pub fn next_granted(&mut self) -> Option<(Age, Verdict)> {
        let age = self.intents.next_granted()?;
        let Asked { attempt, run } = self.waiting.remove(&age).expect("who was granted had waited");
        Some((age, if run { Verdict::Run } else { Verdict::Granted { attempt } }))
    }

    pub fn check_invariants(&self) {
        self.intents.check_invariants();
    }
}

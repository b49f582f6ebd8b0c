//! kill -9 in the middle of transactions over several shards, again and again on one directory. After each start: every
//! transaction is there on all of its shards or on none, nothing acknowledged is gone, and nothing that anyone had read.
//!
//! Two forms: sets of keys that are always written together with a counter, whose state is told at a glance; and recorded
//! histories that go on over the kill, for the checkers.

use super::driver::{Recording, Tally};
use super::history::{History, Op};
use super::model::{Answer, Key};
use super::settings::{Settings, keys_on};
use super::workload::{Kind, Mix, Planner};
use crate::support::{Client, DataDir, Resp, Server};
use fastrand::Rng;
use std::path::Path;
use std::time::Duration;

/// Starts a server on a directory, with this policy of syncing.
pub type Start = fn(&Path, &str, &Settings) -> Server;

/// What must be there after a kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// What was acknowledged.
    Acknowledged,
    /// Also what anyone had read, acknowledged to its writer or not.
    Read,
}

/// How the keys of a set are written together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Together {
    Multi,
    Mset,
    /// One value that goes from key to key of the set: it is in one place, always.
    Rename,
}

/// Keys of one writer, and what is known about them.
struct Set {
    together: Together,
    keys: Vec<String>,
    sent: u64,
    acknowledged: u64,
    /// By the reader beside the writer.
    read: u64,
}

#[derive(Default, Debug)]
pub struct Count {
    pub kills: u64,
    pub transactions: u64,
    /// Transactions cut off without an answer: that were there afterwards, and that were not.
    pub kept: u64,
    pub dropped: u64,
    pub violations: Vec<String>,
}

pub fn hunt_sets(start: Start, policy: &str, kept: Kept, settings: &Settings) -> Count {
    let dir = DataDir::new();
    let mut rng = Rng::with_seed(settings.seed);
    let mut sets = sets(settings);
    let mut count = Count::default();
    let mut server = start(dir.path(), policy, settings);
    for cycle in 0..settings.cycles {
        let before = sets.iter().map(|set| set.acknowledged).sum::<u64>();
        let load = Duration::from_micros(rng.u64(2_000..60_000));
        let torn = write_until(server.port, &mut sets, || {
            std::thread::sleep(load);
            server.kill();
        });
        count.violations.extend(torn);
        count.kills += 1;
        count.transactions += sets.iter().map(|set| set.acknowledged).sum::<u64>() - before;
        server = start(dir.path(), policy, settings);
        for set in &mut sets {
            if kept == Kept::Acknowledged {
                set.read = 0;
            }
            match set.inspect(&mut server.client()) {
                Ok(value) => {
                    count.kept += u64::from(value > set.acknowledged);
                    count.dropped += u64::from(value < set.sent);
                    (set.sent, set.acknowledged, set.read) = (value, value, value);
                }
                Err(why) => count.violations.push(format!("{policy}, kill {cycle}: {why}")),
            }
        }
        if !count.violations.is_empty() {
            break;
        }
    }
    println!(
        "{policy}: {} kills, {} transactions acknowledged; cut off: {} kept, {} dropped; {} violations",
        count.kills,
        count.transactions,
        count.kept,
        count.dropped,
        count.violations.len()
    );
    count
}

impl Count {
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
        assert!(self.transactions > 0, "the load was too small to show anything: {self:?}");
    }
}

fn sets(settings: &Settings) -> Vec<Set> {
    let kinds = [
        (Together::Multi, &[0, 1][..]),
        (Together::Multi, &[1, 0, 5]),
        (Together::Mset, &[2, 0]),
        (Together::Mset, &[3, 1, 0]),
        (Together::Rename, &[0, 1]),
        (Together::Rename, &[4, 1, 2]),
    ];
    let set = |(index, (together, wanted)): (usize, (Together, &[u16]))| {
        let keys = keys_on(&format!("set:{index}"), wanted, settings.shards);
        Set { together, keys, sent: 0, acknowledged: 0, read: 0 }
    };
    let wanted = kinds.into_iter().filter(|(together, _)| {
        settings.wants(match together {
            Together::Multi => Kind::Multi,
            Together::Mset => Kind::Mset,
            Together::Rename => Kind::Move,
        })
    });
    wanted.enumerate().map(set).collect()
}

/// What readers saw torn.
fn write_until(port: u16, sets: &mut [Set], kill: impl FnOnce()) -> Vec<String> {
    std::thread::scope(|scope| {
        let clients = sets.iter_mut().map(|set| scope.spawn(move || set.write(port))).collect::<Vec<_>>();
        kill();
        clients.into_iter().filter_map(|client| client.join().expect("no client panics").err()).collect()
    })
}

impl Set {
    /// Until the server is gone. Now and then looks at what it wrote, as another client.
    fn write(&mut self, port: u16) -> Result<(), String> {
        let (Ok(mut writer), Ok(mut reader)) = (Client::try_connect(port), Client::try_connect(port)) else {
            return Ok(());
        };
        loop {
            self.sent += 1;
            match self.write_once(&mut writer) {
                Ok(Ok(())) => self.acknowledged = self.sent,
                Ok(Err(why)) => return Err(why),
                Err(_) => return Ok(()),
            }
            if self.sent.is_multiple_of(4) {
                let Ok(values) = self.values(&mut reader) else { return Ok(()) };
                self.read = self.judge(&values)?;
            }
        }
    }

    fn write_once(&self, client: &mut Client) -> std::io::Result<Result<(), String>> {
        let value = self.sent.to_string();
        let pairs = self.keys.iter().flat_map(|key| [key.clone(), value.clone()]);
        let reply = match self.together {
            Together::Mset => client.try_call(&std::iter::once("MSET".to_string()).chain(pairs).collect::<Vec<_>>())?,
            Together::Multi => {
                let sets = self.keys.iter().map(|key| vec!["SET".to_string(), key.clone(), value.clone()]);
                let lines = std::iter::once(vec!["MULTI".to_string()]).chain(sets).chain([vec!["EXEC".to_string()]]);
                let mut request = Vec::new();
                lines.for_each(|line| crate::support::client::encode(&line, &mut request));
                client.send_raw(&request)?;
                for _ in 0..=self.keys.len() {
                    client.read()?;
                }
                match client.read()? {
                    Resp::Array(replies) if replies.iter().all(|reply| *reply == Resp::ok()) => Resp::ok(),
                    other => other,
                }
            }
            Together::Rename if self.sent == 1 => client.try_call(&["SET", &self.keys[1 % self.keys.len()], "here"])?,
            Together::Rename => client.try_call(&["RENAME", self.place(self.sent - 1), self.place(self.sent)])?,
        };
        Ok(if reply == Resp::ok() { Ok(()) } else { Err(format!("{:?} was answered with {reply}", self.together)) })
    }

    /// Where the value that goes around is after so many steps.
    fn place(&self, steps: u64) -> &str {
        &self.keys[steps as usize % self.keys.len()]
    }

    fn values(&self, client: &mut Client) -> std::io::Result<Vec<Resp>> {
        let words = std::iter::once("MGET").chain(self.keys.iter().map(String::as_str)).collect::<Vec<_>>();
        Ok(client.try_call(&words)?.items().to_vec())
    }

    fn inspect(&self, client: &mut Client) -> Result<u64, String> {
        let values = self.values(client).map_err(|error| error.to_string())?;
        self.judge(&values)
    }

    /// The counter that the values stand for: whole, and neither before what is known nor after what was sent.
    fn judge(&self, values: &[Resp]) -> Result<u64, String> {
        let told = |what: &str| {
            let values = values.iter().map(Resp::to_string).collect::<Vec<_>>().join(" ");
            let Set { together, sent, acknowledged, read, .. } = self;
            Err(format!(
                "{what}: {together:?} of {:?} = {values}; sent {sent}, acknowledged {acknowledged}, read {read}",
                self.keys
            ))
        };
        let known = self.acknowledged.max(self.read);
        let value = match self.together {
            Together::Multi | Together::Mset if values.iter().any(|value| *value != values[0]) => return told("torn"),
            Together::Multi | Together::Mset => values[0].text().parse().unwrap_or(0),
            Together::Rename => {
                let held = (0..values.len()).filter(|index| values[*index] != Resp::Nil).collect::<Vec<_>>();
                match held[..] {
                    [] => 0,
                    // The step of all possible ones that leads to this place.
                    [place] => {
                        let leads_here = |step: &u64| *step as usize % self.keys.len() == place;
                        let Some(step) = (known.max(1)..=self.sent).find(leads_here) else { return told("lost") };
                        step
                    }
                    _ => return told("torn"),
                }
            }
        };
        match value {
            value if value < known => told("lost"),
            value if value > self.sent => told("from nowhere"),
            value => Ok(value),
        }
    }
}

/// Takes out the reads that may have seen an effect whose writer got no reply: sent before they ended, on one of their
/// keys. What is left has an order if the whole had one.
pub fn forget_hasty_reads(history: &mut History) {
    // What a transaction read before its EXEC got lost is such a read, too.
    let unsure = history.ops.iter_mut().filter(|op| !op.certain);
    unsure.flat_map(|op| &mut op.calls).for_each(|(_, answer)| *answer = Answer::Unknown);
    let keys = |op: &Op| op.calls.iter().flat_map(|(call, _)| call.keys()).collect::<Vec<_>>();
    let unsure = history.ops.iter().filter(|op| !op.certain).map(|op| (op.start, op.end, keys(op)));
    let unsure = unsure.collect::<Vec<_>>();
    let is_hasty = |op: &Op| {
        let own = keys(op);
        let saw = |(start, end, keys): &(u64, u64, Vec<Key>)| {
            *start < op.end && op.end <= *end && own.iter().any(|key| keys.contains(key))
        };
        op.certain && unsure.iter().any(saw)
    };
    // Who changes nothing has nothing to wait for either.
    let nothing = |answer: &Answer| matches!(answer, Answer::NoKey | Answer::Count(0));
    let reads = |op: &Op| op.calls.iter().all(|(call, answer)| call.only_reads() || nothing(answer));
    history.ops.retain(|op| !(is_hasty(op) && reads(op)));
    // What a transaction read is no surer than if it had been read alone.
    for op in history.ops.iter_mut().filter(|op| is_hasty(op)) {
        let reads = op.calls.iter_mut().filter(|(call, _)| call.only_reads());
        reads.for_each(|(_, answer)| *answer = Answer::Unknown);
    }
}

/// A history over several kills and restarts.
pub fn record(start: Start, policy: &str, mix: &Mix, seed: u64, settings: &Settings) -> (History, Tally) {
    const LIVES: u64 = 3;
    let dir = DataDir::new();
    let mut rng = Rng::with_seed(seed);
    let wanted = (0..u16::from(mix.keys)).collect::<Vec<_>>();
    let mut recording = Recording::new(keys_on(&format!("crash:{seed:x}"), &wanted, settings.shards));
    let planner = |client| Planner::new(mix.clone(), seed, client);
    let mut planners = (0..settings.clients).map(planner).collect::<Vec<_>>();
    let mut server = start(dir.path(), policy, settings);
    for _ in 0..LIVES {
        let load = Duration::from_micros(rng.u64(1_000..30_000));
        recording.run(server.port, &mut planners, settings.operations / LIVES, || {
            std::thread::sleep(load);
            server.kill();
        });
        server = start(dir.path(), policy, settings);
        recording.settle();
    }
    recording.read_all(server.port, mix);
    recording.finish()
}

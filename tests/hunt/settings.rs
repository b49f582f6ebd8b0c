//! How far a hunt goes: small by default, so that every run of the tests has one; the environment sets the long form.
//! `scripts/hunt` names the variables. What else is in the environment reaches the server, as for any child process.

use super::workload::{Kind, Mix};
use crate::support::{from_env, seed};

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub histories: u64,
    /// Per history.
    pub operations: u64,
    pub clients: u32,
    pub shards: u16,
    /// Per way of reading.
    pub pairs: u64,
    /// Kills per policy.
    pub cycles: u64,
    /// For the server.
    pub server_args: Vec<String>,
    /// Empty for all.
    pub kinds: Vec<String>,
}

impl Settings {
    pub fn new() -> Settings {
        let words = |name: &str, by: char| {
            let text = std::env::var(name).unwrap_or_default();
            text.split(by).filter(|word| !word.is_empty()).map(str::to_string).collect::<Vec<_>>()
        };
        let shards = from_env("SHARDIS_HUNT_SHARDS", 8) as u16;
        Settings {
            seed: seed("SHARDIS_HUNT_SEED"),
            histories: from_env("SHARDIS_HUNT_HISTORIES", 6),
            operations: from_env("SHARDIS_HUNT_OPERATIONS", 2_000),
            clients: from_env("SHARDIS_HUNT_CLIENTS", 6) as u32,
            shards,
            pairs: from_env("SHARDIS_HUNT_PAIRS", 10_000),
            cycles: from_env("SHARDIS_HUNT_CYCLES", 4),
            server_args: [vec!["--shards".to_string(), shards.to_string()], words("SHARDIS_HUNT_ARGS", ' ')].concat(),
            kinds: words("SHARDIS_HUNT_KINDS", ','),
        }
    }

    /// The command line of the server: our own, then what was asked for, which wins.
    pub fn flags<'a>(&'a self, own: &[&'a str]) -> Vec<&'a str> {
        let asked = self.server_args.iter().map(String::as_str);
        own.iter().copied().chain(asked).collect()
    }

    pub fn wants(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&format!("{kind:?}").to_lowercase())
    }

    /// `mix` with the kinds that were asked for.
    pub fn narrow(&self, mix: Mix) -> Mix {
        let kinds = mix.kinds.into_iter().filter(|kind| self.wants(*kind)).collect::<Vec<_>>();
        assert!(!kinds.is_empty(), "SHARDIS_HUNT_KINDS leaves nothing to do: {:?}", self.kinds);
        Mix { kinds, ..mix }
    }
}

/// One key per wanted shard, all with names that nobody used before.
pub fn keys_on(prefix: &str, wanted: &[u16], shards: u16) -> Vec<String> {
    let map = shards::slot::SlotMap::new(shards);
    let on = |name: &String, shard: u16| map.shard_of(shards::slot::slot_of(name.as_bytes())).0 == shard;
    let find = |(index, shard): (usize, &u16)| {
        let names = (0..).map(|n| format!("{prefix}:{index}:{n}"));
        names.into_iter().find(|name| on(name, *shard % shards)).expect("every shard has slots")
    };
    wanted.iter().enumerate().map(find).collect()
}

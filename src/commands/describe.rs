//! What the catalogue's rows mean in Redis' terms: flags, ACL categories, key specifications; and docs/commands.md.
//!
//! Everything is derived from the rows, so that what clients are told can't differ from what the server does.

use super::catalog::{Catalog, Command};
use shards::row::{KeyUse, Keys, Traits};
use std::fmt::Write;

/// Flags as COMMAND INFO names them, in Redis' order.
const FLAGS: &[(Traits, &str)] = &[
    (Traits::WRITE, "write"),
    (Traits::READ, "readonly"),
    (Traits::DENY_OOM, "denyoom"),
    (Traits::ADMIN, "admin"),
    (Traits::NO_SCRIPT, "noscript"),
    (Traits::BLOCKING, "blocking"),
    (Traits::LOADING, "loading"),
    (Traits::STALE, "stale"),
    (Traits::SKIP_MONITOR, "skip_monitor"),
    (Traits::SKIP_SLOWLOG, "skip_slowlog"),
    (Traits::FAST, "fast"),
    (Traits::NO_AUTH, "no_auth"),
    (Traits::NO_ASYNC_LOADING, "no_async_loading"),
    (Traits::NO_MULTI, "no_multi"),
    (Traits::MOVABLE_KEYS, "movablekeys"),
];

pub fn flags(command: &Command) -> Vec<&'static str> {
    let traits = command.traits();
    FLAGS.iter().filter(|(flag, _)| traits.has(*flag)).map(|(_, name)| *name).collect()
}

/// ACL categories in Redis' order, without the `@`.
pub fn categories(command: &Command) -> Vec<&'static str> {
    let traits = command.traits();
    let group = command.docs().group;
    let has = |category: &str| match category {
        "keyspace" => traits.has(Traits::KEYSPACE),
        "read" => traits.has(Traits::READ) && group != "scripting",
        "write" => traits.has(Traits::WRITE),
        "admin" => traits.has(Traits::ADMIN),
        "fast" => traits.has(Traits::FAST),
        "slow" => !traits.has(Traits::FAST),
        "blocking" => traits.has(Traits::BLOCKING),
        "dangerous" => traits.has(Traits::DANGEROUS) || traits.has(Traits::ADMIN),
        "connection" => traits.has(Traits::CONNECTION),
        "sortedset" => group == "sorted-set",
        "transaction" => group == "transactions",
        "set" | "list" | "hash" | "string" | "bitmap" | "hyperloglog" | "geo" | "stream" | "pubsub" | "scripting" => {
            group == category
        }
        other => unreachable!("{other} is no category"),
    };
    CATEGORIES.iter().copied().filter(|category| has(category)).collect()
}

/// All ACL categories.
pub const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Where some of a command's keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySpec {
    pub usage: KeyUse,
    /// `None`: only the command itself can tell (COMMAND GETKEYS).
    pub range: Option<KeyRange>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRange {
    pub first: i8,
    /// Counted from `first`, or, when negative, from the end.
    pub last: i8,
    pub step: i8,
}

pub fn key_specs(command: &Command) -> Vec<KeySpec> {
    let spec = |first: i8, last: i8, step: i8, usage| {
        let last = if last < 0 { last } else { last - first };
        KeySpec { usage, range: Some(KeyRange { first, last, step }) }
    };
    match command.keys() {
        Keys::None => Vec::new(),
        Keys::Range { first, last, step, usage } => vec![spec(first, last, step, usage)],
        Keys::Two { first, rest } => vec![spec(first.0, first.0, 1, first.1), spec(rest.0, rest.1, 1, rest.2)],
        Keys::Find { usage, .. } => vec![KeySpec { usage, range: None }],
    }
}

/// First key, last key and step, the older form of key specifications.
pub fn key_range(command: &Command) -> (i8, i8, i8) {
    match command.keys() {
        Keys::None | Keys::Find { .. } => (0, 0, 0),
        Keys::Range { first, last, step, .. } => (first, last, step),
        Keys::Two { first, rest } => (first.0, rest.1, 1),
    }
}

/// What is done with the key at a position.
pub fn key_use(command: &Command, position: usize) -> KeyUse {
    match command.keys() {
        Keys::None => KeyUse::Read,
        Keys::Range { usage, .. } | Keys::Find { usage, .. } => usage,
        Keys::Two { first, .. } if first.0 as usize == position => first.1,
        Keys::Two { rest, .. } => rest.2,
    }
}

/// Flags of a key specification.
pub fn key_flags(usage: KeyUse) -> &'static [&'static str] {
    match usage {
        KeyUse::Read => &["RO", "access"],
        KeyUse::Write => &["RW", "update"],
        KeyUse::ReadWrite => &["RW", "access", "update"],
        KeyUse::Overwrite => &["OW", "update"],
        KeyUse::Remove => &["RM", "delete"],
    }
}

/// The documentation page of all commands.
pub fn markdown(catalog: &Catalog) -> String {
    let mut page = String::from(INTRODUCTION);
    let mut groups: Vec<&str> = catalog.iter().map(|command| command.docs().group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        write!(page, "\n## {group}\n\n| command | arguments | since | time | flags | |\n|---|---|---|---|---|---|\n")
            .expect("a string takes every write");
        let mut commands: Vec<&Command> = catalog.iter().filter(|command| command.docs().group == group).collect();
        commands.sort_unstable_by_key(|command| command.name());
        commands.into_iter().for_each(|command| row(&mut page, command));
    }
    page
}

const INTRODUCTION: &str = "\
# Commands

This page is made from the command table; `UPDATE_DOCS=1 cargo test --lib commands` writes it anew. *Since* is the version
of Redis that introduced a command, or of this server for `SHARDIS`. *Arguments* counts those behind the command's words.
";

fn row(page: &mut String, command: &Command) {
    let name = command.name().replace('|', " ").to_ascii_uppercase();
    let words = if command.parent.is_some() { 2 } else { 1 };
    let arguments = match command.arity() {
        exact @ 0.. => (exact - words).to_string(),
        least if -least > words => format!("{} or more", -least - words),
        _ => "any".into(),
    };
    let docs = command.docs();
    let flags = flags(command).join(" ");
    writeln!(page, "| `{name}` | {arguments} | {} | {} | {flags} | {} |", docs.since, docs.complexity, docs.summary)
        .expect("a string takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::new(shards::commands::FAMILIES, crate::commands::FAMILIES)
    }

    fn command<'a>(catalog: &'a Catalog, name: &str) -> &'a Command {
        catalog.by_full_name(name).expect(name)
    }

    #[test]
    fn rows_are_described_as_redis_describes_them() {
        let catalog = catalog();
        for (name, flags_of, categories_of) in [
            ("get", "readonly fast", "read string fast"),
            ("mset", "write denyoom", "write string slow"),
            ("rename", "write", "keyspace write slow"),
            ("bitop", "write denyoom", "write bitmap slow"),
            ("ping", "fast", "fast connection"),
            ("config", "", "slow"),
            ("config|get", "admin noscript loading stale", "admin slow dangerous"),
            ("auth", "noscript loading stale fast no_auth", "fast connection"),
        ] {
            assert_eq!(flags(command(&catalog, name)).join(" "), flags_of, "{name}");
            assert_eq!(categories(command(&catalog, name)).join(" "), categories_of, "{name}");
        }
    }

    #[test]
    fn key_positions_count_from_the_first_key() {
        let catalog = catalog();
        let range = |first, last, step| Some(KeyRange { first, last, step });
        let ranges = |name| key_specs(command(&catalog, name)).iter().map(|spec| spec.range).collect::<Vec<_>>();
        assert_eq!(ranges("get"), [range(1, 0, 1)]);
        assert_eq!(ranges("mset"), [range(1, -1, 2)]);
        assert_eq!(ranges("bitop"), [range(2, 0, 1), range(3, -1, 1)]);
        assert_eq!(key_range(command(&catalog, "bitop")), (2, -1, 1));
        assert_eq!(key_use(command(&catalog, "bitop"), 2), KeyUse::Overwrite);
        assert_eq!(key_use(command(&catalog, "bitop"), 3), KeyUse::Read);
        assert!(ranges("ping").is_empty());
    }

    #[test]
    fn every_command_is_documented() {
        for command in catalog().iter() {
            assert!(!command.docs().summary.is_empty(), "{}", command.name());
            assert!(!command.docs().summary.contains(['|', '\n']), "{}", command.name());
        }
    }

    #[test]
    fn the_page_of_commands_is_up_to_date() {
        let page = markdown(&catalog());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).expect("the page can be written");
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == page, "docs/commands.md is not up to date: run UPDATE_DOCS=1 cargo test --lib commands");
    }
}

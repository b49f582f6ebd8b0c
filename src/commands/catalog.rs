//! The catalogue: every family's rows, the shard's and the server's, under one number each.
//!
//! All cores build the same catalogue in the same order, so a command's number means the same on each.

use crate::commands::ServerHandler;
use shards::row::{Handler, Row};
use std::collections::HashMap;

pub type CommandNumber = u16;

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum Run {
    Shard(&'static Row<Handler>),
    Server(&'static Row<ServerHandler>),
}

/// Applies to the row whichever handler it has: both kinds have the same other fields.
macro_rules! row {
    ($run:expr, $row:ident => $value:expr) => {
        match $run {
            Run::Shard($row) => $value,
            Run::Server($row) => $value,
        }
    };
}

pub struct Command {
    pub number: CommandNumber,
    pub run: Run,
    /// Names (without the parent's) and numbers of its subcommands.
    pub subcommands: Vec<(&'static str, CommandNumber)>,
    pub parent: Option<CommandNumber>,
}

impl Command {
    pub fn name(&self) -> &'static str {
        row!(self.run, row => row.name)
    }
    pub fn arity(&self) -> i8 {
        row!(self.run, row => row.arity)
    }
    pub fn traits(&self) -> shards::row::Traits {
        row!(self.run, row => row.traits)
    }
    pub fn keys(&self) -> shards::row::Keys {
        row!(self.run, row => row.keys)
    }
    pub fn route(&self) -> shards::row::Route {
        row!(self.run, row => row.route)
    }
    pub fn docs(&self) -> shards::row::Docs {
        row!(self.run, row => row.docs)
    }
    pub fn accepts(&self, arguments: usize) -> bool {
        row!(self.run, row => row.accepts(arguments))
    }
    pub fn find_keys(&self, args: &shards::call::Args<'_>, out: &mut Vec<usize>) -> bool {
        row!(self.run, row => row.find_keys(args, out))
    }
}

pub struct Catalog {
    commands: Vec<Command>,
    by_name: HashMap<&'static str, CommandNumber>,
    /// Open addressing over names of up to 16 bytes, folded to one number: the lookup of every request.
    short: Vec<(u128, CommandNumber)>,
}

const EMPTY: u128 = 0;

impl Catalog {
    pub fn new(shard_families: &[&'static [Row<Handler>]], server_families: &[&'static [Row<ServerHandler>]]) -> Self {
        let mut catalog = Catalog { commands: Vec::new(), by_name: HashMap::new(), short: vec![(EMPTY, 0); 1024] };
        for rows in server_families {
            rows.iter().for_each(|row| catalog.add(Run::Server(row), None));
        }
        for rows in shard_families {
            rows.iter().for_each(|row| catalog.add(Run::Shard(row), None));
        }
        assert!(catalog.commands.len() < catalog.short.len() / 2, "the short table needs room");
        catalog
    }

    fn add(&mut self, run: Run, parent: Option<CommandNumber>) {
        let number = self.commands.len() as CommandNumber;
        let name = row!(run, row => row.name);
        // A shard's row named `debug|object` is a subcommand of the server's `debug`.
        let parent = parent.or_else(|| name.split_once('|').map(|(parent, _)| self.by_name[parent]));
        self.commands.push(Command { number, run, subcommands: Vec::new(), parent });
        let previous = self.by_name.insert(name, number);
        assert!(previous.is_none(), "two rows for {name}");
        match parent {
            Some(parent) => {
                let sub = name.split_once('|').expect("a subcommand's name is parent|name").1;
                self.commands[parent as usize].subcommands.push((sub, number));
            }
            None => self.index_short(name, number),
        }
        match run {
            Run::Shard(row) => row.subcommands.iter().for_each(|sub| self.add(Run::Shard(sub), Some(number))),
            Run::Server(row) => row.subcommands.iter().for_each(|sub| self.add(Run::Server(sub), Some(number))),
        }
    }

    fn index_short(&mut self, name: &'static str, number: CommandNumber) {
        if let Some(folded) = fold(name.as_bytes()) {
            let mut at = self.place(folded);
            while self.short[at].0 != EMPTY {
                at = (at + 1) % self.short.len();
            }
            self.short[at] = (folded, number);
        }
    }

    fn place(&self, folded: u128) -> usize {
        let mixed = (folded as u64 ^ (folded >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 54) as usize % self.short.len()
    }

    /// The command a request names, its container's subcommands not looked at.
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        match fold(name) {
            Some(folded) => {
                let mut at = self.place(folded);
                loop {
                    let (there, number) = self.short[at];
                    if there == folded {
                        let command = &self.commands[number as usize];
                        return command.name().as_bytes().eq_ignore_ascii_case(name).then_some(command);
                    }
                    if there == EMPTY {
                        return None;
                    }
                    at = (at + 1) % self.short.len();
                }
            }
            None => self.by_full_name(&String::from_utf8_lossy(name).to_ascii_lowercase()),
        }
    }

    /// The command or, for a container, the subcommand that the second argument names; the container itself when
    /// there is no such subcommand.
    pub fn resolve(&self, name: &[u8], sub: Option<&[u8]>) -> Option<&Command> {
        let command = self.find(name)?;
        if command.subcommands.is_empty() {
            return Some(command);
        }
        let found =
            sub.and_then(|sub| command.subcommands.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(sub)));
        Some(found.map_or(command, |(_, number)| &self.commands[*number as usize]))
    }

    /// By lower-case name, `parent|sub` for subcommands.
    pub fn by_full_name(&self, name: &str) -> Option<&Command> {
        self.by_name.get(name).map(|&number| &self.commands[number as usize])
    }
    pub fn get(&self, number: CommandNumber) -> &Command {
        &self.commands[number as usize]
    }
    /// All commands, subcommands included, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter()
    }
    pub fn len(&self) -> usize {
        self.commands.len()
    }
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// The name's bytes with the case bit set, as one number; `None` for longer names and the empty one. Different names may fold
/// to one number (`_` and DEL), so a hit is compared again.
fn fold(name: &[u8]) -> Option<u128> {
    if name.is_empty() || name.len() > 16 {
        return None;
    }
    // Two reads that overlap in the middle take in any length without a loop.
    let word = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight bytes")) as u128;
    let half = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().expect("four bytes")) as u128;
    let len = name.len();
    let folded = match len {
        8..=16 => word(0) | word(len - 8) << (8 * (len - 8)),
        4..8 => half(0) | half(len - 4) << (8 * (len - 4)),
        _ => name[0] as u128 | (name[len / 2] as u128) << (8 * (len / 2)) | (name[len - 1] as u128) << (8 * (len - 1)),
    };
    let mask = u128::MAX >> (8 * (16 - name.len()));
    Some(folded | (0x2020_2020_2020_2020_2020_2020_2020_2020 & mask))
}

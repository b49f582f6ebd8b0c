//! What the commands of a hunt mean: calls, answers, and the simplest store that gives the right ones, a list of
//! versions by key. Used to simulate a store and to try orders of a recorded history.

use super::history::{NIL, Token, Version, Versions};

/// An index into the names of the history's keys.
pub type Key = u8;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    Get(Key),
    Set(Key, Token),
    Append(Key, Token),
    GetSet(Key, Token),
    Mget(Vec<Key>),
    Mset(Vec<(Key, Token)>),
    Msetnx(Vec<(Key, Token)>),
    Del(Vec<Key>),
    Rename(Key, Key),
    /// With REPLACE.
    Copy(Key, Key),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    Value(Version),
    Values(Vec<Version>),
    /// Tokens for APPEND, keys for DEL, 0 or 1 for MSETNX and COPY.
    Count(u64),
    /// RENAME without a source.
    NoKey,
    /// The reply never came.
    Unknown,
}

impl Call {
    /// As it is sent.
    pub fn words(&self, names: &[String]) -> Vec<String> {
        let name = |key: &Key| names[*key as usize].clone();
        let names = |keys: &[Key]| keys.iter().map(name).collect::<Vec<_>>();
        let pairs = |pairs: &[(Key, Token)]| pairs.iter().flat_map(|(key, token)| [name(key), token.text()]).collect();
        let (command, rest): (&str, Vec<String>) = match self {
            Call::Get(key) => ("GET", vec![name(key)]),
            Call::Set(key, token) => ("SET", pairs(&[(*key, *token)])),
            Call::Append(key, token) => ("APPEND", pairs(&[(*key, *token)])),
            Call::GetSet(key, token) => ("GETSET", pairs(&[(*key, *token)])),
            Call::Mget(keys) => ("MGET", names(keys)),
            Call::Mset(writes) => ("MSET", pairs(writes)),
            Call::Msetnx(writes) => ("MSETNX", pairs(writes)),
            Call::Del(keys) => ("DEL", names(keys)),
            Call::Rename(from, to) => ("RENAME", names(&[*from, *to])),
            Call::Copy(from, to) => ("COPY", vec![name(from), name(to), "REPLACE".to_string()]),
        };
        [vec![command.to_string()], rest].concat()
    }

    pub fn keys(&self) -> Vec<Key> {
        match self {
            Call::Get(key) | Call::Set(key, _) | Call::Append(key, _) | Call::GetSet(key, _) => vec![*key],
            Call::Mget(keys) | Call::Del(keys) => keys.clone(),
            Call::Mset(writes) | Call::Msetnx(writes) => writes.iter().map(|(key, _)| *key).collect(),
            Call::Rename(from, to) | Call::Copy(from, to) => vec![*from, *to],
        }
    }

    pub fn only_reads(&self) -> bool {
        match self {
            Call::Get(_) | Call::Mget(_) => true,
            Call::Set(..) | Call::Append(..) | Call::GetSet(..) | Call::Mset(_) => false,
            Call::Msetnx(_) | Call::Del(_) | Call::Rename(..) | Call::Copy(..) => false,
        }
    }

    pub fn tokens(&self) -> Vec<Token> {
        match self {
            Call::Set(_, token) | Call::Append(_, token) | Call::GetSet(_, token) => vec![*token],
            Call::Mset(writes) | Call::Msetnx(writes) => writes.iter().map(|(_, token)| *token).collect(),
            Call::Get(_) | Call::Mget(_) | Call::Del(_) | Call::Rename(..) | Call::Copy(..) => Vec::new(),
        }
    }

    /// The same with each key on its own, as a store that splits it by shard would run it. Only for calls whose answer
    /// can be put together again.
    pub fn split(&self) -> Option<Vec<Call>> {
        match self {
            Call::Mset(writes) => Some(writes.iter().map(|(key, token)| Call::Set(*key, *token)).collect()),
            Call::Mget(keys) => Some(keys.iter().map(|key| Call::Get(*key)).collect()),
            Call::Get(_) | Call::Set(..) | Call::Append(..) | Call::GetSet(..) => None,
            Call::Msetnx(_) | Call::Del(_) | Call::Rename(..) | Call::Copy(..) => None,
        }
    }
}

/// The version of every key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State(pub Vec<Version>);

impl State {
    pub fn empty(keys: usize) -> State {
        State(vec![NIL; keys])
    }

    pub fn get(&self, key: Key) -> Version {
        self.0[key as usize]
    }

    fn put(&mut self, key: Key, version: Version) {
        self.0[key as usize] = version;
    }

    pub fn run(&mut self, call: &Call, versions: &mut Versions) -> Answer {
        match call {
            Call::Get(key) => Answer::Value(self.get(*key)),
            Call::Mget(keys) => Answer::Values(keys.iter().map(|key| self.get(*key)).collect()),
            Call::Set(key, token) => {
                self.put(*key, versions.child(NIL, *token));
                Answer::Done
            }
            Call::GetSet(key, token) => {
                let old = self.get(*key);
                self.put(*key, versions.child(NIL, *token));
                Answer::Value(old)
            }
            Call::Append(key, token) => {
                let version = versions.child(self.get(*key), *token);
                self.put(*key, version);
                Answer::Count(versions.len(version).into())
            }
            Call::Mset(writes) => {
                writes.iter().for_each(|(key, token)| self.put(*key, versions.child(NIL, *token)));
                Answer::Done
            }
            Call::Msetnx(writes) => {
                let free = writes.iter().all(|(key, _)| self.get(*key) == NIL);
                if free {
                    writes.iter().for_each(|(key, token)| self.put(*key, versions.child(NIL, *token)));
                }
                Answer::Count(free.into())
            }
            Call::Del(keys) => {
                let held = keys.iter().filter(|key| self.get(**key) != NIL).count();
                keys.iter().for_each(|key| self.put(*key, NIL));
                Answer::Count(held as u64)
            }
            Call::Rename(from, _) if self.get(*from) == NIL => Answer::NoKey,
            Call::Rename(from, to) => {
                let moved = self.get(*from);
                self.put(*from, NIL);
                self.put(*to, moved);
                Answer::Done
            }
            Call::Copy(from, _) if self.get(*from) == NIL => Answer::Count(0),
            Call::Copy(from, to) => {
                self.put(*to, self.get(*from));
                Answer::Count(1)
            }
        }
    }
}

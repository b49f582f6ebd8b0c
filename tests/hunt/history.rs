//! What clients did and what they saw, in one notation for a real server and for the simulated store: operations with
//! the times of request and reply, the calls they consist of, and the answers.
//!
//! Every write carries a token of its own, so a value is a list of tokens (SET begins a new list, APPEND adds one) and
//! tells exactly which writes it was made by. Values are interned: a `Version` is a list, its parent the list without
//! the last token. Rule: two versions are equal if and only if their lists are.

use super::model::{Answer, Call, Key};
use std::collections::HashMap;
use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub u32);

/// Digits of a token on the wire: all the same width, so that a value splits in one way only.
pub const TOKEN_DIGITS: usize = 7;

impl Token {
    pub fn text(self) -> String {
        format!("{:0width$}", self.0, width = TOKEN_DIGITS)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Version(pub u32);

/// No such key, or the empty list.
pub const NIL: Version = Version(0);

/// All versions of one history.
#[derive(Clone)]
pub struct Versions {
    /// Parent, last token and length; the first entry is `NIL`'s.
    nodes: Vec<(Version, Token, u32)>,
    children: HashMap<(Version, Token), Version>,
}

impl Default for Versions {
    fn default() -> Self {
        Versions { nodes: vec![(NIL, Token(u32::MAX), 0)], children: HashMap::new() }
    }
}

impl Versions {
    pub fn child(&mut self, parent: Version, token: Token) -> Version {
        let nodes = &mut self.nodes;
        *self.children.entry((parent, token)).or_insert_with(|| {
            let len = nodes[parent.0 as usize].2 + 1;
            nodes.push((parent, token, len));
            Version(nodes.len() as u32 - 1)
        })
    }
    /// The version without its last token, and that token.
    pub fn parent(&self, version: Version) -> Option<(Version, Token)> {
        (version != NIL).then(|| (self.nodes[version.0 as usize].0, self.nodes[version.0 as usize].1))
    }
    pub fn len(&self, version: Version) -> u32 {
        self.nodes[version.0 as usize].2
    }
    /// `None` for bytes that no client wrote.
    pub fn parse(&mut self, value: &[u8]) -> Option<Version> {
        let mut version = NIL;
        for digits in value.chunks(TOKEN_DIGITS) {
            let whole = digits.len() == TOKEN_DIGITS && digits.iter().all(u8::is_ascii_digit);
            let number = whole.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))?;
            version = self.child(version, Token(number));
        }
        Some(version)
    }
    pub fn tokens(&self, version: Version) -> Vec<Token> {
        let mut at = version;
        let mut tokens = Vec::new();
        while let Some((parent, token)) = self.parent(at) {
            tokens.push(token);
            at = parent;
        }
        tokens.reverse();
        tokens
    }
    /// For a reader: the last tokens, which tell versions apart.
    pub fn show(&self, version: Version) -> String {
        let tokens = self.tokens(version);
        let from = tokens.len().saturating_sub(3);
        let shown = tokens[from..].iter().map(|token| token.0.to_string()).collect::<Vec<_>>().join(" ");
        match (tokens.len(), from) {
            (0, _) => "nil".to_string(),
            (_, 0) => format!("[{shown}]"),
            (_, hidden) => format!("[{hidden} more.. {shown}]"),
        }
    }
}

/// One atomic step of a client: a command, a transaction, or a command of a pipeline.
#[derive(Clone, Debug)]
pub struct Op {
    /// A connection. Its operations stand in the history in the order they were sent, and must take effect in it.
    pub session: u32,
    /// Nanoseconds of the history's clock: before the request was sent, after the reply was read.
    pub start: u64,
    pub end: u64,
    /// False when no reply came: it took effect once before `end`, or never. (`u64::MAX`: it may do so any time.)
    pub certain: bool,
    pub form: Form,
    pub calls: Vec<(Call, Answer)>,
}

/// How the calls were sent, for the reader of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Single,
    Pipelined,
    Multi,
    /// What was read under WATCH, and the transaction that committed: atomic at EXEC, whose times count.
    Watch,
}

#[derive(Clone, Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub versions: Versions,
    /// Names of the keys.
    pub keys: Vec<String>,
}

impl History {
    /// Operations by session, in program order.
    pub fn sessions(&self) -> Vec<Vec<usize>> {
        let count = self.ops.iter().map(|op| op.session + 1).max().unwrap_or(0);
        let mut sessions = vec![Vec::new(); count as usize];
        self.ops.iter().enumerate().for_each(|(index, op)| sessions[op.session as usize].push(index));
        sessions
    }

    pub fn show(&self, op: usize) -> String {
        let Op { session, start, end, certain, form, calls } = &self.ops[op];
        let end = if *end == u64::MAX { "never".to_string() } else { micros(*end) };
        let outcome = if *certain { "" } else { " (no reply)" };
        let mut text = format!("op {op}, connection {session}, {}..{end}{outcome}: ", micros(*start));
        match form {
            Form::Single => {}
            Form::Pipelined => text += "(pipelined) ",
            Form::Multi => text += "MULTI ",
            Form::Watch => text += "WATCH ",
        }
        let calls = calls.iter().map(|(call, answer)| self.show_call(call, answer)).collect::<Vec<_>>();
        text += &calls.join("; ");
        text
    }

    pub fn key(&self, key: Key) -> &str {
        &self.keys[key as usize]
    }

    pub fn show_call(&self, call: &Call, answer: &Answer) -> String {
        let mut text = call.words(&self.keys).join(" ");
        match answer {
            Answer::Done => {}
            Answer::Value(version) => write!(text, " = {}", self.versions.show(*version)).expect("a string grows"),
            Answer::Values(versions) => {
                let shown = versions.iter().map(|version| self.versions.show(*version)).collect::<Vec<_>>();
                write!(text, " = {}", shown.join(", ")).expect("a string grows");
            }
            Answer::Count(count) => write!(text, " = {count}").expect("a string grows"),
            Answer::NoKey => text += " = no such key",
            Answer::Unknown => text += " = ?",
        }
        text
    }
}

fn micros(nanos: u64) -> String {
    format!("{}.{:03}us", nanos / 1000, nanos % 1000)
}

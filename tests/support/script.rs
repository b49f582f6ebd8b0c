//! Command scripts: what to send and what must come back, in text files that anyone can read and write.
//! The notation is described in tests/commands/README.md. This file parses, matches and runs them.
//!
//! Rule: a script that can't be understood is a failure with file and line, never skipped.

use super::client::Command;
use super::resp::{Resp, command_line};

pub struct Script {
    pub name: String,
    steps: Vec<Step>,
}

struct Step {
    line: usize,
    scope: Scope,
    action: Action,
}

/// On which subjects a step holds.
#[derive(Clone, Copy, Default, Debug)]
struct Scope {
    /// Needs a connection.
    tcp: bool,
    /// Needs a clock that the test owns.
    owned_clock: bool,
    /// A documented difference from Redis.
    shardis: bool,
    /// Newer than the oracle.
    newer: bool,
}

enum Action {
    Command {
        args: Command,
        expected: Expected,
    },
    Protocol(u8),
    Advance(u64),
    Wall(i64),
    Fresh,
    /// The other connection speaks from here on, or the first one again.
    Switch,
}

enum Expected {
    Reply(Pattern),
    Silence,
    Closed,
}

#[derive(Debug)]
enum Pattern {
    Any,
    Glob(Vec<u8>),
    Exact(Resp),
    Array(Vec<Pattern>),
    Unordered(Vec<Pattern>),
    Set(Vec<Pattern>),
    Push(Vec<Pattern>),
    Map(Vec<(Pattern, Pattern)>),
}

/// What a script runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A shard by itself, with a clock of the test's.
    Shard,
    /// The server over TCP.
    Shardis,
    /// The oracle over TCP.
    Redis,
}

/// How a subject is driven.
pub trait Target {
    fn subject(&self) -> Subject;
    /// `Err`: no reply, with the reason.
    fn call(&mut self, args: &[Vec<u8>]) -> Result<Resp, String>;
    /// Sends a command that has no reply.
    fn send(&mut self, args: &[Vec<u8>]) -> Result<(), String>;
    /// Waits for the server to close the connection, then opens a new one.
    fn closed(&mut self) -> Result<(), String>;
    fn set_protocol(&mut self, version: u8);
    fn advance(&mut self, ms: u64);
    fn step_wall_clock(&mut self, ms: i64);
    /// Empties all databases and starts over with a new client.
    fn fresh(&mut self);
    /// Exchanges the client with a second one, which lasts until `fresh`. Over TCP only.
    fn switch(&mut self);
}

impl Script {
    pub fn parse(name: &str, text: &str) -> Result<Script, String> {
        // Some of Redis' errors end in a space: what ends a line stays.
        let lines = text.lines().map(str::trim_start).collect();
        let mut parser = Parser { name, lines, at: 0, sections: Vec::new(), newer: false, steps: Vec::new() };
        parser.run().map_err(|why| format!("tests/commands/{name}:{}: {why}", parser.at))?;
        Ok(Script { name: name.to_string(), steps: parser.steps })
    }

    /// Commands whose replies are checked on `subject`.
    pub fn commands(&self, subject: Subject) -> usize {
        let on = |step: &&Step| step.scope.holds_on(subject) && matches!(step.action, Action::Command { .. });
        self.steps.iter().filter(on).count()
    }

    /// Runs on an emptied target; one text per failure.
    pub fn run(&self, target: &mut dyn Target) -> Vec<String> {
        let mut failures = Vec::new();
        // Of the client that speaks, and of the other one.
        let mut resp3 = [false, false];
        let subject = target.subject();
        target.fresh();
        for step in self.steps.iter().filter(|step| step.scope.holds_on(subject)) {
            match &step.action {
                Action::Protocol(version) => {
                    resp3[0] = *version == 3;
                    target.set_protocol(*version);
                }
                Action::Advance(ms) => target.advance(*ms),
                Action::Wall(ms) => target.step_wall_clock(*ms),
                Action::Fresh => {
                    resp3 = [false, false];
                    target.fresh();
                }
                Action::Switch => {
                    resp3.swap(0, 1);
                    target.switch();
                }
                Action::Command { args, expected } => {
                    if let Err(why) = check(target, args, expected, resp3[0]) {
                        let at = format!("tests/commands/{}:{} on {subject:?}", self.name, step.line);
                        failures.push(format!("{at}\n> {}\n{why}", command_line(args)));
                    }
                }
            }
        }
        failures
    }
}

fn check(target: &mut dyn Target, args: &[Vec<u8>], expected: &Expected, resp3: bool) -> Result<(), String> {
    match expected {
        Expected::Reply(pattern) => {
            let reply = target.call(args)?;
            if pattern.matches(&reply, resp3) {
                return Ok(());
            }
            Err(format!("expected:\n{}got:\n{reply}", pattern.show(0)))
        }
        Expected::Silence => target.send(args),
        Expected::Closed => {
            // Sending may fail already: what counts is that it is closed.
            let _ = target.send(args);
            target.closed()
        }
    }
}

impl Scope {
    fn holds_on(self, subject: Subject) -> bool {
        match subject {
            Subject::Shard => !self.tcp,
            Subject::Shardis => !self.owned_clock,
            Subject::Redis => !self.owned_clock && !self.shardis && !self.newer,
        }
    }
}

struct Parser<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
    /// Lines taken so far, which is also the number of the line last taken.
    at: usize,
    sections: Vec<Section>,
    newer: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Section {
    Tcp,
    Shardis,
    Wall(i64),
    Other,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(line) = self.next() {
            if line.is_empty() {
                self.newer = false;
            } else if let Some(command) = line.strip_prefix("> ") {
                let (number, args) = (self.at, split_arguments(command)?);
                let expected = self.expected()?;
                self.push(number, Action::Command { args, expected });
            } else if let Some(directive) = line.strip_prefix("! ") {
                self.directive(directive)?;
            } else if !line.starts_with('#') {
                return Err(format!("neither a command, a directive nor a comment: {line}"));
            }
        }
        if self.sections.is_empty() { Ok(()) } else { Err("a section without `! end`".into()) }
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = *self.lines.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    fn push(&mut self, line: usize, action: Action) {
        let mut scope = Scope { newer: self.newer, ..Scope::default() };
        for section in &self.sections {
            match section {
                Section::Tcp | Section::Other => scope.tcp = true,
                Section::Shardis => scope.shardis = true,
                Section::Wall(_) => scope.owned_clock = true,
            }
        }
        self.steps.push(Step { line, scope, action });
    }

    fn directive(&mut self, text: &str) -> Result<(), String> {
        let words = text.split_whitespace().collect::<Vec<_>>();
        let line = self.at;
        match words[..] {
            ["resp2"] => self.push(line, Action::Protocol(2)),
            ["resp3"] => self.push(line, Action::Protocol(3)),
            ["fresh"] if self.is_other() => return Err("`! fresh` in an `! other` section".into()),
            ["fresh"] => self.push(line, Action::Fresh),
            ["advance", ms] => {
                let ms = ms.parse().map_err(|_| format!("{ms} is not a number of milliseconds"))?;
                self.push(line, Action::Advance(ms));
            }
            ["wall", ms] => {
                let ms: i64 = ms.parse().map_err(|_| format!("{ms} is not a number of milliseconds"))?;
                match self.sections.last_mut() {
                    // A further step within the section: the end takes all of them back.
                    Some(Section::Wall(total)) => *total += ms,
                    _ => self.sections.push(Section::Wall(ms)),
                }
                self.push(line, Action::Wall(ms));
            }
            ["tcp"] => self.sections.push(Section::Tcp),
            ["shardis"] => self.sections.push(Section::Shardis),
            ["other"] if self.is_other() => return Err("`! other` in an `! other` section".into()),
            ["other"] => {
                self.sections.push(Section::Other);
                self.push(line, Action::Switch);
            }
            ["end"] => {
                let section = self.sections.last().copied().ok_or("`! end` without a section")?;
                match section {
                    Section::Wall(ms) => self.push(line, Action::Wall(-ms)),
                    Section::Other => self.push(line, Action::Switch),
                    Section::Tcp | Section::Shardis => {}
                }
                self.sections.pop();
            }
            ["since", version] => self.newer = newer_than_oracle(version)?,
            _ => return Err(format!("unknown directive: {text}")),
        }
        Ok(())
    }

    fn is_other(&self) -> bool {
        self.sections.iter().any(|section| matches!(section, Section::Other))
    }

    fn expected(&mut self) -> Result<Expected, String> {
        match self.lines.get(self.at).copied() {
            Some("(none)") => {
                self.at += 1;
                Ok(Expected::Silence)
            }
            Some("(closed)") => {
                self.at += 1;
                Ok(Expected::Closed)
            }
            _ => self.pattern().map(Expected::Reply),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, String> {
        let line = self.next().filter(|line| !line.is_empty()).ok_or("a reply is missing here")?;
        if line.starts_with("> ") || line.starts_with("! ") || line.starts_with('#') {
            return Err("a reply is missing here".into());
        }
        Ok(match line {
            "[" | "[]" => Pattern::Array(self.list(line)?),
            "[unordered" => Pattern::Unordered(self.list(line)?),
            "~[" | "~[]" => Pattern::Set(self.list(line)?),
            ">[" => Pattern::Push(self.list(line)?),
            "{" | "{}" => {
                let mut parts = self.list(line)?.into_iter();
                let mut pairs = Vec::new();
                while let Some(key) = parts.next() {
                    pairs.push((key, parts.next().ok_or("a map with a key that has no value")?));
                }
                Pattern::Map(pairs)
            }
            "(any)" => Pattern::Any,
            _ => match line.strip_prefix("(match) ") {
                Some(glob) => Pattern::Glob(glob.as_bytes().to_vec()),
                None => Pattern::Exact(scalar(line)?),
            },
        })
    }

    fn list(&mut self, open: &str) -> Result<Vec<Pattern>, String> {
        let mut items = Vec::new();
        if open.ends_with("[]") || open == "{}" {
            return Ok(items);
        }
        let close = if open == "{" { "}" } else { "]" };
        while self.lines.get(self.at) != Some(&close) {
            items.push(self.pattern()?);
        }
        self.at += 1;
        Ok(items)
    }
}

fn newer_than_oracle(version: &str) -> Result<bool, String> {
    let wrong = || format!("{version} is not a version like 7.2");
    let (major, minor) = version.split_once('.').ok_or_else(wrong)?;
    let minor = minor.split('.').next().unwrap_or(minor);
    let version: (u32, u32) = (major.parse().map_err(|_| wrong())?, minor.parse().map_err(|_| wrong())?);
    Ok(version > (7, 0))
}

fn scalar(line: &str) -> Result<Resp, String> {
    let text = |rest: &str| rest.as_bytes().to_vec();
    if line.starts_with('"') {
        return one_string(line).map(Resp::Bulk);
    }
    if let Some(rest) = line.strip_prefix("(verbatim) ") {
        return one_string(rest).map(Resp::Verbatim);
    }
    if let Some(rest) = line.strip_prefix("(integer) ") {
        return rest.parse().map(Resp::Integer).map_err(|_| format!("{rest} is not an integer"));
    }
    Ok(match line {
        "(nil)" => Resp::Nil,
        "(nil array)" => Resp::NilArray,
        "(true)" => Resp::Boolean(true),
        "(false)" => Resp::Boolean(false),
        _ => match (line.strip_prefix("(error) "), line.strip_prefix("(double) ")) {
            (Some(rest), _) => Resp::Error(text(rest)),
            (None, Some(rest)) => Resp::Double(text(rest)),
            (None, None) if line.starts_with('(') => return Err(format!("unknown kind of reply: {line}")),
            (None, None) => Resp::Simple(text(line)),
        },
    })
}

fn one_string(text: &str) -> Result<Vec<u8>, String> {
    match &mut split_arguments(text)?[..] {
        [one] => Ok(std::mem::take(one)),
        _ => Err(format!("expected one quoted string: {text}")),
    }
}

impl Pattern {
    fn matches(&self, reply: &Resp, resp3: bool) -> bool {
        let ordered = |patterns: &[Pattern], items: &[Resp]| {
            patterns.len() == items.len() && patterns.iter().zip(items).all(|(p, item)| p.matches(item, resp3))
        };
        match (self, reply) {
            (Pattern::Any, _) => true,
            // RESP3 has one null.
            (Pattern::Exact(Resp::NilArray), Resp::Nil) => resp3,
            (Pattern::Exact(expected), reply) => expected == reply,
            (Pattern::Glob(glob), Resp::Integer(value)) => glob_matches(glob, value.to_string().as_bytes()),
            (Pattern::Glob(glob), reply) => !reply.is_list() && glob_matches(glob, reply.bytes()),
            (Pattern::Array(patterns), Resp::Array(items)) => ordered(patterns, items),
            (Pattern::Push(patterns), Resp::Push(items)) => ordered(patterns, items),
            (Pattern::Unordered(patterns), Resp::Array(items) | Resp::Set(items)) => {
                unordered(patterns, items, |p, item| p.matches(item, resp3))
            }
            (Pattern::Set(patterns), Resp::Set(items)) => unordered(patterns, items, |p, item| p.matches(item, resp3)),
            (Pattern::Map(patterns), Resp::Map(pairs)) => {
                unordered(patterns, pairs, |p, pair| p.0.matches(&pair.0, resp3) && p.1.matches(&pair.1, resp3))
            }
            _ => false,
        }
    }

    fn show(&self, depth: usize) -> String {
        let pad = "  ".repeat(depth);
        let list = |open: &str, items: &[Pattern]| {
            let items = items.iter().map(|item| item.show(depth + 1)).collect::<String>();
            format!("{pad}{open}\n{items}{pad}]\n")
        };
        match self {
            Pattern::Any => format!("{pad}(any)\n"),
            Pattern::Glob(glob) => format!("{pad}(match) {}\n", String::from_utf8_lossy(glob)),
            Pattern::Exact(value) => format!("{pad}{value}\n"),
            Pattern::Array(items) => list("[", items),
            Pattern::Unordered(items) => list("[unordered", items),
            Pattern::Set(items) => list("~[", items),
            Pattern::Push(items) => list(">[", items),
            Pattern::Map(pairs) => {
                let parts = pairs.iter().map(|(k, v)| k.show(depth + 1) + &v.show(depth + 1)).collect::<String>();
                format!("{pad}{{\n{parts}{pad}}}\n")
            }
        }
    }
}

impl Resp {
    fn is_list(&self) -> bool {
        matches!(self, Resp::Array(_) | Resp::Set(_) | Resp::Push(_) | Resp::Map(_) | Resp::Nil | Resp::NilArray)
    }
}

/// Every pattern takes the first item that fits and is still free.
fn unordered<P, T>(patterns: &[P], items: &[T], fits: impl Fn(&P, &T) -> bool) -> bool {
    let mut free = items.iter().collect::<Vec<_>>();
    patterns.len() == items.len()
        && patterns.iter().all(|pattern| {
            let found = free.iter().position(|item| fits(pattern, item));
            found.map(|at| free.swap_remove(at)).is_some()
        })
}

/// `*` any run, `?` any byte; nothing else is special.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    // The last `*` seen, and how much text it has swallowed: enough to backtrack to.
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, swallowed)) => {
                    *swallowed += 1;
                    (g, t) = (*at + 1, *swallowed);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

/// Splits a line as redis-cli does: double quotes with escapes, single quotes literal.
pub fn split_arguments(line: &str) -> Result<Command, String> {
    let bytes = line.as_bytes();
    let (mut args, mut at) = (Vec::new(), 0);
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        match bytes.get(at) {
            None => return Ok(args),
            Some(b'"') => args.push(double_quoted(bytes, &mut at)?),
            Some(b'\'') => args.push(single_quoted(bytes, &mut at)?),
            Some(_) => {
                let end = bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |len| at + len);
                args.push(bytes[at..end].to_vec());
                at = end;
            }
        }
    }
}

fn single_quoted(bytes: &[u8], at: &mut usize) -> Result<Vec<u8>, String> {
    let start = *at + 1;
    let len = bytes[start..].iter().position(|&byte| byte == b'\'').ok_or("a quote that is never closed")?;
    *at = start + len + 1;
    Ok(bytes[start..start + len].to_vec())
}

fn double_quoted(bytes: &[u8], at: &mut usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    *at += 1;
    loop {
        let byte = *bytes.get(*at).ok_or("a quote that is never closed")?;
        *at += 1;
        match byte {
            b'"' => return Ok(out),
            b'\\' => {
                let escape = *bytes.get(*at).ok_or("a backslash at the end")?;
                *at += 1;
                out.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        let digits = bytes.get(*at..*at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
                        *at += 2;
                        digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or("\\x needs two hex digits")?
                    }
                    other => other,
                });
            }
            other => out.push(other),
        }
    }
}

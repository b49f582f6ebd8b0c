//! Clients as a core sees them: bytes that come in pieces, replies that must come in order and number, and sudden ends.
//! Notes every operation for the checkers, with steps as the time.

use super::collections::Collections;
use super::record::{Notes, Outcome};
use super::sets::{Looked, Sets};
use super::world::Place;
use crate::hunt::history::Form;
use crate::hunt::model::Call;
use crate::hunt::workload::{Plan, Planner};
use crate::support::Resp;
use crate::support::client::encode;
use fastrand::Rng;
use std::collections::VecDeque;

/// One request, and what is known of its reply.
#[derive(Clone, Debug)]
enum Item {
    /// Its reply is known; `None` if there is none.
    Told(Vec<String>, Option<&'static str>),
    Call(Call, Form),
    /// Nobody hears what became of it.
    Muted(Call),
    /// EXEC of these calls, which were queued before.
    Exec(Vec<Call>, Form),
    /// EXEC of a look at keys that always have one value.
    Look(Looked),
}

#[derive(Clone, Debug)]
enum Waits {
    Told(&'static str),
    Answer(usize),
    Exec(usize),
    Look(Looked),
}

/// A reply that has to come.
#[derive(Clone, Debug)]
struct Expected {
    waits: Waits,
    /// Where its request ends among all bytes sent.
    request_end: u64,
}

pub struct Client {
    pub place: Place,
    /// Its number in the history: each connection has its own.
    session: u32,
    pub planner: Planner,
    /// Sent together, one after the other.
    stages: VecDeque<Vec<Item>>,
    expected: VecDeque<Expected>,
    /// On the way to the server.
    socket: Vec<u8>,
    sent: u64,
    ended: bool,
    /// What the last stages read under WATCH.
    read: Vec<usize>,
}

impl Client {
    pub fn new(place: Place, session: u32, planner: Planner) -> Client {
        Client {
            place,
            session,
            planner,
            stages: VecDeque::new(),
            expected: VecDeque::new(),
            socket: Vec::new(),
            sent: 0,
            ended: false,
            read: Vec::new(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.expected.is_empty() && self.stages.is_empty()
    }
    pub fn waits(&self) -> Option<String> {
        self.expected.front().map(|first| format!("{:?}, and {} more", first.waits, self.expected.len() - 1))
    }

    // ---- sending -------------------------------------------------------------------------------------------

    /// Begins the next step, of which the first part is sent.
    pub fn begin(&mut self, sets: &Sets, collections: &Collections, notes: &mut Notes) {
        self.read.clear();
        let rng = self.planner.rng();
        let stages = match rng.u8(..100) {
            0..12 => stages_of_look(sets.look(rng), rng),
            12..16 => {
                let plan = self.planner.next();
                muted(plan, self.planner.rng())
            }
            16..28 => stages_of_look(collections.look(rng), rng),
            28..100 => {
                let plan = self.planner.next();
                stages_of(plan, self.planner.rng(), notes.names())
            }
            100.. => unreachable!("a draw of a hundred"),
        };
        self.stages = stages.into();
        self.send_stage(notes);
    }

    pub fn read_all(&mut self, notes: &mut Notes) {
        self.stages = stages_of(self.planner.read_all(), &mut Rng::with_seed(0), notes.names()).into();
        self.send_stage(notes);
    }

    fn send_stage(&mut self, notes: &mut Notes) {
        let Some(stage) = self.stages.pop_front() else { return };
        for item in stage {
            let before = self.socket.len();
            let waits = match item {
                Item::Told(words, told) => {
                    encode(&words, &mut self.socket);
                    told.map(Waits::Told)
                }
                Item::Call(call, form) => {
                    encode(&call.words(notes.names()), &mut self.socket);
                    let note = notes.begin(self.session, form, Vec::new(), vec![call]);
                    if form == Form::Watch {
                        self.read.push(note);
                        notes.set_form(note, Form::Single);
                    }
                    Some(Waits::Answer(note))
                }
                Item::Muted(call) => {
                    encode(&call.words(notes.names()), &mut self.socket);
                    notes.begin(self.session, Form::Single, Vec::new(), vec![call]);
                    None
                }
                Item::Exec(calls, form) => {
                    encode(&["EXEC"], &mut self.socket);
                    let read = if form == Form::Watch { self.read.clone() } else { Vec::new() };
                    Some(Waits::Exec(notes.begin(self.session, form, read, calls)))
                }
                Item::Look(looked) => {
                    encode(&["EXEC"], &mut self.socket);
                    Some(Waits::Look(looked))
                }
            };
            self.sent += (self.socket.len() - before) as u64;
            self.expected.extend(waits.map(|waits| Expected { waits, request_end: self.sent }));
        }
    }

    /// What of its bytes arrives now.
    pub fn arrive(&mut self, rng: &mut Rng, all: bool) -> Option<Vec<u8>> {
        if self.socket.is_empty() || (!all && rng.u8(..3) == 0) {
            return None;
        }
        let len = if all || rng.u8(..3) > 0 { self.socket.len() } else { rng.usize(1..=self.socket.len()) };
        Some(self.socket.drain(..len).collect())
    }

    /// Nothing that hasn't arrived will, and no answer to it.
    pub fn cut_input(&mut self) {
        let arrived = self.sent - self.socket.len() as u64;
        self.expected.retain(|expected| expected.request_end <= arrived);
        self.socket.clear();
        self.stages.clear();
    }

    /// The client has said all and waits for its replies.
    pub fn end(&mut self) -> Vec<u8> {
        self.ended = true;
        self.stages.clear();
        std::mem::take(&mut self.socket)
    }
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    // ---- hearing -------------------------------------------------------------------------------------------

    pub fn hear(&mut self, bytes: &[u8], notes: &mut Notes) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let reply = Resp::read(&mut rest).map_err(|error| format!("replies come whole: {error}"))?;
            let Some(expected) = self.expected.pop_front() else { return Err(format!("nobody asked for {reply}")) };
            self.take(expected.waits, reply, notes)?;
        }
        if self.expected.is_empty() {
            self.send_stage(notes);
        }
        Ok(())
    }

    fn take(&mut self, waits: Waits, reply: Resp, notes: &mut Notes) -> Result<(), String> {
        match waits {
            Waits::Told(told) if reply == Resp::Simple(told.as_bytes().to_vec()) => Ok(()),
            Waits::Told(told) => Err(format!("{reply} in place of {told}")),
            Waits::Answer(note) => notes.end(note, outcome_of(&reply).unwrap_or(Outcome::Answers(vec![reply]))),
            Waits::Exec(note) => {
                let outcome = match (outcome_of(&reply), reply) {
                    (Some(outcome), _) => outcome,
                    (None, Resp::Array(replies)) => {
                        if let Some(error) = replies.iter().find(|reply| outcome_of(reply).is_some()) {
                            return Err(format!("a transaction was run, but not all of it: {error}"));
                        }
                        Outcome::Answers(replies)
                    }
                    (None, Resp::Nil | Resp::NilArray) => Outcome::Nothing,
                    (None, other) => return Err(format!("EXEC: {other}")),
                };
                notes.end(note, outcome)
            }
            Waits::Look(_) if outcome_of(&reply).is_some() => Ok(()),
            Waits::Look(looked) => looked.judge(&reply),
        }
    }

    /// The server has closed the connection.
    pub fn closed(&self) -> Result<(), String> {
        match (self.ended, self.waits()) {
            (true, None) => Ok(()),
            (true, Some(waits)) => Err(format!("closed before all replies had come; it waits for {waits}")),
            (false, _) => Err("closed for no reason".to_string()),
        }
    }
}

/// What an error says about what it answers: certainly not done, or nobody knows.
fn outcome_of(reply: &Resp) -> Option<Outcome> {
    let Resp::Error(text) = reply else { return None };
    let text = String::from_utf8_lossy(text);
    match text.starts_with("MISCONF") {
        true if text.contains("has failed") => Some(Outcome::Unknown),
        true => Some(Outcome::Nothing),
        false => None,
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_string).collect()
}

fn stages_of(plan: Plan, rng: &mut Rng, names: &[String]) -> Vec<Vec<Item>> {
    match plan {
        Plan::Single(call) => vec![vec![Item::Call(call, Form::Single)]],
        Plan::Pipeline(calls) => vec![calls.into_iter().map(|call| Item::Call(call, Form::Pipelined)).collect()],
        Plan::Multi(calls) => in_steps(queued(calls, Form::Multi, names), rng),
        Plan::Watch(keys, writes) => {
            let watched = keys.iter().map(|key| names[*key as usize].clone());
            let watch = std::iter::once("WATCH".to_string()).chain(watched).collect::<Vec<_>>();
            let mut first = vec![Item::Told(watch, Some("OK"))];
            first.extend(keys.into_iter().map(|key| Item::Call(Call::Get(key), Form::Watch)));
            let mut stages = in_steps(first, rng);
            // What is read must be known before anything is built upon it.
            stages.extend(in_steps(queued(writes, Form::Watch, names), rng));
            stages
        }
    }
}

fn queued(calls: Vec<Call>, form: Form, names: &[String]) -> Vec<Item> {
    let mut items = vec![Item::Told(words("MULTI"), Some("OK"))];
    items.extend(calls.iter().map(|call| Item::Told(call.words(names), Some("QUEUED"))));
    items.push(Item::Exec(calls, form));
    items
}

fn stages_of_look(looked: Looked, rng: &mut Rng) -> Vec<Vec<Item>> {
    let mut items = vec![Item::Told(words("MULTI"), Some("OK"))];
    items.extend(looked.lines.iter().map(|line| Item::Told(words(line), Some("QUEUED"))));
    items.push(Item::Look(looked));
    in_steps(items, rng)
}

/// All in one write, or the last request only after the replies to the others.
fn in_steps(mut items: Vec<Item>, rng: &mut Rng) -> Vec<Vec<Item>> {
    if rng.bool() || items.len() < 2 {
        return vec![items];
    }
    let last = items.split_off(items.len() - 1);
    vec![items, last]
}

/// The same without replies.
fn muted(plan: Plan, rng: &mut Rng) -> Vec<Vec<Item>> {
    let (Plan::Single(call), false) = (&plan, rng.bool()) else {
        let calls = match plan {
            Plan::Single(call) => vec![call],
            Plan::Multi(calls) | Plan::Pipeline(calls) | Plan::Watch(_, calls) => calls,
        };
        let mut items = vec![Item::Told(words("CLIENT REPLY OFF"), None)];
        items.extend(calls.into_iter().map(Item::Muted));
        items.push(Item::Told(words("CLIENT REPLY ON"), Some("OK")));
        return vec![items];
    };
    vec![vec![
        Item::Told(words("CLIENT REPLY SKIP"), None),
        Item::Muted(call.clone()),
        Item::Told(words("PING"), Some("PONG")),
    ]]
}

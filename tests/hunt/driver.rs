//! Clients of a real server: run the steps of a workload, note when each was sent and answered and what came back, and
//! make a history of it. Decides nothing about right and wrong; an answer that no such command can give is an error.

use super::history::{Form, History, NIL, Op, Versions};
use super::model::{Answer, Call};
use super::workload::{Mix, Plan, Planner};
use crate::support::client::encode;
use crate::support::{Client, Resp};
use std::io;
use std::time::Instant;

/// A history as it came in, before its answers are understood.
pub struct Recording {
    epoch: Instant,
    names: Vec<String>,
    noted: Vec<Noted>,
    sessions: u32,
    pub tally: Tally,
}

#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Transactions under WATCH that took place, and that didn't.
    pub committed: u64,
    pub aborted: u64,
    /// Replies that are no answers.
    pub errors: Vec<String>,
}

struct Noted {
    session: u32,
    start: u64,
    end: Option<u64>,
    form: Form,
    calls: Vec<(Call, Option<Resp>)>,
}

impl Recording {
    pub fn new(names: Vec<String>) -> Recording {
        Recording { epoch: Instant::now(), names, noted: Vec::new(), sessions: 0, tally: Tally::default() }
    }

    /// Each planner on a connection of its own, `operations` all together or until the server is gone; `meanwhile` runs
    /// beside them.
    pub fn run(&mut self, port: u16, planners: &mut [Planner], operations: u64, meanwhile: impl FnOnce()) {
        let share = operations / planners.len() as u64;
        let (epoch, names, first) = (self.epoch, &self.names, self.sessions);
        let sessions = planners.iter_mut().zip(first..);
        let done = std::thread::scope(|scope| {
            let start = |(planner, number)| scope.spawn(move || converse(port, planner, number, epoch, names, share));
            let running = sessions.map(start).collect::<Vec<_>>();
            meanwhile();
            running.into_iter().map(|client| client.join().expect("no client panics")).collect::<Vec<_>>()
        });
        self.sessions += planners.len() as u32;
        for (noted, tally) in done {
            self.noted.extend(noted);
            self.tally.committed += tally.committed;
            self.tally.aborted += tally.aborted;
            self.tally.errors.extend(tally.errors);
        }
    }

    /// Reads all keys, when everything else is over.
    pub fn read_all(&mut self, port: u16, mix: &Mix) {
        let plan = Planner::new(mix.clone(), 0, 0).read_all();
        let mut session = Session::new(Client::connect(port), self.sessions, self.epoch, &self.names);
        session.perform(plan, false).expect("the server runs");
        self.sessions += 1;
        self.noted.extend(session.noted);
        self.tally.errors.extend(session.tally.errors);
    }

    /// The server was gone and is back: what was not answered by now took effect before now, or never will.
    pub fn settle(&mut self) {
        let now = nanos(self.epoch);
        self.noted.iter_mut().filter(|noted| noted.end.is_none()).for_each(|noted| noted.end = Some(now));
    }

    pub fn finish(mut self) -> (History, Tally) {
        let mut history = History { keys: self.names, ..History::default() };
        for Noted { session, start, end, form, calls } in self.noted {
            let certain = calls.iter().all(|(_, reply)| reply.is_some());
            let answers = calls.into_iter().map(|(call, reply)| {
                let answer = reply.map_or(Ok(Answer::Unknown), |reply| answer(&call, &reply, &mut history.versions))?;
                Ok((call, answer))
            });
            match answers.collect::<Result<Vec<_>, String>>() {
                Ok(calls) => {
                    let end = end.unwrap_or(u64::MAX);
                    history.ops.push(Op { session, start, end, certain, form, calls });
                }
                Err(error) => self.tally.errors.push(error),
            }
        }
        (history, self.tally)
    }
}

fn nanos(epoch: Instant) -> u64 {
    epoch.elapsed().as_nanos() as u64
}

fn converse(
    port: u16,
    planner: &mut Planner,
    number: u32,
    epoch: Instant,
    names: &[String],
    operations: u64,
) -> (Vec<Noted>, Tally) {
    // A server may be killed before everyone is connected.
    let Ok(client) = Client::try_connect(port) else { return (Vec::new(), Tally::default()) };
    let mut session = Session::new(client, number, epoch, names);
    while (session.noted.len() as u64) < operations && session.tally.errors.is_empty() {
        let plan = planner.next();
        let stepwise = planner.rng().bool();
        if session.perform(plan, stepwise).is_err() {
            break;
        }
    }
    (session.noted, session.tally)
}

/// One connection.
struct Session<'a> {
    client: Client,
    number: u32,
    epoch: Instant,
    names: &'a [String],
    noted: Vec<Noted>,
    tally: Tally,
}

impl<'a> Session<'a> {
    fn new(client: Client, number: u32, epoch: Instant, names: &'a [String]) -> Self {
        Session { client, number, epoch, names, noted: Vec::new(), tally: Tally::default() }
    }

    /// Fails when the connection is lost; then what was under way is noted without an answer.
    fn perform(&mut self, plan: Plan, stepwise: bool) -> io::Result<()> {
        match plan {
            Plan::Single(call) => self.pipeline(vec![call], Form::Single),
            Plan::Pipeline(calls) => self.pipeline(calls, Form::Pipelined),
            Plan::Multi(calls) => self.transaction(Vec::new(), calls, Form::Multi, stepwise),
            Plan::Watch(keys, writes) => {
                let names = keys.iter().map(|key| self.names[*key as usize].clone());
                let watch = std::iter::once("WATCH".to_string()).chain(names).collect::<Vec<_>>();
                let watching = self.client.try_call(&watch)?;
                self.expect(&watching, b"OK");
                let from = self.noted.len();
                for key in keys {
                    self.pipeline(vec![Call::Get(key)], Form::Single)?;
                }
                let reads = self.noted[from..].iter().flat_map(|noted| noted.calls.clone()).collect();
                self.transaction(reads, writes, Form::Watch, stepwise)
            }
        }
    }

    fn pipeline(&mut self, calls: Vec<Call>, form: Form) -> io::Result<()> {
        let mut request = Vec::new();
        calls.iter().for_each(|call| encode(&call.words(self.names), &mut request));
        let start = nanos(self.epoch);
        let mut lost = self.client.send_raw(&request).err();
        for call in calls {
            let reply = match lost {
                None => self.client.read().map_err(|error| lost = Some(error)).ok(),
                Some(_) => None,
            };
            let end = reply.is_some().then(|| nanos(self.epoch));
            self.noted.push(Noted { session: self.number, start, end, form, calls: vec![(call, reply)] });
        }
        lost.map_or(Ok(()), Err)
    }

    /// `read` is what a watched transaction builds upon. In steps, as most clients do, or all in one write.
    fn transaction(
        &mut self,
        read: Vec<(Call, Option<Resp>)>,
        calls: Vec<Call>,
        form: Form,
        stepwise: bool,
    ) -> io::Result<()> {
        let mut request = Vec::new();
        encode(&["MULTI"], &mut request);
        calls.iter().for_each(|call| encode(&call.words(self.names), &mut request));
        if stepwise {
            self.client.send_raw(&request)?;
            self.queued(calls.len())?;
            request.clear();
        }
        encode(&["EXEC"], &mut request);
        let start = nanos(self.epoch);
        let replies = self.client.send_raw(&request).and_then(|()| {
            if !stepwise {
                self.queued(calls.len())?;
            }
            self.client.read()
        });
        let mut note = |replies: Vec<Option<Resp>>, end| {
            let calls = calls.iter().cloned().zip(replies);
            let calls = read.iter().cloned().chain(calls).collect();
            self.noted.push(Noted { session: self.number, start, end, form, calls });
        };
        match replies {
            Ok(Resp::Array(replies)) if replies.len() == calls.len() => {
                note(replies.into_iter().map(Some).collect(), Some(nanos(self.epoch)));
                self.tally.committed += u64::from(form == Form::Watch);
            }
            Ok(Resp::Nil | Resp::NilArray) if form == Form::Watch => self.tally.aborted += 1,
            Ok(other) => self.tally.errors.push(format!("EXEC: {other}")),
            Err(error) => {
                note(vec![None; calls.len()], None);
                return Err(error);
            }
        }
        Ok(())
    }

    fn queued(&mut self, calls: usize) -> io::Result<()> {
        for expected in std::iter::once(&b"OK"[..]).chain(std::iter::repeat_n(&b"QUEUED"[..], calls)) {
            let reply = self.client.read()?;
            self.expect(&reply, expected);
        }
        Ok(())
    }

    fn expect(&mut self, reply: &Resp, expected: &[u8]) {
        if *reply != Resp::Simple(expected.to_vec()) {
            self.tally.errors.push(reply.to_string());
        }
    }
}

/// What a reply means; an error if no such command can give it.
pub fn answer(call: &Call, reply: &Resp, versions: &mut Versions) -> Result<Answer, String> {
    let mut value = |reply: &Resp| match reply {
        Resp::Nil => Some(NIL),
        Resp::Bulk(bytes) => versions.parse(bytes).filter(|version| *version != NIL),
        _ => None,
    };
    let token_len = super::history::TOKEN_DIGITS as i64;
    let understood = match (call, reply) {
        (Call::Get(_) | Call::GetSet(..), reply) => value(reply).map(Answer::Value),
        (Call::Mget(keys), Resp::Array(items)) if items.len() == keys.len() => {
            items.iter().map(value).collect::<Option<Vec<_>>>().map(Answer::Values)
        }
        (Call::Set(..) | Call::Mset(_) | Call::Rename(..), reply) if *reply == Resp::ok() => Some(Answer::Done),
        (Call::Rename(..), Resp::Error(text)) if text == b"ERR no such key" => Some(Answer::NoKey),
        (Call::Append(..), Resp::Integer(len)) if len % token_len == 0 => Some(Answer::Count((len / token_len) as u64)),
        (Call::Del(_) | Call::Msetnx(_) | Call::Copy(..), Resp::Integer(count)) => Some(Answer::Count(*count as u64)),
        _ => None,
    };
    understood.ok_or_else(|| format!("{call:?} was answered with {reply}"))
}

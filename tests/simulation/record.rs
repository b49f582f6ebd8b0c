//! What clients did and heard, until it is a history.

use crate::hunt::driver::answer;
use crate::hunt::history::{Form, History, Op};
use crate::hunt::model::{Answer, Call};
use crate::support::Resp;

/// What became of an operation.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answers(Vec<Resp>),
    /// It didn't take place.
    Nothing,
    /// It may have, by now.
    Unknown,
}

#[derive(Debug)]
struct Note {
    session: u32,
    start: u64,
    end: u64,
    /// When its reply came, on the world's clock.
    ended_ns: u64,
    form: Form,
    /// Notes of the reads that it builds upon, under WATCH.
    read: Vec<usize>,
    calls: Vec<(Call, Option<Resp>)>,
    took_place: bool,
}

pub struct Notes {
    pub clock: u64,
    /// The world's.
    pub now_ns: u64,
    names: Vec<String>,
    notes: Vec<Note>,
    pub committed: u64,
    pub aborted: u64,
}

impl Notes {
    pub fn new(names: Vec<String>) -> Notes {
        Notes { clock: 1, now_ns: 0, names, notes: Vec::new(), committed: 0, aborted: 0 }
    }
    pub fn names(&self) -> &[String] {
        &self.names
    }
    pub fn len(&self) -> usize {
        self.notes.len()
    }

    /// An operation is sent.
    pub fn begin(&mut self, session: u32, form: Form, read: Vec<usize>, calls: Vec<Call>) -> usize {
        let calls = calls.into_iter().map(|call| (call, None)).collect();
        let (start, end, ended_ns) = (self.clock, u64::MAX, u64::MAX);
        self.notes.push(Note { session, start, end, ended_ns, form, read, calls, took_place: true });
        self.clock += 1;
        self.notes.len() - 1
    }
    pub fn set_form(&mut self, note: usize, form: Form) {
        self.notes[note].form = form;
    }

    pub fn end(&mut self, note: usize, outcome: Outcome) -> Result<(), String> {
        let noted = &mut self.notes[note];
        (noted.end, noted.ended_ns) = (self.clock, self.now_ns);
        self.clock += 1;
        match outcome {
            Outcome::Answers(replies) if replies.len() == noted.calls.len() => {
                noted.calls.iter_mut().zip(replies).for_each(|((_, answer), reply)| *answer = Some(reply));
                self.committed += u64::from(noted.form == Form::Watch);
            }
            Outcome::Answers(replies) => {
                return Err(format!("{} answers to {} calls", replies.len(), noted.calls.len()));
            }
            Outcome::Nothing => {
                noted.took_place = false;
                self.aborted += u64::from(noted.form == Form::Watch);
            }
            // A connection that was closed says nothing of when, if ever: what was sent may be done later.
            Outcome::Unknown => noted.end = u64::MAX,
        }
        Ok(())
    }

    /// What was answered later than that may be lost: it took place before now, or never did.
    pub fn doubt(&mut self, horizon_ns: u64) {
        for note in self.notes.iter_mut().filter(|note| note.ended_ns > horizon_ns) {
            note.calls.iter_mut().for_each(|(_, answer)| *answer = None);
            note.end = u64::MAX;
        }
    }

    /// What was not answered by now has taken place before now, or never will.
    pub fn settle(&mut self) {
        self.notes.iter_mut().for_each(|note| note.end = note.end.min(self.clock));
        self.clock += 1;
    }

    pub fn finish(self) -> Result<History, String> {
        let mut history = History { keys: self.names.clone(), ..History::default() };
        for note in self.notes.iter().filter(|note| note.took_place) {
            let read = note.read.iter().flat_map(|read| self.notes[*read].calls.clone());
            let calls = read.chain(note.calls.iter().cloned()).collect::<Vec<_>>();
            let certain = calls.iter().all(|(_, reply)| reply.is_some());
            let understand = |(call, reply): (Call, Option<Resp>)| {
                let answer = reply.map_or(Ok(Answer::Unknown), |reply| answer(&call, &reply, &mut history.versions))?;
                Ok((call, answer))
            };
            let calls = calls.into_iter().map(understand).collect::<Result<Vec<_>, String>>()?;
            let Note { session, start, end, form, .. } = *note;
            history.ops.push(Op { session, start, end, certain, form, calls });
        }
        Ok(history)
    }
}

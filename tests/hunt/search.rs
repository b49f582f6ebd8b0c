//! Is there an order of a history's operations that explains it? Tries them: from the empty store on, any session's next
//! operation may come next if no other waiting one returned before it was sent, and its answers are those of the model.
//!
//! Sound and complete for every command the model knows, whatever its answers tell, and it shares nothing with `checker`
//! but the history. The price: exponential in how many operations overlap, so it has a budget of steps and may end
//! undecided.

use super::history::{History, Op};
use super::model::{Answer, State};
use std::collections::HashSet;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Explained,
    /// Where the longest attempt got stuck.
    Impossible(String),
    Undecided,
}

/// How far an attempt got: operations done per session, and what the store holds.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Attempt {
    done: Vec<u32>,
    state: State,
}

pub fn search(history: &History, steps_max: usize) -> Verdict {
    let mut history = history.clone();
    let sessions = history.sessions();
    let first = Attempt { done: vec![0; sessions.len()], state: State::empty(history.keys.len()) };
    let (mut open, mut visited) = (vec![first.clone()], HashSet::new());
    let (mut furthest, mut furthest_len) = (first, 0);
    let seen = seen_without_reply(&history);
    while let Some(mut attempt) = open.pop() {
        take_readers(&mut attempt, &sessions, &mut history);
        if visited.contains(&attempt) {
            continue;
        }
        if visited.len() == steps_max {
            return Verdict::Undecided;
        }
        let len = attempt.done.iter().sum::<u32>();
        if len > furthest_len {
            (furthest, furthest_len) = (attempt.clone(), len);
        }
        if len as usize == history.ops.len() {
            return Verdict::Explained;
        }
        // The one that returned first is the likeliest to have come first: tried first, so pushed last.
        let mut next = ready(&attempt, &sessions, &history);
        next.sort_unstable_by_key(|(_, op)| std::cmp::Reverse(history.ops[*op].end));
        for (session, op) in next {
            if let Some(state) = run(&history.ops[op].clone(), &attempt.state, &mut history) {
                open.push(attempt.with_done(session, state));
            }
            // Without a reply it may never have happened, unless somebody saw what it wrote. Likelier, so pushed last.
            if !history.ops[op].certain && !seen.contains(&op) {
                open.push(attempt.with_done(session, attempt.state.clone()));
            }
        }
        visited.insert(attempt);
    }
    Verdict::Impossible(tell(&furthest, &sessions, &mut history))
}

impl Attempt {
    fn with_done(&self, session: usize, state: State) -> Attempt {
        let mut next = Attempt { done: self.done.clone(), state };
        next.done[session] += 1;
        next
    }
}

/// Operations that got no reply, and wrote a token that is in some answer.
fn seen_without_reply(history: &History) -> HashSet<usize> {
    let answers = history.ops.iter().flat_map(|op| &op.calls).flat_map(|(_, answer)| match answer {
        Answer::Value(version) => vec![*version],
        Answer::Values(versions) => versions.clone(),
        Answer::Done | Answer::Count(_) | Answer::NoKey | Answer::Unknown => Vec::new(),
    });
    let answers = answers.collect::<HashSet<_>>();
    let tokens = answers.into_iter().flat_map(|version| history.versions.tokens(version)).collect::<HashSet<_>>();
    let seen = |op: &Op| op.calls.iter().flat_map(|(call, _)| call.tokens()).any(|token| tokens.contains(&token));
    let unsure = history.ops.iter().enumerate().filter(|(_, op)| !op.certain);
    unsure.filter(|(_, op)| seen(op)).map(|(index, _)| index).collect()
}

/// A reader that fits now can always come now: it changes nothing for the others. So it is no choice.
fn take_readers(attempt: &mut Attempt, sessions: &[Vec<usize>], history: &mut History) {
    loop {
        let mut taken = false;
        for (session, op) in ready(attempt, sessions, history) {
            let reader = history.ops[op].calls.iter().all(|(call, _)| call.only_reads());
            if reader && (!history.ops[op].certain || answers_fit(op, attempt, history)) {
                attempt.done[session] += 1;
                taken = true;
            }
        }
        if !taken {
            return;
        }
    }
}

fn answers_fit(op: usize, attempt: &Attempt, history: &History) -> bool {
    history.ops[op].calls.iter().all(|(call, answer)| {
        let keys = call.keys();
        match answer {
            Answer::Value(version) => attempt.state.get(keys[0]) == *version,
            Answer::Values(versions) => keys.iter().zip(versions).all(|(key, seen)| attempt.state.get(*key) == *seen),
            Answer::Unknown => true,
            Answer::Done | Answer::Count(_) | Answer::NoKey => false,
        }
    })
}

/// Sessions and their next operations, as far as these can be next by their times.
fn ready(attempt: &Attempt, sessions: &[Vec<usize>], history: &History) -> Vec<(usize, usize)> {
    let waiting = sessions.iter().zip(&attempt.done).enumerate();
    let waiting = waiting.filter_map(|(session, (ops, done))| Some((session, *ops.get(*done as usize)?)));
    let waiting = waiting.collect::<Vec<_>>();
    let first_end = waiting.iter().map(|(_, op)| history.ops[*op].end).min().unwrap_or(u64::MAX);
    waiting.into_iter().filter(|(_, op)| history.ops[*op].start <= first_end).collect()
}

fn run(op: &Op, state: &State, history: &mut History) -> Option<State> {
    let mut state = state.clone();
    let fits = op.calls.iter().all(|(call, answer)| {
        let right = state.run(call, &mut history.versions);
        *answer == Answer::Unknown || *answer == right
    });
    fits.then_some(state)
}

fn tell(furthest: &Attempt, sessions: &[Vec<usize>], history: &mut History) -> String {
    let done = furthest.done.iter().sum::<u32>();
    let mut text =
        format!("no order explains it: the longest got through {done} of {} operations\n", history.ops.len());
    let held = history.keys.iter().zip(&furthest.state.0);
    let held = held.map(|(key, version)| format!("{key} = {}", history.versions.show(*version)));
    text += &format!("to {}; then none of these can be next:\n", held.collect::<Vec<_>>().join(", "));
    for (_, op) in ready(furthest, sessions, history) {
        text += &format!("{}\n", history.show(op));
    }
    text
}

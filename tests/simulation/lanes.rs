//! What is in a lane, and a batch without the messages that a planted bug loses.

use shardis::router::batch::{CallBatch, Message as Said, ReplyBatch, Work};

pub enum Message {
    Calls(CallBatch),
    Replies(ReplyBatch),
}

/// The same batch but for its `LetGo`s, and how many these are.
pub fn without_let_go(batch: &CallBatch) -> (CallBatch, u64) {
    let (mut rest, mut dropped, mut at) = (CallBatch::default(), 0, 0);
    rest.sent_ticks = batch.sent_ticks;
    while at < batch.len() {
        let call = &batch.calls()[at];
        at += 1;
        match call.work {
            Work::Transaction(Said::LetGo) => dropped += 1,
            Work::Transaction(Said::Ask(question)) => {
                let question = batch.question(question);
                let mut calls = CallBatch::default();
                calls.append(batch, at..at + question.calls as usize);
                at += calls.len();
                rest.push_question(call.ticket, question.clone(), Some(&calls));
            }
            Work::Transaction(Said::AskAgain(question)) => {
                rest.push_question(call.ticket, batch.question(question).clone(), None);
            }
            Work::Transaction(Said::Step(step)) => {
                let step = batch.step(step);
                let range = at..at + step.calls as usize;
                at = range.end;
                rest.push_step(call.ticket, batch, range, step.group.clone());
            }
            Work::Transaction(Said::Run | Said::Forget | Said::Ends)
            | Work::Command(_)
            | Work::Core(_)
            | Work::Claim(_)
            | Work::Fetch { .. }
            | Work::Adopt
            | Work::Line(_)
            | Work::Watch
            | Work::Unwatch
            | Work::WantSnapshot
            | Work::Freeze => rest.append(batch, at - 1..at),
        }
    }
    (rest, dropped)
}

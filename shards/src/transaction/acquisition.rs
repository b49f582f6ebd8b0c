//! One transaction's way to holding its intents on all of its shards, as the core that coordinates it sees it.
//!
//! Owns which shard was asked, granted or has to be let go; sends nothing itself: it says what to do next. With one shard beside
//! the coordinator's own, the usual case, that is two messages: the own intents are taken first, so the other shard,
//! being the last, may run its part as soon as it grants it. With more, all are asked at once, and all run when all have granted.

use super::Standing;
use crate::units::ShardId;
use smallvec::SmallVec;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    None,
    Asked,
    Held,
}

#[derive(Clone, Copy, Debug)]
struct Participant {
    shard: ShardId,
    hold: Hold,
    /// Counts the times that it was asked: an answer to an earlier time is late and means nothing.
    attempt: u32,
}

/// A question to a participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Index among the transaction's participants.
    pub participant: u16,
    pub attempt: u32,
    pub standing: Standing,
    /// All others have granted: run as soon as granted. Void once the participant has said that the transaction must yield.
    pub run: bool,
}

/// What the coordinator has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Ask(Ask),
    /// The participant forgets the claim, not the commands: it will be asked again.
    LetGo(u16),
    /// Everybody holds: those that didn't run on their grant may run now.
    Run,
}

#[derive(Clone, Debug)]
pub struct Acquisition {
    participants: SmallVec<[Participant; 3]>,
    /// The coordinator's own shard among them.
    here: Option<usize>,
    /// A lone last participant may run on its grant. Not when all must hold before the first step is known.
    run_on_grant: bool,
    /// Where the transaction has yielded and waits empty-handed.
    waits_at: Option<usize>,
}

impl Acquisition {
    pub fn new(participants: impl Iterator<Item = ShardId>, here: ShardId, run_on_grant: bool) -> Self {
        let participant = |shard| Participant { shard, hold: Hold::None, attempt: 0 };
        let participants: SmallVec<[Participant; 3]> = participants.map(participant).collect();
        let here = participants.iter().position(|participant| participant.shard == here);
        Acquisition { participants, here, run_on_grant, waits_at: None }
    }

    /// The first steps.
    pub fn begin(&mut self, steps: &mut Vec<Step>) {
        self.ask(steps);
    }

    /// A participant has granted the claim of this attempt.
    pub fn granted(&mut self, participant: u16, attempt: u32, steps: &mut Vec<Step>) {
        let at = participant as usize;
        if !self.is_current(at, attempt) {
            return;
        }
        self.participants[at].hold = Hold::Held;
        if self.waits_at == Some(at) {
            self.waits_at = None;
        }
        self.ask(steps);
    }

    /// A participant made the claim of this attempt wait behind an older one: everything else is let go.
    pub fn yielded(&mut self, participant: u16, attempt: u32, steps: &mut Vec<Step>) {
        let at = participant as usize;
        if !self.is_current(at, attempt) {
            return;
        }
        assert!(self.waits_at.is_none(), "who waits empty-handed has nothing else to ask for");
        self.waits_at = Some(at);
        for (other, participant) in self.participants.iter_mut().enumerate() {
            if other != at && participant.hold != Hold::None {
                participant.hold = Hold::None;
                steps.push(Step::LetGo(other as u16));
            }
        }
    }

    /// Those that hold, or were asked and may: what has to be told when the transaction is given up.
    pub fn engaged(&self) -> impl Iterator<Item = u16> {
        self.participants.iter().enumerate().filter(|(_, one)| one.hold != Hold::None).map(|(at, _)| at as u16)
    }

    pub fn shard(&self, participant: u16) -> ShardId {
        self.participants[participant as usize].shard
    }
    pub fn len(&self) -> usize {
        self.participants.len()
    }
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    fn is_current(&self, at: usize, attempt: u32) -> bool {
        let participant = &self.participants[at];
        participant.hold == Hold::Asked && participant.attempt == attempt
    }

    fn ask(&mut self, steps: &mut Vec<Step>) {
        let missing = |one: &Participant| one.hold == Hold::None;
        let asked = self.participants.iter().filter(|one| one.hold == Hold::Asked).count();
        let count = self.participants.iter().filter(|one| missing(one)).count();
        if count == 0 {
            if asked == 0 {
                steps.push(Step::Run);
            }
            return;
        }
        if asked > 0 {
            return;
        }
        let holds = count < self.participants.len();
        if let Some(here) = self.here.filter(|here| missing(&self.participants[*here])) {
            // Alone and first: it costs no message, and nobody waits elsewhere for who waits here.
            let standing = if holds { Standing::HoldsElsewhere } else { Standing::EmptyHanded };
            return self.ask_one(here, standing, false, steps);
        }
        let standing = if holds || count > 1 { Standing::HoldsElsewhere } else { Standing::EmptyHanded };
        let run = self.run_on_grant && count == 1;
        for at in 0..self.participants.len() {
            if missing(&self.participants[at]) {
                self.ask_one(at, standing, run, steps);
            }
        }
    }

    fn ask_one(&mut self, at: usize, standing: Standing, run: bool, steps: &mut Vec<Step>) {
        let participant = &mut self.participants[at];
        participant.hold = Hold::Asked;
        participant.attempt += 1;
        let attempt = participant.attempt;
        steps.push(Step::Ask(Ask { participant: at as u16, attempt, standing, run }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(numbers: &[u16]) -> impl Iterator<Item = ShardId> {
        numbers.iter().map(|number| ShardId(*number))
    }

    fn steps(act: impl FnOnce(&mut Vec<Step>)) -> Vec<Step> {
        let mut steps = Vec::new();
        act(&mut steps);
        steps
    }

    fn ask(participant: u16, attempt: u32, standing: Standing, run: bool) -> Step {
        Step::Ask(Ask { participant, attempt, standing, run })
    }

    #[test]
    fn one_other_shard_is_asked_once_and_runs_at_once() {
        let mut one = Acquisition::new(shards(&[0, 1]), ShardId(0), true);
        assert_eq!(steps(|steps| one.begin(steps)), [ask(0, 1, Standing::EmptyHanded, false)]);
        assert_eq!(steps(|steps| one.granted(0, 1, steps)), [ask(1, 1, Standing::HoldsElsewhere, true)]);
    }

    #[test]
    fn who_yields_lets_go_waits_and_asks_again() {
        let mut one = Acquisition::new(shards(&[0, 1]), ShardId(0), true);
        one.begin(&mut Vec::new());
        one.granted(0, 1, &mut Vec::new());
        assert_eq!(steps(|steps| one.yielded(1, 1, steps)), [Step::LetGo(0)]);
        assert_eq!(steps(|steps| one.granted(1, 1, steps)), [ask(0, 2, Standing::HoldsElsewhere, false)]);
        assert_eq!(steps(|steps| one.granted(0, 2, steps)), [Step::Run]);
    }

    #[test]
    fn several_are_asked_at_once_and_late_answers_mean_nothing() {
        let mut one = Acquisition::new(shards(&[1, 2, 3]), ShardId(0), true);
        let asked = [1, 2, 3].map(|at| ask(at - 1, 1, Standing::HoldsElsewhere, false));
        assert_eq!(steps(|steps| one.begin(steps)), asked);
        assert_eq!(steps(|steps| one.granted(0, 1, steps)), []);
        assert_eq!(steps(|steps| one.yielded(1, 1, steps)), [Step::LetGo(0), Step::LetGo(2)]);
        assert_eq!(steps(|steps| one.yielded(2, 1, steps)), [], "it was let go meanwhile");
        assert_eq!(steps(|steps| one.granted(2, 1, steps)), []);
        let again = [ask(0, 2, Standing::HoldsElsewhere, false), ask(2, 2, Standing::HoldsElsewhere, false)];
        assert_eq!(steps(|steps| one.granted(1, 1, steps)), again);
        assert_eq!(steps(|steps| one.granted(0, 2, steps)), []);
        assert_eq!(steps(|steps| one.granted(2, 2, steps)), [Step::Run]);
    }
}

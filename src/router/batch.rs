//! What crosses a lane: calls for another core's shard, messages of transactions, and their answers, in batches of one
//! turn.

use shards::call::{Args, Span};
use shards::reply::Protocol;
use shards::transaction::{Access, Age, Ask};
use shards::units::{Db, Offset, ShardId};
use smallvec::SmallVec;

/// A client connection of a core: index in its table, and a generation so that a late reply never reaches the
/// next client on the same index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

/// Where a reply belongs: the connection, its reply slot, and the part when the command was spread.
///
/// In messages of a transaction: its index at its front (in place of a connection's), its number, and the participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    pub connection: ConnectionId,
    pub slot: u64,
    pub part: u16,
    /// Whether other parts of the command are elsewhere: it was not sent as a single command.
    pub spread: bool,
}

impl Ticket {
    pub fn of_transaction(index: u32, age: Age, participant: u16) -> Ticket {
        Ticket { connection: ConnectionId { index, generation: 0 }, slot: age.number, part: participant, spread: true }
    }
    /// A ticket of a part of a command that was spread, of which another part is elsewhere.
    pub fn is_part(&self) -> bool {
        self.spread
    }
    /// The age of the transaction whose front sent this.
    pub fn age(&self, front: ShardId) -> Age {
        Age { number: self.slot, front }
    }
}

/// What the owner is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Run the command with this number in the catalogue.
    Command(u16),
    /// Run this core's part of a server command (`CONFIG SET`, `CLIENT LIST`).
    Core(u16),
    /// Only in a transaction: the keys in the arguments are wanted, for a later step or because they are watched.
    Claim(Access),
    /// Only in a transaction: reply the entries of the keys in the arguments as edits, for a scratch keyspace elsewhere.
    Fetch {
        all_databases: bool,
    },
    /// Only in a transaction: apply the edits that are the one argument.
    Adopt,
    /// A message of a transaction.
    Transaction(Message),
    /// About a blocked client. The ticket names its connection on its core, and which wait of that core this is; no reply.
    Line(LineWork),
    /// From here on the keys in the arguments are watched for the client with this number.
    Watch,
    Unwatch,
    /// For shard 0: a client waits for a snapshot. The arguments are the request's id, and the name of a copy if one is wanted.
    WantSnapshot,
    /// Only in a transaction over all shards. The arguments: a number, the ids of requests, and why there is no snapshot. Without the
    /// last, all shards are claimed, and what is here now is the snapshot with that number.
    Freeze,
}

/// What is said of blocked clients and the lines of those who wait for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineWork {
    /// It waits for the keys from the second argument on; the first has the kind of value, and whether it takes it from others.
    Join,
    /// It waits for nothing here any more.
    Leave,
    /// It tried in vain, having heard of hints up to the number in the argument.
    Again,
    /// To its core: it may try again. The argument is the hint's number.
    Hint,
}

/// What the front of a transaction says to a participant. Answers are `Answer`s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// The intents for the calls that follow this one, which are kept. The index of the question among those of the batch.
    Ask(u32),
    /// Again, after `LetGo`.
    AskAgain(u32),
    /// Forget the claim, but keep the calls.
    LetGo,
    /// All participants hold: run the calls, answer, release.
    Run,
    /// All participants hold: run the calls that follow this one, and answer. The index of the step among those of the batch.
    Step(u32),
    /// Forget all of it, after the last step or instead of the first.
    Forget,
    /// Where the group with this number (in place of a transaction's) ends in the log of each participant, in the order
    /// of the participants: the argument holds the offsets.
    Ends,
}

/// A question and what has to be known to run the calls once it is granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub ask: Ask,
    /// The calls that follow, which it is about.
    pub calls: u32,
    /// The number of the client whose watched keys must be unbroken; 0 for none.
    pub watcher: u64,
    /// Not to run in part: refused as a whole where no writes are taken.
    pub whole: bool,
    pub group: Option<Group>,
    /// It will run in many steps whose edits are to become one record of the log.
    pub holds_log: bool,
}

/// A step and the calls of it that follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepOf {
    pub calls: u32,
    pub group: Option<Group>,
}

/// Edits that are recovered on all of these shards or on none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub number: u64,
    /// Ascending.
    pub participants: SmallVec<[ShardId; 4]>,
}

/// The kind of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a call: the reply, or a part of it.
    Reply,
    /// The transaction holds its intents here; the attempt that was granted.
    Granted(u32),
    /// It stands in line empty-handed and has to let go of what it holds elsewhere.
    Yielded(u32),
    /// Its calls have run: where what they did or saw ends in the shard's log, then their replies (see `ran`).
    Ran,
    /// A watched key has changed: nothing was run, and nothing is held here any more.
    Broken,
    /// The shard takes no writes: the error. Nothing was run, and nothing is held here any more.
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub struct RemoteCall {
    pub ticket: Ticket,
    pub work: Work,
    pub db: Db,
    pub protocol: Protocol,
    first_span: u32,
    spans: u32,
}

/// Calls from one core to another.
#[derive(Default, Debug)]
pub struct CallBatch {
    data: Vec<u8>,
    spans: Vec<Span>,
    calls: Vec<RemoteCall>,
    questions: Vec<Question>,
    steps: Vec<StepOf>,
    /// When the sender let it go, in the runtime's ticks: the lane's share of the latency.
    pub sent_ticks: u64,
}

impl CallBatch {
    /// With room for so many calls of the usual size: growing bit by bit costs more than a short pipeline's commands.
    pub fn with_room(calls: usize) -> Self {
        CallBatch {
            data: Vec::with_capacity(calls * USUAL_CALL_BYTES),
            spans: Vec::with_capacity(calls * USUAL_CALL_ARGS),
            calls: Vec::with_capacity(calls),
            ..CallBatch::default()
        }
    }
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
    pub fn len(&self) -> usize {
        self.calls.len()
    }
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
    /// Arguments of all calls.
    pub fn arguments(&self) -> usize {
        self.spans.len()
    }
    pub fn push<'a>(
        &mut self,
        ticket: Ticket,
        work: Work,
        db: Db,
        protocol: Protocol,
        args: impl Iterator<Item = &'a [u8]>,
    ) {
        let first_span = self.spans.len() as u32;
        for arg in args {
            let start = u32::try_from(self.data.len()).expect("a batch is cut off long before 4 GiB");
            self.spans.push(Span { start, len: arg.len() as u32 });
            self.data.extend_from_slice(arg);
        }
        let spans = self.spans.len() as u32 - first_span;
        self.calls.push(RemoteCall { ticket, work, db, protocol, first_span, spans });
    }
    /// A message of a transaction, without arguments.
    pub fn push_message(&mut self, ticket: Ticket, message: Message) {
        self.push(ticket, Work::Transaction(message), Db(0), Protocol::Resp2, std::iter::empty());
    }
    /// A question, and the calls it is about, unless the participant has them already.
    pub fn push_question(&mut self, ticket: Ticket, question: Question, calls: Option<&CallBatch>) {
        let at = self.questions.len() as u32;
        self.questions.push(question);
        self.push_message(ticket, if calls.is_some() { Message::Ask(at) } else { Message::AskAgain(at) });
        if let Some(calls) = calls {
            self.append(calls, 0..calls.len());
        }
    }
    /// Copies calls out of another batch.
    pub fn append(&mut self, other: &CallBatch, range: std::ops::Range<usize>) {
        if range == (0..other.len()) {
            return self.append_all(other);
        }
        for call in &other.calls[range] {
            self.push(call.ticket, call.work, call.db, call.protocol, other.args(call).iter());
        }
    }
    /// In one piece.
    fn append_all(&mut self, other: &CallBatch) {
        let first_span = self.spans.len() as u32;
        let base = self.data.len();
        u32::try_from(base + other.data.len()).expect("a batch is cut off long before 4 GiB");
        self.data.extend_from_slice(&other.data);
        let moved = |span: &Span| Span { start: span.start + base as u32, len: span.len };
        self.spans.extend(other.spans.iter().map(moved));
        let moved = |call: &RemoteCall| RemoteCall { first_span: call.first_span + first_span, ..*call };
        self.calls.extend(other.calls.iter().map(moved));
    }
    /// A step of a transaction, with its calls.
    pub fn push_step(
        &mut self,
        ticket: Ticket,
        calls: &CallBatch,
        range: std::ops::Range<usize>,
        group: Option<Group>,
    ) {
        let at = self.steps.len() as u32;
        self.steps.push(StepOf { calls: range.len() as u32, group });
        self.push_message(ticket, Message::Step(at));
        self.append(calls, range);
    }
    pub fn question(&self, at: u32) -> &Question {
        &self.questions[at as usize]
    }
    pub fn step(&self, at: u32) -> &StepOf {
        &self.steps[at as usize]
    }
    pub fn calls(&self) -> &[RemoteCall] {
        &self.calls
    }
    pub fn args(&self, call: &RemoteCall) -> Args<'_> {
        Args::new(&self.data, &self.spans[call.first_span as usize..][..call.spans as usize])
    }
    /// Empties it for reuse; a buffer that one huge call blew up is given back.
    pub fn clear(&mut self) {
        self.data.clear();
        self.data.shrink_to(BATCH_BYTES_KEPT);
        self.spans.clear();
        self.spans.shrink_to(BATCH_BYTES_KEPT / size_of::<Span>());
        self.calls.clear();
        self.questions.clear();
        self.steps.clear();
    }
}

const USUAL_CALL_BYTES: usize = 48;
const USUAL_CALL_ARGS: usize = 3;
const BATCH_BYTES_KEPT: usize = 64 << 10;

/// Answers from an owner to the core that asked.
#[derive(Default, Debug)]
pub struct ReplyBatch {
    data: Vec<u8>,
    replies: Vec<(Ticket, Answer, u32)>,
    /// How many of them answer plain calls.
    plain: usize,
    /// Up to where the sender's log is as durable as the policy demands, if the receiver waits for that.
    pub written: Option<Offset>,
    /// The sender's log has failed.
    pub log_failed: bool,
}

impl ReplyBatch {
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.written.is_none() && !self.log_failed
    }
    /// Number of plain calls that it answers.
    pub fn plain(&self) -> usize {
        self.plain
    }
    /// The buffer to append an answer to; `close` with its ticket ends it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }
    /// The reply to a plain call ends here.
    pub fn close(&mut self, ticket: Ticket, start: usize) {
        self.plain += 1;
        self.replies.push((ticket, Answer::Reply, (self.data.len() - start) as u32));
    }
    /// An answer in a transaction ends here.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, start: usize) {
        self.replies.push((ticket, answer, (self.data.len() - start) as u32));
    }
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, Answer, &[u8])> {
        let mut at = 0;
        self.replies.iter().map(move |&(ticket, answer, len)| {
            let bytes = &self.data[at..at + len as usize];
            at += len as usize;
            (ticket, answer, bytes)
        })
    }
    pub fn append(&mut self, other: &ReplyBatch) {
        self.data.extend_from_slice(&other.data);
        self.replies.extend_from_slice(&other.replies);
        self.plain += other.plain;
    }
    pub fn clear(&mut self) {
        self.data.clear();
        self.data.shrink_to(BATCH_BYTES_KEPT);
        self.replies.clear();
        self.plain = 0;
        self.written = None;
        self.log_failed = false;
    }
}

/// The bytes of an `Answer::Ran`: an offset, then each reply behind its length.
pub mod ran {
    use shards::units::Offset;

    /// Begins an answer; `end` is called with what this returns.
    pub fn begin(out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&[0; 8]);
        out.len() - 8
    }
    pub fn end(out: &mut [u8], start: usize, until: Offset) {
        out[start..start + 8].copy_from_slice(&until.0.to_le_bytes());
    }
    /// Appends what `write` writes, as one reply; what `write` returns.
    pub fn reply<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let written = write(out);
        let len = u32::try_from(out.len() - start - 4).expect("a reply is shorter than 4 GiB");
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        written
    }
    pub fn until(answer: &[u8]) -> Offset {
        Offset(u64::from_le_bytes(answer[..8].try_into().expect("eight bytes")))
    }
    /// The reply at `at`, and where the next one is; the first is at `FIRST`.
    pub fn next(answer: &[u8], at: usize) -> (&[u8], usize) {
        let len = u32::from_le_bytes(answer[at..at + 4].try_into().expect("four bytes")) as usize;
        (&answer[at + 4..at + 4 + len], at + 4 + len)
    }
    pub const FIRST: usize = 8;
}

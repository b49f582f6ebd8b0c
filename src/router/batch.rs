//! What crosses a lane: calls for another core's shard, and their replies, in batches of one turn.

use shards::call::{Args, Span};
use shards::reply::Protocol;
use shards::units::Db;

/// A client connection of a core: index in its table, and a generation so that a late reply never reaches the
/// next client on the same index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

/// Where a reply belongs: the connection, its reply slot, and the part when the command was spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    pub connection: ConnectionId,
    pub slot: u64,
    pub part: u16,
}

/// What the owner is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Run the command with this number in the catalogue.
    Command(u16),
    /// Run this core's part of a server command (`CONFIG SET`, `CLIENT LIST`).
    Core(u16),
    /// Reply the entries of the keys in the arguments as edits, for a scratch keyspace elsewhere.
    Fetch { all_databases: bool },
    /// Apply the edits that are the one argument.
    Adopt,
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
    /// When the sender let it go, in the runtime's ticks: the lane's share of the latency.
    pub sent_ticks: u64,
}

impl CallBatch {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
    pub fn len(&self) -> usize {
        self.calls.len()
    }
    pub fn bytes(&self) -> usize {
        self.data.len()
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
    }
}

const BATCH_BYTES_KEPT: usize = 64 << 10;

/// Replies from an owner to the core that asked.
#[derive(Default, Debug)]
pub struct ReplyBatch {
    data: Vec<u8>,
    replies: Vec<(Ticket, u32)>,
}

impl ReplyBatch {
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }
    pub fn len(&self) -> usize {
        self.replies.len()
    }
    /// The buffer to append a reply to; `close` with its ticket ends it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }
    pub fn close(&mut self, ticket: Ticket, start: usize) {
        self.replies.push((ticket, (self.data.len() - start) as u32));
    }
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, &[u8])> {
        let mut at = 0;
        self.replies.iter().map(move |&(ticket, len)| {
            let bytes = &self.data[at..at + len as usize];
            at += len as usize;
            (ticket, bytes)
        })
    }
    pub fn append(&mut self, other: &ReplyBatch) {
        self.data.extend_from_slice(&other.data);
        self.replies.extend_from_slice(&other.replies);
    }
    pub fn clear(&mut self) {
        self.data.clear();
        self.data.shrink_to(BATCH_BYTES_KEPT);
        self.replies.clear();
    }
}

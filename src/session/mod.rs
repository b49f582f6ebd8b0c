//! One client without its socket: what it is allowed to do, which protocol and database it chose, what it
//! sent that is not parsed yet, and its replies in order.

pub mod replies;

use crate::core::{Blocked, Multi};
use crate::resp::Parser;
use crate::router::batch::ConnectionId;
use replies::ReplyQueue;
use shards::reply::Protocol;
use shards::units::{Db, ShardId};
use std::collections::BTreeSet;

/// Which replies the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command's reply is dropped, then replies are on again.
    SkipNext,
    /// The command being run is the one to skip.
    Skipping,
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Closing {
    #[default]
    Open,
    /// No more commands; close once the replies are sent (QUIT, protocol errors).
    AfterReplies,
    /// Close without sending more (CLIENT KILL, output limit).
    Now,
}

pub struct Session {
    pub connection: ConnectionId,
    /// Unique over all cores.
    pub id: u64,
    pub address: String,
    pub local_address: String,
    pub fd: i32,
    pub name: String,
    pub lib_name: String,
    pub lib_version: String,
    pub db: Db,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub reply_mode: ReplyMode,
    pub no_evict: bool,
    pub no_touch: bool,
    pub closing: Closing,
    /// Steady milliseconds.
    pub created_ms: u64,
    pub active_ms: u64,
    pub last_command: &'static str,
    pub commands: u64,
    pub parser: Parser,
    /// Received bytes that are no complete command yet, or that wait because the session is held.
    pub input: Vec<u8>,
    /// Bytes at the start of `input` that are done with; removed when they are half of it, not at each command.
    pub input_done: usize,
    /// The last request had to wait: parsing many ahead of it again would be in vain.
    pub one_at_a_time: bool,
    pub replies: ReplyQueue,
    /// Something is under way on other shards (or waits for intents on this one), and what follows has to wait for it.
    pub held: bool,
    /// Single commands under way to one other shard, and which; what goes elsewhere waits for them.
    pub flying: u32,
    pub flying_to: ShardId,
    /// A command of it waits for one of its keys; then the session is held.
    pub blocked: Option<Box<Blocked>>,
    /// Commands queued since MULTI.
    pub multi: Option<Box<Multi>>,
    /// What was watched since the last EXEC: database and key.
    pub watched: BTreeSet<(Db, Vec<u8>)>,
    /// The client has closed its side: once what it sent is run, the connection closes after the replies.
    pub input_ended: bool,
    /// Since when the replies have been over the soft output limit.
    pub over_soft_limit_since_ms: Option<u64>,
    /// Bytes of replies when the session's turn began: a turn makes a bounded amount more.
    pub turn_start_bytes: usize,
    /// Already in the core's list of connections with something to send.
    pub dirty: bool,
    /// Has replies that wait a moment for the next ones, to be sent together.
    pub deferred: bool,
    /// Already in the core's list of connections whose first reply waits for the log.
    pub gated: bool,
    /// Already in the core's list of connections with input left over.
    pub resumable: bool,
}

/// What the runtime knows of a new connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: String,
    pub local_address: String,
    pub fd: i32,
    /// Comes over the loopback interface (protected mode lets these in).
    pub local: bool,
}

impl Session {
    pub fn new(connection: ConnectionId, id: u64, peer: Peer, authenticated: bool, now_ms: u64) -> Self {
        Session {
            connection,
            id,
            address: peer.address,
            local_address: peer.local_address,
            fd: peer.fd,
            name: String::new(),
            lib_name: String::new(),
            lib_version: String::new(),
            db: Db(0),
            protocol: Protocol::Resp2,
            authenticated,
            reply_mode: ReplyMode::On,
            no_evict: false,
            no_touch: false,
            closing: Closing::Open,
            created_ms: now_ms,
            active_ms: now_ms,
            last_command: "NULL",
            commands: 0,
            parser: Parser::default(),
            input: Vec::new(),
            input_done: 0,
            one_at_a_time: false,
            replies: ReplyQueue::default(),
            held: false,
            flying: 0,
            flying_to: ShardId(0),
            blocked: None,
            multi: None,
            watched: BTreeSet::new(),
            input_ended: false,
            over_soft_limit_since_ms: None,
            turn_start_bytes: 0,
            dirty: false,
            deferred: false,
            gated: false,
            resumable: false,
        }
    }

    /// As after connecting, but for the connection itself (RESET).
    pub fn reset(&mut self, authenticated: bool) {
        self.name.clear();
        self.multi = None;
        self.db = Db(0);
        self.protocol = Protocol::Resp2;
        self.authenticated = authenticated;
        self.reply_mode = ReplyMode::On;
        self.no_evict = false;
        self.no_touch = false;
    }
}

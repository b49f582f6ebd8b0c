//! Bytes to commands: parses what the sockets brought, a whole turn of it, and runs it with the keys of the
//! commands ahead already on their way into the cache.

use super::coordinate::Beginning;
use super::execute::TURN_REPLY_BYTES_MAX;
use super::turn::BACKLOG_BYTES_MAX;
use super::{Core, long};
use crate::commands::catalog::{Catalog, CommandNumber, Run};
use crate::resp::{Parsed, ProtocolError};
use crate::router::batch::ConnectionId;
use crate::router::program::{self, Kind, Program};
use crate::session::{Closing, ReplyMode};
use shards::call::{Args, Span};
use shards::keyspace::PrefetchTicket;
use shards::reply::Reply;
use shards::row::{Keys, Route, Traits};
use shards::units::{Db, ShardId};

/// Bytes that a connection received.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub connection: ConnectionId,
    pub bytes: &'a [u8],
}

/// Buffers reused from turn to turn.
#[derive(Default)]
pub(super) struct Intake {
    spans: Vec<Span>,
    requests: Vec<Request>,
}

/// A parsed request. Its arguments are spans of its source's buffer, or, typed as a line, words of its own.
struct Request {
    source: u32,
    /// Where it starts in the source, to give it back when it can't run now.
    start: u32,
    first_span: u32,
    spans: u32,
    command: Option<CommandNumber>,
    prefetch: Option<(Db, PrefetchTicket)>,
    target: Target,
    /// It belongs to a pipeline over several shards that ends before the request with this index; or `LONG`; 0 for all others.
    pipeline_end: u32,
    inline: Option<Box<Words>>,
}

/// In place of an index: a request of very many arguments.
const LONG: u32 = u32::MAX;

/// Where a request's keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// It has none, or is not for a pipeline over several shards: it is run by itself.
    Alone,
    Shard(ShardId),
    /// Several shards, each with a part of its own.
    Several,
}

/// The words of an inline request, unquoted.
struct Words {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Words {
    fn new(words: &[Vec<u8>]) -> Self {
        let mut start = 0;
        let span = |word: &Vec<u8>| {
            start += word.len() as u32;
            Span { start: start - word.len() as u32, len: word.len() as u32 }
        };
        Words { spans: words.iter().map(span).collect(), bytes: words.concat() }
    }
}

impl Intake {
    /// Adds a request, with the command that its first words name.
    fn push(&mut self, mut request: Request, source: &Source<'_>, catalog: &Catalog) {
        let args = request.args(source, &self.spans);
        request.command = catalog.resolve(args.at(0), args.get(1)).map(|command| command.number);
        self.requests.push(request);
    }
}

impl Request {
    fn new(source: usize, start: usize, first_span: u32, spans: u32, inline: Option<Box<Words>>) -> Self {
        Request {
            source: source as u32,
            start: start as u32,
            first_span,
            spans,
            command: None,
            prefetch: None,
            target: Target::Alone,
            pipeline_end: if spans as usize > long::ARGS_MAX { LONG } else { 0 },
            inline,
        }
    }
    fn args<'a>(&'a self, source: &'a Source<'_>, spans: &'a [Span]) -> Args<'a> {
        match &self.inline {
            Some(words) => Args::new(&words.bytes, &words.spans),
            None => Args::new(source.bytes.as_slice(), &spans[self.first_span as usize..][..self.spans as usize]),
        }
    }
}

/// One connection's bytes in this turn.
struct Source<'a> {
    connection: ConnectionId,
    bytes: Bytes<'a>,
    /// Parsed up to here.
    parsed: usize,
    state: SourceState,
}

enum Bytes<'a> {
    /// Straight from the receive buffer.
    Received(&'a [u8]),
    /// The session had bytes waiting; these came behind them.
    Accumulated(Vec<u8>),
}

impl Bytes<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Received(bytes) => bytes,
            Bytes::Accumulated(bytes) => bytes,
        }
    }
}

#[derive(PartialEq, Eq)]
enum SourceState {
    /// There may be more requests in it.
    Open,
    /// The rest is an incomplete request, or nothing.
    Drained,
    /// The session can't go on now (it waits, or is closing).
    Stopped,
    Failed(ProtocolError),
}

/// Requests parsed before they are run: enough to hide the memory's latency, few enough to stay in the cache.
const REQUESTS_MAX: usize = 256;
/// How far ahead buckets, and then entries, are asked for. Measured with scripts/bench: flat from 6 on.
pub(super) const BUCKETS_AHEAD: usize = 16;
pub(super) const ENTRIES_AHEAD: usize = 8;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It was run, or is on its way to who runs it.
    Done,
    /// It can't be taken yet: give it back, and what follows it.
    Hold,
}

impl Core {
    /// Runs what these connections sent. One connection may occur only once.
    pub fn receive(&mut self, inputs: &[Input<'_>]) {
        let mut sources: Vec<Source<'_>> = inputs.iter().filter_map(|input| self.source(input)).collect();
        self.run_sources(&mut sources);
    }

    /// Runs input that had to wait.
    pub fn resume(&mut self) {
        if self.resumable.is_empty() {
            return;
        }
        let resumable = std::mem::take(&mut self.resumable);
        let mut sources: Vec<Source<'_>> = Vec::with_capacity(resumable.len());
        for connection in resumable {
            if let Some(session) = self.session_mut(connection) {
                session.resumable = false;
                sources.extend(self.source(&Input { connection, bytes: &[] }));
            }
        }
        self.run_sources(&mut sources);
    }

    fn source<'a>(&mut self, input: &Input<'a>) -> Option<Source<'a>> {
        let query_bytes_max = self.config.query_bytes_max as usize;
        let now_ms = self.now.steady_ms;
        self.stats.net_input_bytes += input.bytes.len() as u64;
        let session = self.session_mut(input.connection)?;
        session.active_ms = now_ms;
        if session.closing != Closing::Open {
            return None;
        }
        session.turn_start_bytes = session.replies.bytes();
        if session.input.is_empty() && !session.held {
            let bytes = Bytes::Received(input.bytes);
            return Some(Source { connection: input.connection, bytes, parsed: 0, state: SourceState::Open });
        }
        session.input.extend_from_slice(input.bytes);
        if session.input.len() > query_bytes_max {
            self.stats.query_buffer_limit_disconnections += 1;
            self.close(input.connection, Closing::Now);
            return None;
        }
        if session.held {
            return None;
        }
        let bytes = Bytes::Accumulated(std::mem::take(&mut session.input));
        let parsed = std::mem::take(&mut session.input_done);
        Some(Source { connection: input.connection, bytes, parsed, state: SourceState::Open })
    }

    fn run_sources(&mut self, sources: &mut [Source<'_>]) {
        let mut intake = std::mem::take(&mut self.intake);
        loop {
            let started = self.ticks();
            intake.requests.clear();
            intake.spans.clear();
            for (at, source) in sources.iter_mut().enumerate() {
                if source.state == SourceState::Open {
                    self.parse(at, source, &mut intake);
                }
            }
            if intake.requests.is_empty() {
                break;
            }
            self.latency.parsed(started, self.ticks(), intake.requests.len());
            self.run_requests(sources, &mut intake);
        }
        self.intake = intake;
        sources.iter_mut().for_each(|source| self.put_back(source));
    }

    /// Collects requests from one source until the intake is full or the source has no more.
    fn parse(&mut self, at: usize, source: &mut Source<'_>, intake: &mut Intake) {
        let Some(session) = self.sessions.get_mut(source.connection.index as usize) else {
            source.state = SourceState::Stopped;
            return;
        };
        let limits = self.config.request_limits(session.authenticated);
        let bytes = source.bytes.as_slice();
        while intake.requests.len() < REQUESTS_MAX {
            let (start, first_span) = (source.parsed, intake.spans.len());
            if start == bytes.len() {
                source.state = SourceState::Drained;
                return;
            }
            match session.parser.next(bytes, start, &limits, &mut intake.spans) {
                Parsed::Command { used } => {
                    source.parsed += used;
                    let first_span = first_span as u32;
                    let spans = intake.spans.len() as u32 - first_span;
                    let request = Request::new(at, start, first_span, spans, None);
                    intake.push(request, source, &self.catalog);
                }
                Parsed::Inline { used, args } => {
                    source.parsed += used;
                    let request = Request::new(at, start, 0, 0, Some(Box::new(Words::new(&args))));
                    intake.push(request, source, &self.catalog);
                }
                Parsed::Ignored { used } => {
                    source.parsed += used;
                    continue;
                }
                Parsed::Incomplete { .. } => {
                    source.state = SourceState::Drained;
                    return;
                }
                Parsed::Error(error) => {
                    source.state = SourceState::Failed(error);
                    return;
                }
            }
            if !limits.authenticated || session.one_at_a_time {
                // What follows may be allowed more once this one has run, or may have to wait like the one before.
                return;
            }
        }
    }

    fn run_requests(&mut self, sources: &mut [Source<'_>], intake: &mut Intake) {
        if self.shards > 1 {
            self.aim(sources, intake);
        }
        let Intake { spans, requests } = intake;
        // Up to here requests went with a pipeline.
        let mut piped = 0;
        for at in 0..requests.len() + BUCKETS_AHEAD {
            if let Some(request) = requests.get_mut(at)
                && request.pipeline_end == 0
            {
                let source = &sources[request.source as usize];
                request.prefetch = self.prefetch(source.connection, request.command, request.args(source, spans));
            }
            if let Some(ahead) = at.checked_sub(BUCKETS_AHEAD - ENTRIES_AHEAD)
                && let Some((db, ticket)) = requests.get(ahead).and_then(|request| request.prefetch)
            {
                self.owner.keyspace.prefetch_entry(db, ticket);
            }
            let Some(request) = at.checked_sub(BUCKETS_AHEAD).and_then(|due| requests.get(due)) else { continue };
            let source = &sources[request.source as usize];
            if source.state == SourceState::Stopped {
                continue;
            }
            if request.pipeline_end != 0 && self.run_otherwise(at - BUCKETS_AHEAD, &mut piped, sources, requests, spans)
            {
                continue;
            }
            let source = &sources[request.source as usize];
            if self.dispatch(source.connection, request.command, request.args(source, spans)) == Flow::Hold {
                let source = &mut sources[request.source as usize];
                source.parsed = request.start as usize;
                source.state = SourceState::Stopped;
            }
        }
    }

    /// A request that is part of a pipeline over several shards, or of very many arguments. `false`: it is to be dispatched by
    /// itself after all.
    #[inline(never)]
    fn run_otherwise(
        &mut self,
        at: usize,
        piped: &mut usize,
        sources: &mut [Source<'_>],
        requests: &[Request],
        spans: &[Span],
    ) -> bool {
        let request = &requests[at];
        if at < *piped {
            return true;
        }
        if request.pipeline_end == LONG {
            return self.take_long(&mut sources[request.source as usize], request, spans);
        }
        let end = request.pipeline_end as usize;
        let runs = self.run_pipeline(&sources[request.source as usize], &requests[at..end], spans);
        if runs {
            *piped = end;
        }
        runs
    }

    /// Finds out which requests of one connection, one after the other, go to several shards: these run as one.
    #[inline(never)]
    fn aim(&mut self, sources: &[Source<'_>], intake: &mut Intake) {
        let Intake { spans, requests } = intake;
        let mut at = 0;
        while at < requests.len() {
            let (begin, source) = (at, requests[at].source);
            let mut crosses = false;
            while let Some(request) = requests.get(at).filter(|request| request.source == source) {
                let target = self.target(request.command, request.args(&sources[source as usize], spans));
                requests[at].target = target;
                if target == Target::Alone {
                    break;
                }
                crosses |= target == Target::Several || target != requests[begin].target;
                at += 1;
            }
            if crosses && at - begin > 1 {
                requests[begin..at].iter_mut().for_each(|request| request.pipeline_end = at as u32);
            }
            at = at.max(begin + 1);
        }
    }

    fn target(&mut self, command: Option<CommandNumber>, args: Args<'_>) -> Target {
        let Some(command) = command.map(|number| self.catalog.get(number)) else { return Target::Alone };
        let Run::Shard(row) = command.run else { return Target::Alone };
        // Whether what follows a blocking one may run is known once it has been tried.
        let alone = row.traits.has(Traits::ADMIN) || row.traits.has(Traits::BLOCKING);
        if !command.accepts(args.len()) || alone || args.len() > long::ARGS_MAX {
            return Target::Alone;
        }
        match (row.route, row.keys) {
            (Route::Keyed, Keys::Range { first, last, .. }) if first == last => {
                Target::Shard(self.shard_of(args.at(first as usize)))
            }
            (Route::Keyed | Route::Split(_), _) => {
                self.key_positions.clear();
                if !row.find_keys(&args, &mut self.key_positions) || self.key_positions.is_empty() {
                    return Target::Alone;
                }
                match program::home(&self.slots, &args, &self.key_positions) {
                    Some(shard) => Target::Shard(shard),
                    None if row.route == Route::Keyed => Target::Alone,
                    None => Target::Several,
                }
            }
            (Route::Every(_) | Route::Any | Route::Cursor | Route::Front, _) => Target::Alone,
        }
    }

    /// Runs requests of one connection as one transaction, so that their effects are seen in the order sent. `false`: it can't
    /// be, and each is dispatched by itself.
    #[inline(never)]
    fn run_pipeline(&mut self, source: &Source<'_>, requests: &[Request], spans: &[Span]) -> bool {
        let connection = source.connection;
        let Some(session) = self.sessions.get(connection.index as usize) else { return false };
        let ordinary = session.authenticated
            && session.multi.is_none()
            && !session.held
            && session.flying == 0
            && session.closing == Closing::Open
            && session.reply_mode == ReplyMode::On
            && session.replies.bytes() <= session.turn_start_bytes + TURN_REPLY_BYTES_MAX;
        if !ordinary || self.owner.keyspace.edits().len() as u64 > BACKLOG_BYTES_MAX {
            return false;
        }
        let (db, protocol) = (session.db, session.protocol);
        let mut program = Program::new(Kind::Direct, self.slots, self.shard, protocol).with_room(requests.len());
        for request in requests {
            let number = request.command.expect("only known commands have a target");
            let Run::Shard(row) = self.catalog.get(number).run else { unreachable!("only these have a target") };
            let planned = program::Request { number, row, args: request.args(source, spans), db, draw: 0 };
            if let Target::Shard(home) = request.target {
                program.add_at(home, planned);
            } else if let Err(error) = program.add(planned) {
                let mut reply = Vec::new();
                Reply::new(&mut reply, protocol).error(&error);
                program.add_known(reply);
            }
        }
        if !self.have_credit(&program) {
            return false;
        }
        let last = requests.last().and_then(|request| request.command).expect("a pipeline has commands");
        let session = &mut self.sessions[connection.index as usize];
        session.last_command = self.catalog.get(last).name();
        session.commands += requests.len() as u64;
        self.stats.commands += requests.len() as u64;
        self.begin_transaction(connection, program, Beginning::default());
        true
    }

    /// Hands a request of many keys over to be run in slices, buffer and all; what follows it waits. Whether it did.
    #[inline(never)]
    fn take_long(&mut self, source: &mut Source<'_>, request: &Request, spans: &[Span]) -> bool {
        let Some(number) = request.command else { return false };
        let (Run::Shard(row), Bytes::Accumulated(bytes)) = (self.catalog.get(number).run, &mut source.bytes) else {
            return false;
        };
        if !long::can_be_sliced(row, request.spans as usize) || !self.may_begin_long(source.connection) {
            return false;
        }
        let own = spans[request.first_span as usize..][..request.spans as usize].to_vec();
        let last = own.last().expect("a request has a name");
        let rest = bytes.split_off((last.start + last.len) as usize + b"\r\n".len());
        let whole = std::mem::replace(bytes, rest);
        (source.parsed, source.state) = (0, SourceState::Stopped);
        self.begin_long(source.connection, number, whole, own);
        true
    }

    /// Starts loading what a command for the local shard will touch. The database may turn out another one (SELECT
    /// further up the pipeline): a prefetch in vain, nothing worse.
    fn prefetch(
        &self,
        connection: ConnectionId,
        command: Option<CommandNumber>,
        args: Args<'_>,
    ) -> Option<(Db, PrefetchTicket)> {
        let Run::Shard(row) = self.catalog.get(command?).run else { return None };
        let (Keys::Range { first, .. }, Route::Keyed | Route::Split(_)) = (row.keys, row.route) else { return None };
        let key = args.get(first as usize)?;
        if self.shard_of(key) != self.shard {
            return None;
        }
        let db = self.sessions.get(connection.index as usize)?.db;
        Some((db, self.owner.keyspace.prefetch_bucket(db, key)))
    }

    /// After its requests ran: keeps what is left of a source for the next turn, or ends the connection.
    fn put_back(&mut self, source: &mut Source<'_>) {
        if let SourceState::Failed(error) = source.state {
            self.protocol_error(source.connection, error);
            return;
        }
        let stopped = source.state == SourceState::Stopped;
        let connection = source.connection;
        let Some(session) = self.session_mut(connection) else { return };
        if session.closing != Closing::Open {
            return;
        }
        if stopped {
            // Requests behind the one that couldn't run were parsed already; they will be parsed again.
            session.parser = Default::default();
        }
        session.one_at_a_time = stopped;
        match &mut source.bytes {
            Bytes::Received(bytes) => session.input.extend_from_slice(&bytes[source.parsed..]),
            Bytes::Accumulated(bytes) => {
                if source.parsed > bytes.len() / 2 {
                    bytes.drain(..source.parsed);
                    // Only now: shrunk at each piece of a large request, the buffer would be moved at each piece.
                    bytes.shrink_to(INPUT_BYTES_KEPT.max(bytes.len()));
                } else {
                    session.input_done = source.parsed;
                }
                session.input = std::mem::take(bytes);
            }
        }
        if stopped && !session.held {
            self.mark_resumable(connection);
        }
        self.close_if_ended(connection);
    }

    fn protocol_error(&mut self, connection: ConnectionId, error: ProtocolError) {
        self.stats.protocol_errors += 1;
        if let Some(text) = error.reply() {
            self.answer(connection, &[b"-", &*text, b"\r\n"].concat(), shards::units::Offset(0));
        }
        self.close(connection, Closing::AfterReplies);
    }
}

/// An idle connection keeps no more than this of a buffer that a large request had grown.
const INPUT_BYTES_KEPT: usize = 16 << 10;

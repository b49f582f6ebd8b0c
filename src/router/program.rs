//! What a transaction does: which calls go to which shard, and how their replies become those of its commands.
//!
//! Owns the planning, which is the same for a MULTI block, a command over several shards and a pipeline over several shards.
//! Nothing is sent from here. The rule: a program is made whole before its first intent is asked for.

use super::batch::{CallBatch, ConnectionId, Ticket, Work};
use super::gather::Ending;
use shards::call::{Args, Span};
use shards::error::CommandError;
use shards::reply::Protocol;
use shards::row::{Gather, Handler, Keys, Route, Row, Traits};
use shards::slot::{SlotMap, slot_of};
use shards::transaction::Access;
use shards::units::{Db, ShardId};
use std::collections::BTreeSet;

/// A shard's command to be planned.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub number: u16,
    pub row: &'static Row<Handler>,
    pub args: Args<'a>,
    pub db: Db,
    /// For RANDOMKEY: decides among the shards.
    pub draw: u64,
}

/// What becomes the reply of one command.
#[derive(Debug)]
pub enum Planned {
    /// The next reply of this participant.
    One(u16),
    /// The next reply of each of these participants, made one.
    Joined { ending: Ending, order: Vec<u16>, parts: Vec<u16> },
    /// The next reply of the scratch keyspace.
    Scratch,
    /// A server's command, which runs on the front when its turn comes.
    Here { command: u16, args: Vec<Vec<u8>> },
    /// It is known already.
    Known(Vec<u8>),
}

/// One participant's share.
#[derive(Debug)]
pub struct Part {
    pub shard: ShardId,
    pub calls: CallBatch,
    /// Whether any of them may make an edit.
    pub writes: bool,
    /// In a program of steps: what all of them together will touch.
    pub claims: CallBatch,
}

/// One step of a program that needs values of several shards at once.
#[derive(Debug)]
pub enum Step {
    /// Calls of all participants; for each the index of its first one.
    Calls(Vec<usize>),
    Scratch(Scratch),
}

/// Commands that run on a keyspace made of the entries of their keys.
#[derive(Debug, Default)]
pub struct Scratch {
    pub commands: Vec<ScratchCommand>,
    /// The keys, with the participant that has each; once, however many commands name it.
    pub keys: BTreeSet<(u16, Vec<u8>)>,
    pub all_databases: bool,
    /// The database of the keys, where that is all.
    pub db: Db,
}

#[derive(Debug)]
pub struct ScratchCommand {
    pub number: u16,
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
    pub db: Db,
}

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Each participant runs its calls in one go.
    Direct,
    /// Step by step, while all intents are held. `scratch`: all keyed commands run on the scratch keyspace, so that the
    /// whole is one step.
    Steps { scratch: bool },
}

#[derive(Debug)]
pub struct Program {
    pub kind: Kind,
    pub parts: Vec<Part>,
    pub commands: Vec<Planned>,
    pub steps: Vec<Step>,
    slots: SlotMap,
    here: ShardId,
    protocol: Protocol,
    part_of_shard: Vec<u16>,
    positions: Vec<usize>,
    /// How many calls a part is made room for.
    room: usize,
}

/// Calls inside a transaction are answered together.
const NO_TICKET: Ticket =
    Ticket { connection: ConnectionId { index: u32::MAX, generation: 0 }, slot: u64::MAX, part: 0, spread: true };
/// The same, of a part of a command that is checked on all shards before it is run on one.
const CHECKED: Ticket = Ticket { part: 1, ..NO_TICKET };
const NO_PART: u16 = u16::MAX;

/// Whether a call of a transaction is to be checked when its intents are granted.
pub fn is_checked(ticket: &Ticket) -> bool {
    ticket.part == CHECKED.part
}

/// The shard that has all keys at `positions`, if one does.
pub fn home(slots: &SlotMap, args: &Args<'_>, positions: &[usize]) -> Option<ShardId> {
    let shard = |position: usize| slots.shard_of(slot_of(args.at(position)));
    let first = shard(*positions.first()?);
    positions[1..].iter().all(|&position| shard(position) == first).then_some(first)
}

/// Whether a command needs the values of several shards at once.
pub fn needs_scratch(slots: &SlotMap, row: &'static Row<Handler>, args: &Args<'_>) -> bool {
    let mut positions = Vec::new();
    (row.route == Route::Keyed || row.check.is_some())
        && row.find_keys(args, &mut positions)
        && !positions.is_empty()
        && home(slots, args, &positions).is_none()
}

impl Program {
    pub fn new(kind: Kind, slots: SlotMap, here: ShardId, protocol: Protocol) -> Self {
        Program {
            kind,
            parts: Vec::new(),
            commands: Vec::new(),
            steps: Vec::new(),
            slots,
            here,
            protocol,
            part_of_shard: vec![NO_PART; slots.shards() as usize],
            positions: Vec::new(),
            room: 0,
        }
    }

    /// Makes room for so many commands, of which each part will get about its share.
    pub fn with_room(mut self, commands: usize) -> Self {
        self.room = commands;
        self.commands.reserve(commands);
        self
    }

    /// Plans a shard's command. On an error nothing was planned.
    pub fn add(&mut self, request: Request<'_>) -> Result<(), CommandError> {
        match request.row.route {
            Route::Front => self.one(self.here, &request, request.args.iter()),
            Route::Every(gather) => self.everywhere(&request, Ending::Gather(gather)),
            Route::Any => self.everywhere(&request, Ending::Draw(request.draw)),
            Route::Cursor => self.scan(&request),
            Route::Keyed | Route::Split(_) => return self.keyed(&request),
        }
        Ok(())
    }

    /// Plans a shard's command whose keys are all known to be on `home`. In a program without steps only.
    pub fn add_at(&mut self, home: ShardId, request: Request<'_>) {
        debug_assert_eq!(self.kind, Kind::Direct);
        self.one(home, &request, request.args.iter());
    }

    /// A server's command that runs on the front.
    pub fn add_here(&mut self, command: u16, args: Args<'_>) {
        self.commands.push(Planned::Here { command, args: args.iter().map(<[u8]>::to_vec).collect() });
    }

    /// A server's command of which every core runs a part.
    pub fn add_everywhere(&mut self, command: u16, args: &[Vec<u8>], db: Db) {
        let parts: Vec<u16> = (0..self.slots.shards()).map(|shard| self.part(ShardId(shard))).collect();
        for &part in &parts {
            self.push(part, NO_TICKET, Work::Core(command), db, args.iter().map(Vec::as_slice));
        }
        let ending = Ending::Server { command, args: args.to_vec() };
        self.commands.push(Planned::Joined { ending, order: Vec::new(), parts });
    }

    pub fn add_known(&mut self, reply: Vec<u8>) {
        self.commands.push(Planned::Known(reply));
    }

    /// Everything on every shard, for what is planned later.
    pub fn claim_all(&mut self, access: Access) {
        for shard in (0..self.slots.shards()).map(ShardId) {
            let part = self.part(shard);
            self.claim(part, access, std::iter::empty());
            self.parts[part as usize].writes = access == Access::Write;
        }
    }

    /// A snapshot of all shards, of the moment when all are claimed.
    pub fn of_snapshot(slots: SlotMap, here: ShardId, number: u64, ids: &[u8]) -> Self {
        let mut program = Program::new(Kind::Steps { scratch: false }, slots, here, Protocol::Resp2);
        program.claim_all(Access::Read);
        program.push_freeze(&[&number.to_le_bytes(), ids]);
        program
    }

    /// Tells all shards why there is no snapshot; claims nothing.
    pub fn of_refused_snapshot(slots: SlotMap, here: ShardId, why: &str, ids: &[u8]) -> Self {
        let mut program = Program::new(Kind::Direct, slots, here, Protocol::Resp2);
        program.push_freeze(&[&[], ids, why.as_bytes()]);
        program
    }

    fn push_freeze(&mut self, args: &[&[u8]]) {
        for shard in (0..self.slots.shards()).map(ShardId) {
            let part = self.part(shard);
            self.push(part, NO_TICKET, Work::Freeze, Db(0), args.iter().copied());
        }
    }

    /// Keys that nobody else may change meanwhile.
    pub fn watch(&mut self, key: &[u8]) {
        let part = self.part(self.slots.shard_of(slot_of(key)));
        self.claim(part, Access::Read, std::iter::once(key));
        if self.kind == Kind::Direct {
            self.push(part, NO_TICKET, Work::Claim(Access::Read), Db(0), std::iter::once(key));
        }
    }

    /// What a participant is asked for intents for.
    pub fn asked(&self, part: usize) -> &CallBatch {
        match self.kind {
            Kind::Direct => &self.parts[part].calls,
            Kind::Steps { .. } => &self.parts[part].claims,
        }
    }

    pub fn participants(&self) -> impl Iterator<Item = ShardId> {
        self.parts.iter().map(|part| part.shard)
    }

    /// A participant's calls in a step of calls.
    pub fn range(&self, step: usize, part: usize) -> std::ops::Range<usize> {
        let starts = |step: &Step| match step {
            Step::Calls(starts) => Some(starts.get(part).copied().unwrap_or(0)),
            Step::Scratch(_) => None,
        };
        let start = starts(&self.steps[step]).expect("a step of calls");
        let next = self.steps[step + 1..].iter().find_map(starts);
        start..next.unwrap_or(self.parts[part].calls.len())
    }

    fn keyed(&mut self, request: &Request<'_>) -> Result<(), CommandError> {
        let Request { row, args, .. } = *request;
        let mut positions = std::mem::take(&mut self.positions);
        positions.clear();
        let found = row.find_keys(&args, &mut positions);
        let home = if found { home(&self.slots, &args, &positions) } else { None };
        let planned = match (home, row.route) {
            // The handler will say what is wrong with the arguments.
            _ if !found || positions.is_empty() => {
                self.one(self.here, request, args.iter());
                Ok(())
            }
            _ if self.kind == (Kind::Steps { scratch: true }) => {
                self.scratch(request, &positions);
                Ok(())
            }
            (Some(home), _) => {
                self.one(home, request, args.iter());
                Ok(())
            }
            // Checked parts must all be known before one is run: not in a step among others.
            (None, Route::Split(gather)) if row.check.is_none() || self.kind == Kind::Direct => {
                self.split(request, &positions, gather)
            }
            (None, _) => {
                self.scratch(request, &positions);
                Ok(())
            }
        };
        self.positions = positions;
        planned
    }

    fn one<'a>(&mut self, shard: ShardId, request: &Request<'_>, args: impl Iterator<Item = &'a [u8]>) {
        let part = self.part(shard);
        self.call(part, NO_TICKET, request, args);
        self.commands.push(Planned::One(part));
    }

    /// One part per shard, each with its own keys and what follows a key up to the next; of streams, what comes before the keys, its own
    /// keys, and their ids.
    fn split(&mut self, request: &Request<'_>, positions: &[usize], gather: Gather) -> Result<(), CommandError> {
        let Request { row, args, .. } = *request;
        uneven(row, args, positions)?;
        let step = positions.get(1).map_or(1, |second| second - positions[0]);
        let mut parts: Vec<u16> = Vec::new();
        let mut keys: Vec<Vec<usize>> = Vec::new();
        let mut order = Vec::with_capacity(positions.len());
        for &position in positions {
            let part = self.part(self.slots.shard_of(slot_of(args.at(position))));
            let own = parts.iter().position(|known| *known == part).unwrap_or_else(|| {
                parts.push(part);
                keys.push(Vec::new());
                parts.len() - 1
            });
            keys[own].push(position);
            order.push(own as u16);
        }
        let keys_at = positions[0];
        for (&part, keys) in parts.iter().zip(&keys) {
            if gather == Gather::Streams {
                let ids = keys.iter().map(|key| key + positions.len());
                let own = (0..keys_at).chain(keys.iter().copied()).chain(ids);
                let ticket = if row.check.is_some() { CHECKED } else { NO_TICKET };
                self.call(part, ticket, request, own.map(|at| args.at(at)));
            } else {
                let own = keys.iter().flat_map(|&key| (key..key + step).map(|at| args.at(at)));
                self.call(part, NO_TICKET, request, std::iter::once(args.at(0)).chain(own));
            }
        }
        let ending = match gather {
            Gather::Streams => Ending::Streams { args: args.iter().map(<[u8]>::to_vec).collect(), keys_at },
            Gather::Sum | Gather::Ok | Gather::InKeyOrder | Gather::Concat => Ending::Gather(gather),
        };
        self.commands.push(Planned::Joined { ending, order, parts });
        Ok(())
    }

    fn everywhere(&mut self, request: &Request<'_>, ending: Ending) {
        let parts: Vec<u16> = (0..self.slots.shards()).map(|shard| self.part(ShardId(shard))).collect();
        for &part in &parts {
            self.call(part, NO_TICKET, request, request.args.iter());
        }
        self.commands.push(Planned::Joined { ending, order: Vec::new(), parts });
    }

    fn scan(&mut self, request: &Request<'_>) {
        let args = request.args;
        let (shard, local) = super::gather::split_cursor(args.at(1), self.slots.shards());
        let part = self.part(shard);
        self.call(part, NO_TICKET, request, [args.at(0), &local].into_iter().chain(args.from(2).iter()));
        let ending = Ending::Scan { shard, shards: self.slots.shards() };
        self.commands.push(Planned::Joined { ending, order: Vec::new(), parts: vec![part] });
    }

    fn scratch(&mut self, request: &Request<'_>, positions: &[usize]) {
        let Request { number, row, args, db, .. } = *request;
        let keys: Vec<(u16, Vec<u8>)> = positions
            .iter()
            .map(|&position| args.at(position))
            .map(|key| (self.part(self.slots.shard_of(slot_of(key))), key.to_vec()))
            .collect();
        for (part, key) in &keys {
            self.parts[*part as usize].writes |= row.traits.has(Traits::WRITE);
            self.claim(*part, access(row), std::iter::once(key.as_slice()));
        }
        if !matches!(self.steps.last(), Some(Step::Scratch(_))) {
            self.steps.push(Step::Scratch(Scratch { db, ..Scratch::default() }));
        }
        let Some(Step::Scratch(scratch)) = self.steps.last_mut() else { unreachable!("just pushed") };
        scratch.all_databases |= row.traits.has(Traits::OTHER_DATABASES) || scratch.db != db;
        scratch.keys.extend(keys);
        let (bytes, spans) = copy_args(args.iter());
        scratch.commands.push(ScratchCommand { number, bytes, spans, db });
        self.commands.push(Planned::Scratch);
    }

    /// A call of a shard's command in the step being made.
    fn call<'a>(&mut self, part: u16, ticket: Ticket, request: &Request<'_>, args: impl Iterator<Item = &'a [u8]>) {
        let Request { number, row, db, .. } = *request;
        self.parts[part as usize].writes |= row.traits.has(Traits::WRITE);
        self.push(part, ticket, Work::Command(number), db, args);
        if self.kind != Kind::Direct {
            self.claim_call(part, row);
        }
    }

    /// The claim of the last call, in a program of steps.
    fn claim_call(&mut self, part: u16, row: &'static Row<Handler>) {
        let Part { calls, claims, .. } = &mut self.parts[part as usize];
        let call = calls.calls().last().expect("a call was pushed");
        let args = calls.args(call);
        let mut positions = Vec::new();
        if touches_all(row) {
            claims.push(NO_TICKET, Work::Claim(access(row)), Db(0), Protocol::Resp2, std::iter::empty());
        } else if row.find_keys(&args, &mut positions) && !positions.is_empty() {
            let keys = positions.iter().map(|&position| args.at(position));
            claims.push(NO_TICKET, Work::Claim(access(row)), Db(0), Protocol::Resp2, keys);
        }
    }

    fn claim<'a>(&mut self, part: u16, access: Access, keys: impl Iterator<Item = &'a [u8]>) {
        let claims = &mut self.parts[part as usize].claims;
        claims.push(NO_TICKET, Work::Claim(access), Db(0), Protocol::Resp2, keys);
    }

    fn push<'a>(&mut self, part: u16, ticket: Ticket, work: Work, db: Db, args: impl Iterator<Item = &'a [u8]>) {
        if self.kind != Kind::Direct && !matches!(self.steps.last(), Some(Step::Calls(_))) {
            self.steps.push(Step::Calls(self.parts.iter().map(|part| part.calls.len()).collect()));
        }
        self.parts[part as usize].calls.push(ticket, work, db, self.protocol, args);
    }

    fn part(&mut self, shard: ShardId) -> u16 {
        let part = &mut self.part_of_shard[shard.0 as usize];
        if *part == NO_PART {
            *part = self.parts.len() as u16;
            let (calls, claims) = (CallBatch::with_room(self.room), CallBatch::default());
            self.parts.push(Part { shard, calls, claims, writes: false });
        }
        *part
    }
}

pub fn access(row: &'static Row<Handler>) -> Access {
    if row.traits.has(Traits::WRITE) { Access::Write } else { Access::Read }
}

/// Whether a command's intents have to be on the whole shard.
pub fn touches_all(row: &'static Row<Handler>) -> bool {
    match row.route {
        Route::Every(_) | Route::Any | Route::Cursor => true,
        Route::Keyed | Route::Split(_) | Route::Front => false,
    }
}

/// A split needs the same number of arguments behind each key (MSET's odd one is an error before anything is done).
fn uneven(row: &'static Row<Handler>, args: Args<'_>, positions: &[usize]) -> Result<(), CommandError> {
    let Keys::Range { step, .. } = row.keys else { return Ok(()) };
    let step = step as usize;
    let last = positions.last().map_or(0, |last| last + step);
    let whole = step == 1 || (last == args.len() && positions.windows(2).all(|pair| pair[1] - pair[0] == step));
    if whole { Ok(()) } else { Err(CommandError::wrong_arity(row.name)) }
}

pub fn copy_args<'a>(args: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for arg in args {
        spans.push(Span { start: bytes.len() as u32, len: arg.len() as u32 });
        bytes.extend_from_slice(arg);
    }
    (bytes, spans)
}

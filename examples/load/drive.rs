//! One thread of the load: its connections, when they are given units, and how long the answers take.
//!
//! A unit is timed from when it is written, or with a pace from when it should have been. Nothing waits for one connection.

use crate::reply::{Checker, Garbage};
use crate::unit::Mix;
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::time::Instant;

pub struct Plan<'a> {
    pub address: (&'a str, u16),
    pub mix: &'a Mix,
    pub clients: usize,
    /// Units in flight per connection.
    pub pipeline: usize,
    pub units: u64,
    pub seconds: Option<f64>,
    /// With a pace: from one unit's start to the next one's, and when the first starts.
    pub interval_ns: Option<f64>,
    pub first_ns: f64,
    pub seed: u64,
}

pub struct Outcome {
    /// Nanoseconds, per script of the mix.
    pub latency: Vec<Histogram<u64>>,
    pub errors: u64,
    pub first_error: Option<String>,
    /// Units that the pace demanded, and for which no connection was free until the end: the server is saturated.
    pub unsent: u64,
    span: Option<(Instant, Instant)>,
}

/// Without any answer for so long, the load gives up.
const STALL_NS: u64 = 30_000_000_000;
const RECEIVE_BYTES: usize = 256 << 10;
const EVENTS: usize = 256;

/// Three digits of a latency, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are valid")
}

impl Outcome {
    pub fn new(scripts: usize) -> Self {
        let latency = (0..scripts).map(|_| histogram()).collect();
        Outcome { latency, errors: 0, first_error: None, unsent: 0, span: None }
    }

    pub fn add(&mut self, other: Outcome) {
        self.latency.iter_mut().zip(&other.latency).for_each(|(all, one)| *all += one);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.unsent += other.unsent;
        self.span = match (self.span, other.span) {
            (Some((start, end)), Some((start_too, end_too))) => Some((start.min(start_too), end.max(end_too))),
            (one, other) => one.or(other),
        };
    }

    pub fn units(&self) -> u64 {
        self.latency.iter().map(Histogram::len).sum()
    }

    /// From the first start to the last answer.
    pub fn seconds(&self) -> f64 {
        self.span.map_or(0.0, |(start, end)| (end - start).as_secs_f64())
    }
}

/// Runs the plan. All threads connect first, then begin together.
pub fn drive(plan: Plan<'_>, ready: &Barrier) -> Result<Outcome, String> {
    let driver = Driver::connect(plan);
    ready.wait();
    driver?.run()
}

struct Driver<'a> {
    plan: Plan<'a>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    random: fastrand::Rng,
    received: Box<[u8]>,
    outcome: Outcome,
    start: Instant,
    /// Nanoseconds since `start`, as of the last look.
    now_ns: u64,
    units_started: u64,
    units_in_flight: u64,
    /// Where the search for a free connection goes on.
    turn: usize,
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    /// The kernel takes no more for now: it is being watched for that.
    blocked: bool,
    /// The start of a reply whose end is not here yet.
    partial: Vec<u8>,
    checker: Checker,
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    script: usize,
    start_ns: u64,
}

impl<'a> Driver<'a> {
    fn connect(plan: Plan<'a>) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        // Or the kernel lets a pace slip by 50 us.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(|error| format!("timer slack: {error}"))?;
        let (host, port) = plan.address;
        let connect = |at| {
            let stream = TcpStream::connect(plan.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
            Ok(Connection::new(stream))
        };
        let connections = (0..plan.clients).map(connect).collect::<std::io::Result<Vec<_>>>();
        Ok(Driver {
            connections: connections.map_err(|error| format!("connecting to {host}:{port}: {error}"))?,
            epoll,
            random: fastrand::Rng::with_seed(plan.seed),
            received: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            outcome: Outcome::new(plan.mix.scripts.len()),
            start: Instant::now(),
            now_ns: 0,
            units_started: 0,
            units_in_flight: 0,
            turn: 0,
            plan,
        })
    }

    fn run(mut self) -> Result<Outcome, String> {
        self.start = Instant::now();
        if self.plan.interval_ns.is_none() {
            for at in 0..self.connections.len() {
                self.refill(at)?;
            }
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut answered_ns = 0;
        loop {
            self.look_at_clock();
            let due_ns = self.start_due()?;
            if self.units_in_flight == 0 && due_ns.is_none() {
                break;
            }
            events.clear();
            let wait_ns = due_ns.map_or(STALL_NS, |due_ns| due_ns.saturating_sub(self.now_ns));
            let wait = Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("epoll: {error}")),
            }
            for event in &events {
                let (at, flags) = (event.data.u64() as usize, event.flags);
                if flags.contains(epoll::EventFlags::OUT) {
                    self.flush(at)?;
                }
                if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                    self.receive(at)?;
                }
            }
            if !events.is_empty() || self.units_in_flight == 0 {
                answered_ns = self.now_ns;
            } else if self.now_ns - answered_ns > STALL_NS {
                return Err(format!("no answer for {} s", STALL_NS / 1_000_000_000));
            }
        }
        Ok(self.finish())
    }

    fn finish(mut self) -> Outcome {
        for connection in self.connections {
            self.outcome.errors += connection.checker.errors;
            self.outcome.first_error = self.outcome.first_error.take().or(connection.checker.first_error);
        }
        self.outcome.span = Some((self.start, Instant::now()));
        self.outcome
    }

    fn look_at_clock(&mut self) {
        self.now_ns = self.start.elapsed().as_nanos() as u64;
    }

    /// With a pace: starts what is due and has a free connection. When the next unit may be started, if that is not up to
    /// an answer. `None`: no more units are started before an answer comes, or none at all.
    fn start_due(&mut self) -> Result<Option<u64>, String> {
        let Some(interval_ns) = self.plan.interval_ns else { return Ok(None) };
        let last_ns = self.plan.seconds.map_or(u64::MAX, |seconds| (seconds * 1e9) as u64);
        loop {
            let due_ns = (self.plan.first_ns + self.units_started as f64 * interval_ns) as u64;
            if self.units_started >= self.plan.units || due_ns >= last_ns {
                return Ok(None);
            }
            if due_ns > self.now_ns {
                return Ok(Some(due_ns));
            }
            let Some(at) = self.free_connection() else {
                if self.now_ns >= last_ns {
                    self.outcome.unsent += ((last_ns - due_ns) as f64 / interval_ns).ceil() as u64;
                    self.plan.units = self.units_started;
                }
                return Ok(None);
            };
            self.start_unit(at, due_ns);
            self.flush(at)?;
        }
    }

    /// The next one, all being asked in turn, that may have one more unit in flight.
    fn free_connection(&mut self) -> Option<usize> {
        let count = self.connections.len();
        if self.units_in_flight >= (count * self.plan.pipeline) as u64 {
            return None;
        }
        let candidates = (0..count).map(|step| (self.turn + step) % count);
        let at = { candidates }.find(|&at| self.connections[at].in_flight.len() < self.plan.pipeline)?;
        self.turn = (at + 1) % count;
        Some(at)
    }

    /// Without a pace: gives a connection that has no unit in flight as many as may be.
    fn refill(&mut self, at: usize) -> Result<(), String> {
        self.look_at_clock();
        if self.plan.seconds.is_some_and(|seconds| self.now_ns as f64 >= seconds * 1e9) {
            return Ok(());
        }
        let units = (self.plan.units - self.units_started).min(self.plan.pipeline as u64);
        (0..units).for_each(|_| self.start_unit(at, self.now_ns));
        self.flush(at)
    }

    fn start_unit(&mut self, at: usize, start_ns: u64) {
        let connection = &mut self.connections[at];
        let script = self.plan.mix.write(&mut self.random, &mut connection.out);
        connection.in_flight.push_back(InFlight { script, start_ns });
        self.units_started += 1;
        self.units_in_flight += 1;
    }

    fn flush(&mut self, at: usize) -> Result<(), String> {
        let connection = &mut self.connections[at];
        while connection.sent < connection.out.len() {
            match connection.stream.write(&connection.out[connection.sent..]) {
                Ok(written) => connection.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sending: {error}")),
            }
        }
        let blocked = connection.sent < connection.out.len();
        if !blocked {
            connection.out.clear();
            connection.sent = 0;
        }
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let out = if blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(at as u64);
            epoll::modify(&self.epoll, &connection.stream, data, epoll::EventFlags::IN | out)
                .map_err(|error| format!("epoll: {error}"))?;
        }
        Ok(())
    }

    fn receive(&mut self, at: usize) -> Result<(), String> {
        let connection = &mut self.connections[at];
        let kept = connection.partial.len();
        self.received[..kept].copy_from_slice(&connection.partial);
        let read = match connection.stream.read(&mut self.received[kept..]) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(format!("receiving: {error}")),
        };
        let now_ns = self.start.elapsed().as_nanos() as u64;
        let mut bytes = &self.received[..kept + read];
        while let Some(unit) = connection.in_flight.front() {
            let expected = &self.plan.mix.scripts[unit.script].expected;
            let (used, done) = connection.checker.take(bytes, expected).map_err(|Garbage(what)| what)?;
            bytes = &bytes[used..];
            if !done {
                break;
            }
            self.outcome.latency[unit.script].saturating_record(now_ns.saturating_sub(unit.start_ns));
            connection.in_flight.pop_front();
            self.units_in_flight -= 1;
        }
        if connection.in_flight.is_empty() && !bytes.is_empty() {
            return Err("a reply came that nothing was asked for".into());
        }
        connection.partial.clear();
        connection.partial.extend_from_slice(bytes);
        if connection.in_flight.is_empty() && self.plan.interval_ns.is_none() {
            self.refill(at)?;
        }
        Ok(())
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Connection {
            stream,
            out: Vec::new(),
            sent: 0,
            blocked: false,
            partial: Vec::new(),
            checker: Checker::default(),
            in_flight: VecDeque::new(),
        }
    }
}

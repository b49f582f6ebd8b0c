//! Lanes between cores: a bounded single-producer single-consumer ring for each ordered pair, and one wake per
//! batch for a peer that sleeps.
//!
//! Waking: the sender marks its bit in the receiver's inbox, then looks whether the receiver is parked. The
//! receiver sets `parked`, then looks at its inbox. Both orders are sequentially consistent, so one of the two sees the other.

use crate::router::batch::{CallBatch, ReplyBatch};
use crate::session::Peer;
use rtrb::{Consumer, Producer, RingBuffer};
use shards::units::ShardId;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What crosses a lane.
pub enum Message {
    Calls(Box<CallBatch>),
    Replies(Box<ReplyBatch>),
    /// A connection that was accepted elsewhere and is this core's from now on.
    Connection(OwnedFd, Peer),
}

/// Batches under way from one core to another. More wait on the sender's side; credits bound those.
const LANE_BATCHES: usize = 32;
/// Sender's bits in an inbox word.
const INBOX_BITS: usize = 64;

/// What other threads may see of a core.
pub struct Doorbell {
    /// One bit per sender: it has put something into its lane.
    inbox: Vec<AtomicU64>,
    parked: AtomicBool,
    /// Written to wake the core; a read of it is always armed in the core's ring.
    eventfd: OwnedFd,
    /// Connections placed on the core.
    pub connections: AtomicUsize,
    /// How far the core's log is on disk, in steady milliseconds: every edit of a turn that began before. Never goes back.
    pub durable_ms: AtomicU64,
}

impl Doorbell {
    pub fn new(cores: usize) -> std::io::Result<Self> {
        Ok(Doorbell {
            inbox: (0..cores.div_ceil(INBOX_BITS)).map(|_| AtomicU64::new(0)).collect(),
            parked: AtomicBool::new(false),
            eventfd: super::eventfd()?,
            connections: AtomicUsize::new(0),
            durable_ms: AtomicU64::new(0),
        })
    }
    pub fn fd(&self) -> i32 {
        self.eventfd.as_raw_fd()
    }
    /// Wakes the core whatever it does.
    pub fn ring(&self) {
        super::signal_eventfd(self.fd());
    }
    /// After putting something into the lane of `sender`: wakes the core if it sleeps. Whether it had to.
    fn announce(&self, sender: ShardId) -> bool {
        let sender = sender.0 as usize;
        self.inbox[sender / INBOX_BITS].fetch_or(1 << (sender % INBOX_BITS), Ordering::SeqCst);
        let sleeping = self.parked.load(Ordering::SeqCst) && self.parked.swap(false, Ordering::SeqCst);
        if sleeping {
            self.ring();
        }
        sleeping
    }
    /// Before sleeping. `false`: there is something in the inbox, don't.
    pub fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        if self.inbox.iter().any(|word| word.load(Ordering::SeqCst) != 0) {
            self.parked.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }
    pub fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }
    pub fn has_mail(&self) -> bool {
        self.inbox.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }
}

/// One core's ends of all its lanes.
pub struct Lanes {
    own: ShardId,
    doorbells: Arc<Vec<Doorbell>>,
    out: Vec<Option<Outgoing>>,
    into: Vec<Option<Consumer<Message>>>,
}

struct Outgoing {
    producer: Producer<Message>,
    /// What found the lane full.
    overflow: VecDeque<Message>,
    unannounced: bool,
    /// DEBUG LANE-DELAY: nothing goes before this time (ticks).
    not_before: u64,
    delayed: bool,
}

/// The lanes of `cores` cores, each core's ends together.
pub fn lanes(cores: usize, doorbells: &Arc<Vec<Doorbell>>) -> Vec<Lanes> {
    let mut all: Vec<Lanes> = (0..cores)
        .map(|own| Lanes {
            own: ShardId(own as u16),
            doorbells: doorbells.clone(),
            out: (0..cores).map(|_| None).collect(),
            into: (0..cores).map(|_| None).collect(),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(LANE_BATCHES);
            all[from].out[to] = Some(Outgoing {
                producer,
                overflow: VecDeque::new(),
                unannounced: false,
                not_before: 0,
                delayed: false,
            });
            all[to].into[from] = Some(consumer);
        }
    }
    all
}

impl Lanes {
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbells[self.own.0 as usize]
    }
    pub fn doorbells(&self) -> &[Doorbell] {
        &self.doorbells
    }

    /// Puts a message into the lane to `to`; `announce` tells the receiver.
    pub fn send(&mut self, to: ShardId, message: Message) {
        let out = self.out[to.0 as usize].as_mut().expect("a core has no lane to itself");
        out.overflow.push_back(message);
        out.unannounced = true;
    }

    /// For tests: lanes whose last delay is over get another, by `draw`; the others move nothing at the next flush.
    pub fn delay(&mut self, ticks: u64, mut draw: impl FnMut() -> u64) {
        for out in self.out.iter_mut().flatten() {
            out.delayed = ticks < out.not_before;
            if !out.delayed && out.unannounced {
                out.not_before = ticks + draw();
            }
        }
    }

    /// Moves what was sent into the lanes as far as there is room, and wakes receivers that sleep, once each. How
    /// many had to be woken.
    pub fn flush(&mut self) -> u64 {
        let mut wakes = 0;
        for (to, out) in self.out.iter_mut().enumerate() {
            let Some(out) = out.as_mut().filter(|out| out.unannounced && !out.delayed) else { continue };
            let mut moved = false;
            while let Some(message) = out.overflow.pop_front() {
                match out.producer.push(message) {
                    Ok(()) => moved = true,
                    Err(rtrb::PushError::Full(message)) => {
                        out.overflow.push_front(message);
                        break;
                    }
                }
            }
            out.unannounced = !out.overflow.is_empty();
            if moved && self.doorbells[to].announce(self.own) {
                wakes += 1;
            }
        }
        wakes
    }

    /// Whether something waits for room in a lane: then the core must not sleep.
    pub fn is_congested(&self) -> bool {
        self.out.iter().flatten().any(|out| !out.overflow.is_empty())
    }

    /// Hands every message that was announced to `each`, sender by sender in the order sent.
    pub fn receive(&mut self, mut each: impl FnMut(ShardId, Message)) {
        let words = self.doorbells[self.own.0 as usize].inbox.len();
        for word in 0..words {
            let inbox = &self.doorbells[self.own.0 as usize].inbox[word];
            if inbox.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = inbox.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let from = word * INBOX_BITS + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.drain(from, &mut each);
            }
        }
    }

    /// Looks into every lane whether announced or not; how many messages nobody had announced. The backstop of the tick.
    pub fn receive_all(&mut self, mut each: impl FnMut(ShardId, Message)) -> u64 {
        self.receive(&mut each);
        let found: Vec<usize> = (0..self.into.len())
            .filter(|from| self.into[*from].as_ref().is_some_and(|lane| !lane.is_empty()))
            .filter(|from| !self.is_announced(*from))
            .collect();
        let mut count = 0;
        for from in found {
            self.drain(from, &mut |from, message| {
                count += 1;
                each(from, message)
            });
        }
        count
    }

    fn is_announced(&self, from: usize) -> bool {
        // A sender between its push and its announcement is not late: give it the time of a context switch.
        let word = &self.doorbells[self.own.0 as usize].inbox[from / INBOX_BITS];
        (0..1_000).any(|_| {
            std::thread::yield_now();
            word.load(Ordering::SeqCst) & (1 << (from % INBOX_BITS)) != 0
        })
    }

    fn drain(&mut self, from: usize, each: &mut impl FnMut(ShardId, Message)) {
        let lane = self.into[from].as_mut().expect("nobody announces a lane to itself");
        while let Ok(message) = lane.pop() {
            each(ShardId(from as u16), message);
        }
    }
}

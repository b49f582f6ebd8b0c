//! Lanes between cores, as the server has them: what was sent in a turn goes as one batch per peer, and a peer that
//! sleeps is woken once for it.

use crate::model::Message;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

const LANE_BATCHES: usize = 32;
/// The longest sleep: after it a core looks at the clock, though nobody woke it.
const SLEEP_MAX: Duration = Duration::from_millis(5);

#[derive(Default)]
pub struct Doorbell {
    parked: AtomicBool,
    thread: OnceLock<Thread>,
}

pub struct Lanes {
    own: usize,
    doorbells: Arc<Vec<Doorbell>>,
    out: Vec<Option<Outgoing>>,
    into: Vec<Option<Consumer<Vec<Message>>>>,
    pub sent: u64,
}

struct Outgoing {
    producer: Producer<Vec<Message>>,
    batch: Vec<Message>,
    overflow: VecDeque<Vec<Message>>,
}

/// The lanes of `cores` cores, each core's ends together.
pub fn lanes(cores: usize) -> Vec<Lanes> {
    let doorbells: Arc<Vec<Doorbell>> = Arc::new((0..cores).map(|_| Doorbell::default()).collect());
    let empty = |own| Lanes {
        own,
        doorbells: doorbells.clone(),
        out: (0..cores).map(|_| None).collect(),
        into: (0..cores).map(|_| None).collect(),
        sent: 0,
    };
    let mut all: Vec<Lanes> = (0..cores).map(empty).collect();
    for from in 0..cores {
        for to in (0..cores).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(LANE_BATCHES);
            all[from].out[to] = Some(Outgoing { producer, batch: Vec::new(), overflow: VecDeque::new() });
            all[to].into[from] = Some(consumer);
        }
    }
    all
}

impl Lanes {
    /// Called by the core's own thread before anything else.
    pub fn move_in(&self) {
        self.doorbells[self.own].thread.set(std::thread::current()).expect("a core has one thread");
    }

    pub fn send(&mut self, to: usize, message: Message) {
        self.sent += 1;
        self.out[to].as_mut().expect("a core has no lane to itself").batch.push(message);
    }

    pub fn flush(&mut self) {
        for (to, out) in self.out.iter_mut().enumerate() {
            let Some(out) = out else { continue };
            if !out.batch.is_empty() {
                out.overflow.push_back(std::mem::take(&mut out.batch));
            }
            let mut moved = false;
            while let Some(batch) = out.overflow.pop_front() {
                match out.producer.push(batch) {
                    Ok(()) => moved = true,
                    Err(rtrb::PushError::Full(batch)) => {
                        out.overflow.push_front(batch);
                        break;
                    }
                }
            }
            if moved {
                self.doorbells[to].ring();
            }
        }
    }

    /// The next batch from any lane, starting with the lane of `from`, which is moved on.
    pub fn receive(&mut self, from: &mut usize) -> Option<Vec<Message>> {
        while *from < self.into.len() {
            if let Some(Ok(batch)) = self.into[*from].as_mut().map(|lane| lane.pop()) {
                return Some(batch);
            }
            *from += 1;
        }
        None
    }

    /// Sleeps until there is something in a lane, or the longest sleep is over.
    pub fn sleep(&self) {
        let own = &self.doorbells[self.own];
        own.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let congested = self.out.iter().flatten().any(|out| !out.overflow.is_empty());
        if !congested && self.into.iter().flatten().all(|lane| lane.is_empty()) {
            std::thread::park_timeout(SLEEP_MAX);
        }
        own.parked.store(false, Ordering::SeqCst);
    }
}

impl Doorbell {
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) && self.parked.swap(false, Ordering::SeqCst) {
            self.thread.get().expect("a parked core has moved in").unpark();
        }
    }
}

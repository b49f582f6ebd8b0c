//! Clients that write and read all the time, and remember what they were told and when.
//!
//! Each writer has keys of its own, all on one shard, and counts them up, one request at a time. So of each key it is known
//! which value was acknowledged last, and which was sent last: what is stored must lie between the two.

use crate::support::client::encode;
use crate::support::{Client, Resp};
use shards::slot::{SlotMap, slot_of};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const KEYS_PER_WRITER: usize = 8;
/// Reads look at these; they are written once, in the beginning.
const CONSTANTS: usize = 16;

/// One request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub sent: Instant,
    pub took: Duration,
}

impl Event {
    pub fn answered(&self) -> Instant {
        self.sent + self.took
    }
}

/// What one writer saw.
#[derive(Debug)]
pub struct Written {
    pub shard: u16,
    /// With the index of the key and the number it was set to.
    pub acknowledged: Vec<(Event, usize, u64)>,
    pub refused: Vec<Event>,
    /// Connections that ended before the answer.
    pub cut: Vec<Event>,
    pub texts: BTreeSet<String>,
    keys: Vec<String>,
    sent: Vec<u64>,
}

/// What one reader saw.
#[derive(Debug)]
pub struct Reads {
    pub shard: u16,
    pub answered: Vec<Event>,
    pub wrong: Vec<String>,
}

pub struct Load {
    over: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Written>>,
    readers: Vec<JoinHandle<Reads>>,
}

/// `count` keys on one shard.
pub fn keys_on(shard: u16, shards: u16, prefix: &str, count: usize) -> Vec<String> {
    let map = SlotMap::new(shards);
    let names = (0..).map(|number| format!("{prefix}:{number}"));
    names.filter(|name| map.shard_of(slot_of(name.as_bytes())).0 == shard).take(count).collect()
}

fn constants(shard: u16, shards: u16) -> Vec<String> {
    keys_on(shard, shards, "constant", CONSTANTS)
}

impl Load {
    /// A reader and as many writers per shard. `round` makes their keys' names.
    pub fn start(port: u16, shards: u16, writers: usize, value_bytes: usize, round: u64) -> Load {
        let mut client = Client::connect(port);
        for key in (0..shards).flat_map(|shard| constants(shard, shards)) {
            assert_eq!(client.call(&["SET", &key, &key]), Resp::ok());
        }
        let over = Arc::new(AtomicBool::new(false));
        let write = |shard, id| {
            let (keys, over) = (keys_on(shard, shards, &format!("r{round}:w{id}"), KEYS_PER_WRITER), over.clone());
            std::thread::spawn(move || write(port, shard, keys, value_bytes, &over))
        };
        let read = |shard| {
            let (keys, over) = (constants(shard, shards), over.clone());
            std::thread::spawn(move || read(port, shard, &keys, &over))
        };
        let readers = (0..shards).map(read).collect();
        let writers = (0..shards).flat_map(|shard| (0..writers).map(move |id| (shard, id)));
        let writers = writers.map(|(shard, id)| write(shard, id)).collect();
        Load { over: over.clone(), writers, readers }
    }

    /// What goes wrong from here on is no surprise: the server is about to be killed.
    pub fn ends_soon(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn stop(mut self) -> (Vec<Written>, Vec<Reads>) {
        self.over.store(true, Ordering::Relaxed);
        let writers = std::mem::take(&mut self.writers).into_iter();
        let readers = std::mem::take(&mut self.readers).into_iter();
        let written = writers.map(|writer| writer.join().expect("a writer only looks on")).collect();
        (written, readers.map(|reader| reader.join().expect("a reader only looks on")).collect())
    }
}

/// Drops out of the way of a panic: the threads end by themselves.
impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn write(port: u16, shard: u16, keys: Vec<String>, value_bytes: usize, over: &AtomicBool) -> Written {
    let (acknowledged, refused, cut, texts) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    let sent = vec![0; keys.len()];
    let mut seen = Written { shard, acknowledged, refused, cut, texts, keys, sent };
    let padding = "v".repeat(value_bytes);
    let mut client = Client::try_connect(port).ok();
    for value in 1.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let at = value as usize % seen.keys.len();
        let Some(connected) = &mut client else {
            std::thread::sleep(Duration::from_millis(2));
            client = Client::try_connect(port).ok();
            continue;
        };
        seen.sent[at] = value;
        let sent = Instant::now();
        let answer = connected.try_call(&["SET", &seen.keys[at], &format!("{value}:{padding}")]);
        let event = Event { sent, took: sent.elapsed() };
        match answer {
            Ok(reply) if reply == Resp::ok() => seen.acknowledged.push((event, at, value)),
            Ok(reply) => {
                seen.texts.insert(reply.text());
                seen.refused.push(event);
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(_) => {
                seen.cut.push(event);
                client = None;
            }
        }
    }
    seen
}

fn read(port: u16, shard: u16, keys: &[String], over: &AtomicBool) -> Reads {
    let mut seen = Reads { shard, answered: Vec::new(), wrong: Vec::new() };
    let mut client = Client::try_connect(port).ok();
    for key in keys.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        match client.as_mut().map(|client| client.try_call(&["GET", key])) {
            Some(Ok(reply)) if reply == Resp::bulk(key) => seen.answered.push(Event { sent, took: sent.elapsed() }),
            Some(Ok(reply)) => seen.wrong.push(format!("GET {key}: {reply}")),
            Some(Err(_)) if over.load(Ordering::Relaxed) => break,
            Some(Err(error)) => seen.wrong.push(format!("GET {key}: {error}")),
            None => {}
        }
        if client.is_none() || seen.wrong.len() > 100 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

/// What `everysec` may lose, and some more for the way of an answer.
pub const LOST_MAX: Duration = Duration::from_millis(1100);

impl Written {
    /// What is stored is not older than what was acknowledged, and not newer than what was sent. Of what was acknowledged later
    /// than `until`, nothing is promised. How many acknowledged writes there were.
    pub fn assert_kept(&self, client: &mut Client, until: Option<Instant>, what: &str) -> usize {
        let mut last: HashMap<usize, u64> = HashMap::new();
        // While a sync takes long, nothing is acknowledged: then it is the second before that may be gone.
        let stopped = self.acknowledged.iter().map(|(event, ..)| event.answered()).max();
        let until = until.map(|until| stopped.map_or(until, |stopped| until.min(stopped - LOST_MAX)));
        let promised =
            self.acknowledged.iter().filter(|(event, ..)| until.is_none_or(|until| event.answered() < until));
        last.extend(promised.map(|&(_, key, value)| (key, value)));
        for (at, key) in self.keys.iter().enumerate() {
            let stored = client.call(&["GET", key]).text();
            let stored = stored.split(':').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
            let (least, most) = (last.get(&at).copied().unwrap_or(0), self.sent[at]);
            assert!(stored >= least, "{what}: {key} is {stored}, but {least} was acknowledged");
            assert!(stored <= most, "{what}: {key} is {stored}, but only {most} was sent");
        }
        self.acknowledged.len()
    }
}

/// The highest of some, and the 99th percentile.
pub fn slowest<'a>(events: impl IntoIterator<Item = &'a Event>) -> (Duration, Duration) {
    let mut times = events.into_iter().map(|event| event.took).collect::<Vec<_>>();
    times.sort();
    let last = times.last().copied().unwrap_or_default();
    (last, times.get(times.len() * 99 / 100).copied().unwrap_or_default())
}

/// Large values to keys of their own, sent faster than a slow disk takes them, all before the first answer is read.
pub struct Flood {
    keys: Vec<String>,
    sender: JoinHandle<Vec<Resp>>,
}

impl Flood {
    pub const VALUES: usize = 160;
    const VALUE_BYTES: usize = 1 << 20;
    /// Not all at once: what came in the last moment is no sign of a slow disk, and doesn't count.
    pub const PAUSE: Duration = Duration::from_millis(15);

    pub fn start(port: u16, shard: u16, shards: u16) -> Flood {
        let keys = keys_on(shard, shards, "flood", Self::VALUES);
        let mut client = Client::connect(port);
        client.set_timeout(Duration::from_secs(120));
        let requests = keys.iter().map(|key| {
            let mut request = Vec::new();
            encode(&["SET", key, &format!("{key}{}", "f".repeat(Self::VALUE_BYTES))], &mut request);
            request
        });
        let requests = requests.collect::<Vec<_>>();
        let sender = std::thread::spawn(move || {
            for request in &requests {
                client.send_raw(request).expect("the server takes requests, whatever it answers");
                std::thread::sleep(Self::PAUSE);
            }
            requests.iter().map(|_| client.read().expect("every request is answered")).collect()
        });
        Flood { keys, sender }
    }

    /// Waits for all answers. The keys whose values were taken.
    pub fn taken(self) -> Vec<String> {
        let answers = self.sender.join().expect("the flood is answered");
        let is_refusal = |reply: &Resp| reply.text().contains("bytes behind; its disk is too slow");
        assert!(answers.iter().all(|reply| *reply == Resp::ok() || is_refusal(reply)));
        let taken = self.keys.into_iter().zip(answers).filter(|(_, reply)| *reply == Resp::ok());
        taken.map(|(key, _)| key).collect()
    }

    pub fn assert_kept(client: &mut Client, taken: &[String]) {
        for key in taken {
            let length = client.call(&["STRLEN", key]).integer();
            assert_eq!(length as usize, key.len() + Self::VALUE_BYTES, "{key} was acknowledged");
        }
    }
}

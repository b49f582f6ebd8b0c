//! `shardis import`: an RDB file's keys into a running server, by RESTORE.
//!
//! Values go over as they stand in the file, but each is read here first, so that damage is told with its place. One batch of
//! commands is on its way while the next is made.

use super::progress::Progress;
use super::{Obstacle, Outcome};
use shards::rdb::{FileReader, Part, RdbError, payload_of};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    pub file: PathBuf,
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Keys that are there are replaced; otherwise they stay as they are.
    pub replace: bool,
}

const BATCH_BYTES: usize = 1 << 20;
const BATCH_COMMANDS: usize = 512;
/// A payload is one argument of RESTORE; the server's default limit, less what stands around it.
const VALUE_BYTES_MAX: usize = (512 << 20) - 64;
/// So much is read between two looks at the progress.
const PROGRESS_BYTES: u64 = 1 << 20;

pub fn import(request: &Import, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let path = &request.file;
    let reading = |error| Obstacle::at("reading", path, error);
    let file = File::open(path).map_err(reading)?;
    let len = file.metadata().map_err(reading)?.len();
    let mut reader = FileReader::open(file, len).map_err(|error| damage(path, 0, &error))?;
    let mut target = Target::connect(request)?;
    let mut progress = Progress::new(len);
    let (mut counts, mut value_bytes, mut told) = (Counts::default(), Vec::new(), 0);
    let mut database = 0;
    loop {
        let at = reader.position();
        if at - told >= PROGRESS_BYTES {
            told = at;
            progress.reached(at, counts.sent);
        }
        match reader.next_part().map_err(|error| damage(path, at, &error))? {
            Part::End => break,
            Part::Remark => {}
            Part::Functions => counts.functions += 1,
            Part::ModuleData => counts.modules += 1,
            Part::Key { database: of, deadline_ms, value } => {
                let place = Place { key: reader.key().to_vec(), at };
                match reader.value(value, &mut value_bytes, &mut |_| Ok(())) {
                    Ok(()) => {}
                    Err(RdbError::Empty) => {
                        counts.empty += 1;
                        continue;
                    }
                    Err(RdbError::Module) => {
                        counts.modules += 1;
                        continue;
                    }
                    Err(error) => {
                        return Err(damage_at(path, &place, reader.position(), &error));
                    }
                }
                if value_bytes.len() > VALUE_BYTES_MAX {
                    let reason = "its value is longer than one argument may be";
                    return Err(Obstacle::World(format!("{}: {place}: {reason}", path.display())));
                }
                if of != database {
                    target.push(&[b"SELECT", of.to_string().as_bytes()], None)?;
                    database = of;
                }
                let mut typed = vec![value.byte()];
                typed.append(&mut value_bytes);
                let payload = payload_of(&typed, reader.version());
                // 0 would be no deadline.
                let deadline = deadline_ms.map_or(0, |ms| ms.max(1)).to_string();
                let key = place.key.clone();
                let mut command: Vec<&[u8]> = vec![b"RESTORE", &key, deadline.as_bytes(), &payload, b"ABSTTL"];
                if request.replace {
                    command.push(b"REPLACE");
                }
                target.push(&command, Some(place))?;
                counts.sent += 1;
            }
        }
        target.send_when_full(&mut counts)?;
    }
    target.finish(&mut counts)?;
    drop(progress);
    counts.report(out)?;
    if counts.busy > 0 { Ok(Outcome::Damaged) } else { Ok(Outcome::Sound) }
}

/// A key of the file.
struct Place {
    key: Vec<u8>,
    at: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key \"{}\" at byte {}", self.key.escape_ascii(), self.at)
    }
}

fn damage(path: &Path, at: u64, error: &RdbError) -> Obstacle {
    Obstacle::World(format!("{}, byte {at}: {error}", path.display()))
}

fn damage_at(path: &Path, place: &Place, at: u64, error: &RdbError) -> Obstacle {
    Obstacle::World(format!("{}: {place}, its value up to byte {at}: {error}", path.display()))
}

#[derive(Default)]
struct Counts {
    sent: u64,
    restored: u64,
    busy: u64,
    empty: u64,
    modules: u64,
    functions: u64,
}

impl Counts {
    fn report(&self, out: &mut dyn Write) -> Result<(), Obstacle> {
        writeln!(out, "{} keys imported", self.restored)?;
        let rest = [
            (self.busy, "keys were there and stay as they are (--replace replaces them)"),
            (self.empty, "collections without elements passed over"),
            (self.modules, "values of modules passed over"),
            (self.functions, "libraries of functions passed over"),
        ];
        for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "{count} {what}")?;
        }
        Ok(())
    }
}

/// The server, and what it was asked and has not answered.
struct Target {
    stream: BufReader<TcpStream>,
    batch: Vec<u8>,
    /// Of each command in the batch, the key; and of the batch that is on its way.
    asked: Vec<Option<Place>>,
    under_way: Vec<Option<Place>>,
}

impl Target {
    fn connect(request: &Import) -> Result<Target, Obstacle> {
        let Import { host, port, user, password, .. } = request;
        let failed = |error| Obstacle::World(format!("connecting to {host}:{port}: {error}"));
        let stream = TcpStream::connect((host.as_str(), *port)).map_err(failed)?;
        let stream = BufReader::new(stream);
        let mut target = Target { stream, batch: Vec::new(), asked: Vec::new(), under_way: Vec::new() };
        if let Some(password) = password {
            let words: Vec<&[u8]> =
                [Some("AUTH"), user.as_deref(), Some(password)].into_iter().flatten().map(str::as_bytes).collect();
            target.push(&words, None)?;
        }
        Ok(target)
    }
    fn push(&mut self, words: &[&[u8]], place: Option<Place>) -> Result<(), Obstacle> {
        write!(self.batch, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.batch, "${}\r\n", word.len())?;
            self.batch.extend_from_slice(word);
            self.batch.extend_from_slice(b"\r\n");
        }
        self.asked.push(place);
        Ok(())
    }
    fn send_when_full(&mut self, counts: &mut Counts) -> Result<(), Obstacle> {
        if self.batch.len() < BATCH_BYTES && self.asked.len() < BATCH_COMMANDS {
            return Ok(());
        }
        self.send(counts)
    }
    fn send(&mut self, counts: &mut Counts) -> Result<(), Obstacle> {
        let failed = |error| Obstacle::World(format!("sending to the server: {error}"));
        self.stream.get_mut().write_all(&self.batch).map_err(failed)?;
        self.batch.clear();
        let before = std::mem::replace(&mut self.under_way, std::mem::take(&mut self.asked));
        self.take_replies(before, counts)
    }
    fn finish(&mut self, counts: &mut Counts) -> Result<(), Obstacle> {
        self.send(counts)?;
        self.send(counts)
    }
    /// Each is one line.
    fn take_replies(&mut self, asked: Vec<Option<Place>>, counts: &mut Counts) -> Result<(), Obstacle> {
        let mut line = Vec::new();
        for place in asked {
            line.clear();
            let read = self.stream.read_until(b'\n', &mut line);
            let read = read.map_err(|error| Obstacle::World(format!("reading the server's reply: {error}")))?;
            if read == 0 {
                return Err(Obstacle::World("the server has closed the connection".into()));
            }
            let text = String::from_utf8_lossy(&line);
            match (text.trim_end().strip_prefix('-'), place) {
                (None, Some(_)) => counts.restored += 1,
                (None, None) => {}
                (Some(error), Some(_)) if error.starts_with("BUSYKEY") => counts.busy += 1,
                (Some(error), Some(place)) => return Err(Obstacle::World(format!("{place}: {error}"))),
                (Some(error), None) => return Err(Obstacle::World(error.to_string())),
            }
        }
        Ok(())
    }
}

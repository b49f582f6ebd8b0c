//! `shardis export`: what a start would find in a data directory, as an RDB file that redis-server 7.0 and later load.
//!
//! One shard at a time is in memory; its values are written as they come. Times to live become points in time, as of the last
//! record of the log.

use super::directory::{self, Access, Content};
use super::{Obstacle, Outcome};
use crate::runtime::recovery::{LogPlace, Progress, consistent_cut, resume, survey};
use crate::runtime::snapshot_file;
use shards::keyspace::{Keyspace, ShardCursor};
use shards::rdb::{FieldDeadlines, Writer, has_field_deadlines, is_gone, write_value};
use shards::units::{Db, Now};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// A data directory that no server uses, or a backup.
    pub directory: PathBuf,
    /// Not there yet.
    pub file: PathBuf,
    pub databases: u16,
    /// Of Redis 7.0's hashes, fields have no deadlines: whether they are left out, or hashes that have some refused.
    pub drops_field_deadlines: bool,
}

/// Keys looked at per step of a walk.
const STEP_KEYS: usize = 1_000;
/// Keys that are named where the export is refused.
const NAMED_KEYS_MAX: usize = 20;

pub fn export(request: &Export, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let path = &request.file;
    let writing = |error| Obstacle::at("writing", path, error);
    let directory = directory::open(&request.directory, Access::Read)?;
    let manifest = match &directory.content {
        Content::Epoch(manifest) => *manifest,
        Content::Nothing => return Err(Obstacle::World(format!("{} is empty", request.directory.display()))),
        Content::Damaged { reason, .. } => return Err(Obstacle::World(reason.clone())),
    };
    let file = File::create_new(path).map_err(writing)?;
    let written = write_all(&directory.places(manifest), request, BufWriter::new(file));
    let keys = match written {
        Ok((keys, file)) => {
            let file = file.into_inner().map_err(|error| writing(error.into_error()))?;
            file.sync_all().map_err(writing)?;
            keys
        }
        Err(why) => {
            // Half a file would look like a whole one.
            let _ = std::fs::remove_file(path);
            return Err(Obstacle::World(format!("{}: {why}", path.display())));
        }
    };
    writeln!(out, "{keys} keys exported to {}", path.display())?;
    Ok(Outcome::Sound)
}

fn write_all<W: Write>(places: &[LogPlace], request: &Export, sink: W) -> Result<(u64, W), String> {
    let databases = request.databases;
    let progress = Progress::default();
    let (mut surveys, mut held) = (Vec::new(), Vec::new());
    for place in places {
        let (survey, groups) = survey(place.clone(), None, None, &progress)?;
        surveys.push(survey);
        held.push(groups);
    }
    let verdicts = consistent_cut(places, held)?;
    let mut writer = Writer::new(sink);
    writer.begin_file();
    writer.remark("shardis-ver", env!("CARGO_PKG_VERSION"));
    let (mut keys, mut limited) = (0, Limited::default());
    for (survey, verdict) in surveys.into_iter().zip(verdicts) {
        // Nobody chooses keys for it to collide: any seed will do.
        let mut keyspace = Keyspace::new(databases, 0);
        keyspace.set_logging(false);
        snapshot_file::load(survey.place(), &mut keyspace, &progress)?;
        let recovered = resume(survey, verdict, &mut keyspace, &progress)?;
        let now = Now { wall_ms: recovered.last_wall_ms, steady_ms: recovered.last_steady_ms };
        for db in (0..databases).map(Db) {
            keys += write_database(&mut writer, &keyspace, db, now, &mut limited)?;
        }
    }
    if !request.drops_field_deadlines && limited.count > 0 {
        return Err(limited.refusal());
    }
    writer.end_file();
    writer.finish().map(|sink| (keys, sink)).map_err(|error| error.to_string())
}

/// Hashes whose fields have deadlines.
#[derive(Default)]
struct Limited {
    count: u64,
    named: Vec<String>,
}

impl Limited {
    fn note(&mut self, db: Db, key: &[u8]) {
        self.count += 1;
        if self.named.len() < NAMED_KEYS_MAX {
            self.named.push(format!("\n\"{}\" of database {}", key.escape_ascii(), db.0));
        }
    }
    fn refusal(&self) -> String {
        let rest = match self.count - self.named.len() as u64 {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        let named = self.named.concat();
        format!(
            "the fields of {} hashes have times to live, for which Redis 7.0 has no place; --drop-field-ttl exports them \
             without:{named}{rest}",
            self.count
        )
    }
}

fn write_database<W: Write>(
    writer: &mut Writer<W>,
    keyspace: &Keyspace,
    db: Db,
    now: Now,
    limited: &mut Limited,
) -> Result<u64, String> {
    if keyspace.is_empty(db) {
        return Ok(0);
    }
    writer.select(db.0);
    let (mut keys, mut cursor) = (0, ShardCursor(0));
    loop {
        // Nothing is changed meanwhile, so no key comes twice.
        cursor = keyspace.scan(db, cursor, STEP_KEYS, now, &mut |entry| {
            if is_gone(&entry.value(), now) {
                return;
            }
            if has_field_deadlines(&entry.value(), now) {
                limited.note(db, entry.key());
            }
            if let Some(deadline) = entry.deadline() {
                writer.deadline(deadline.unix_ms(now));
            }
            write_value(writer, Some(entry.key()), &entry.value(), now, FieldDeadlines::Dropped);
            keys += 1;
        });
        if cursor == ShardCursor(0) || writer.has_failed() {
            return Ok(keys);
        }
    }
}

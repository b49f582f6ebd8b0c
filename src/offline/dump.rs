//! `shardis dump`: every record and edit as a line of text, also of what is no longer part of a log.

use super::directory::{self, Access, Content};
use super::examine::{Examined, Part, Segment, examine, header, read};
use super::snapshot::{self, Fault, Snapshot};
use super::walk::{Piece, Walk, written};
use super::{Obstacle, Outcome, show};
use shards::keyspace::Edit;
use shards::snapshot::SnapshotHeader;
use shards::wal::{GroupId, Record, SegmentHeader, Sequence};
use std::io::{self, Write};
use std::path::Path;

/// What is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// `None`: all.
    pub shard: Option<u16>,
    /// Edits from this offset of their shard on.
    pub from_offset: u64,
    /// Keys without their values.
    pub keys: bool,
}

/// Ends early where nobody reads on.
pub fn dump(path: &Path, selection: &Selection, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    match dump_all(path, selection, out) {
        Err(Obstacle::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Outcome::Sound),
        other => other,
    }
}

fn dump_all(path: &Path, selection: &Selection, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let directory = directory::open(path, Access::Read)?;
    let (manifest, mut outcome) = match &directory.content {
        Content::Nothing => return Ok(Outcome::Sound),
        Content::Epoch(manifest) => (*manifest, Outcome::Sound),
        Content::Damaged { reason, likely } => {
            writeln!(out, "# {reason}")?;
            let Some(manifest) = likely else { return Ok(Outcome::Damaged) };
            (*manifest, Outcome::Damaged)
        }
    };
    writeln!(out, "# {}: epoch {}, {} shards", path.display(), manifest.epoch, manifest.shards)?;
    writeln!(out, "# shard offset record time kind database key value")?;
    let wanted = |shard: u16| selection.shard.is_none_or(|wanted| wanted == shard);
    let places: Vec<_> = directory.places(manifest).into_iter().filter(|place| wanted(place.shard.0)).collect();
    if places.is_empty() {
        return Err(Obstacle::World(format!("--shard: there are {} shards, from 0", manifest.shards)));
    }
    for place in places {
        let examined = examine(&place)?;
        if examined.is_damaged() {
            outcome = Outcome::Damaged;
        }
        dump_shard(&examined, selection, out)?;
    }
    Ok(outcome)
}

fn dump_shard(examined: &Examined, selection: &Selection, out: &mut dyn Write) -> Result<(), Obstacle> {
    if examined.lacks_directory {
        writeln!(out, "# {} is not there", examined.place.directory.display())?;
    }
    if let Some(number) = examined.place.snapshot {
        dump_snapshot(examined, number, selection, out)?;
    }
    let recovered = &examined.recovered;
    let first = Sequence(recovered.next_sequence.0 - recovered.records);
    let mut lines = Lines { shard: examined.place.shard.0, selection, next: first, end: recovered.next_sequence, out };
    let mut bytes = Vec::new();
    for segment in examined.segments.iter().filter(|segment| segment.part != Part::Blank) {
        read(&segment.path, &mut bytes)?;
        lines.segment(segment, &bytes)?;
    }
    Ok(())
}

/// Its entries have the time of the whole, and its offset; they are of no record.
fn dump_snapshot(examined: &Examined, number: u64, selection: &Selection, out: &mut dyn Write) -> Result<(), Obstacle> {
    let shard = examined.place.shard.0;
    let mut take = |header: &SnapshotHeader, mut edits: &[u8]| {
        let (offset, time) = (header.offset.0, show::time(header.wall_ms));
        // All of them can be read, or the block would have been refused.
        while offset >= selection.from_offset
            && let Ok((edit, used)) = Edit::decode(edits)
        {
            edits = &edits[used..];
            writeln!(out, "{shard} {offset} - {time} {}", show::edit(&edit, !selection.keys))?;
        }
        Ok(())
    };
    let read = snapshot::read(&examined.place, number, &mut take)?;
    match read {
        Ok(Snapshot { path, header, footer }) => writeln!(
            out,
            "# {}: {} entries, up to record {}, offset {}",
            path.display(),
            footer.entries,
            footer.last_sequence.0,
            header.offset.0
        )?,
        Err(Fault { path, position, reason }) => {
            writeln!(out, "# {}: not read from byte {position} on: {reason}", path.display())?;
        }
    }
    Ok(())
}

/// The lines of one shard.
struct Lines<'a> {
    shard: u16,
    selection: &'a Selection,
    /// The log's next record, and the one behind its last.
    next: Sequence,
    end: Sequence,
    out: &'a mut dyn Write,
}

impl Lines<'_> {
    fn segment(&mut self, segment: &Segment, bytes: &[u8]) -> io::Result<()> {
        let header = header(bytes);
        let note = match (segment.part, &header) {
            (_, None) => ", whose header can't be read",
            (Part::CutOff, _) => ", cut off by an earlier start",
            (Part::InSnapshot, _) => ", which the snapshot has replaced",
            (Part::Log(_), Some(header)) if header.after_recovery => ", begun by a start",
            (Part::Log(_) | Part::Blank, Some(_)) => "",
        };
        writeln!(self.out, "# {}{note}", segment.path.display())?;
        if let Some(header) = &header {
            self.header(header)?;
        }
        let end = match segment.part {
            Part::Log(Some(end)) => end.end,
            Part::Log(None) => u64::MAX,
            Part::InSnapshot | Part::CutOff | Part::Blank => 0,
        };
        for piece in Walk::new(bytes, segment.id, header.as_ref(), 0) {
            match piece {
                Piece::Record(position, record) => {
                    let counts = position < end && record.header().sequence == self.next && self.next < self.end;
                    if counts {
                        self.next = self.next.next();
                    }
                    self.record(position, &record, counts)?;
                }
                Piece::Rubbish { position, bytes, reason } => {
                    writeln!(self.out, "# byte {position}: {bytes} bytes are no record: {reason}")?;
                }
            }
        }
        writeln!(self.out, "# byte {}: end of what was written", written(bytes))
    }

    fn header(&mut self, header: &SegmentHeader) -> io::Result<()> {
        let time = show::time(header.wall_ms);
        let (first, mark) = (header.first_sequence.0, header.durable_mark.0);
        write!(self.out, "# begun {time} with record {first}, when all up to {mark} were on disk")?;
        match header.predecessor {
            Some(before) => {
                writeln!(self.out, "; goes on behind segment {}, byte {}", before.segment.0, before.end)
            }
            None => writeln!(self.out, "; nothing before it"),
        }
    }

    fn record(&mut self, position: u64, record: &Record<'_>, counts: bool) -> io::Result<()> {
        if record.end_offset().0 < self.selection.from_offset {
            return Ok(());
        }
        let header = record.header();
        let start = format!("{}{}", self.shard, if counts { "" } else { "!" });
        let place = format!("record {} at byte {position}", header.sequence.0);
        if !counts {
            writeln!(self.out, "# {place} is not part of the log")?;
        }
        let groups = || record.groups().into_iter().flat_map(|groups| groups.iter());
        for group in groups() {
            let shards: Vec<String> = group.participants().map(|shard| shard.0.to_string()).collect();
            writeln!(self.out, "# {place}: transaction {} on shards {}", show::group(group.id), shards.join(" "))?;
        }
        if let Some(settled) = record.groups().map(|groups| groups.settled().0).filter(|settled| *settled > 0) {
            writeln!(self.out, "# {place}: transactions up to record {settled} are settled")?;
        }
        for closed in record.groups().into_iter().flat_map(|groups| groups.closed()) {
            writeln!(self.out, "# {place}: transaction {} is closed", show::group(closed))?;
        }
        let mut edits = record.edits();
        while !edits.is_empty() {
            let at = record.edits().len() - edits.len();
            let Ok((edit, used)) = Edit::decode(edits) else {
                writeln!(
                    self.out,
                    "# {place}: its edits can't be read from offset {} on",
                    header.offset.0 + at as u64
                )?;
                break;
            };
            edits = &edits[used..];
            let group = groups().find(|group| group.edits().contains(&at)).map(|group| group.id);
            self.edit(&start, record, at as u64, &edit, group)?;
        }
        Ok(())
    }

    fn edit(
        &mut self,
        start: &str,
        record: &Record<'_>,
        at: u64,
        edit: &Edit<'_>,
        group: Option<GroupId>,
    ) -> io::Result<()> {
        let header = record.header();
        let offset = header.offset.0 + at;
        if offset < self.selection.from_offset {
            return Ok(());
        }
        let (time, text) = (show::time(header.wall_ms), show::edit(edit, !self.selection.keys));
        let group = group.map_or(String::new(), |id| format!(" in {}", show::group(id)));
        writeln!(self.out, "{start} {offset} {} {time} {text}{group}", header.sequence.0)
    }
}

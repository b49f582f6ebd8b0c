//! `shardis check`: what is damaged where, what a start would cut or skip, and what a repair gives up.

use super::directory::{self, Access, Content, Directory};
use super::examine::{Examined, Part, examine};
use super::loss::{Agreement, Loss, loss};
use super::snapshot::{Fault, Snapshot};
use super::{Obstacle, Outcome, repair, show};
use crate::runtime::data_directory::Manifest;
use shards::wal::{Cut, Damage, Verdict};
use std::io::Write;
use std::path::Path;

/// Changes nothing.
pub fn check(path: &Path, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let directory = directory::open(path, Access::Read)?;
    let Some(found) = report(path, &directory, out)? else { return end_without_logs(&directory, out) };
    if found.agreement.is_sound() {
        writeln!(out, "sound: a start works")?;
        return Ok(Outcome::Sound);
    }
    if found.is_lost() {
        return end_lost(out);
    }
    let refused = if found.agreement.start.is_none() { "a start is refused" } else { "a start would not notice" };
    let losses = found.losses()?;
    writeln!(out, "damaged: {refused}. `shardis check --repair {}` would give up:", path.display())?;
    report_losses(&losses, out)?;
    Ok(Outcome::Damaged)
}

/// Gives up what `check` says, if anything.
pub fn repair(path: &Path, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    let directory = directory::open(path, Access::Write)?;
    let Some(found) = report(path, &directory, out)? else { return end_without_logs(&directory, out) };
    if found.agreement.is_sound() {
        writeln!(out, "sound: a start works, and nothing was changed")?;
        return Ok(Outcome::Sound);
    }
    if found.is_lost() {
        return end_lost(out);
    }
    let losses = found.losses()?;
    let kept = repair::cut_all(&losses)?;
    writeln!(out, "repaired. Given up:")?;
    report_losses(&losses, out)?;
    kept.iter().try_for_each(|side| writeln!(out, "  kept in {}", side.display()))?;
    drop(losses);
    // Not taken on trust.
    match report(path, &directory, &mut std::io::sink())? {
        Some(found) if found.agreement.is_sound() => {
            let skipped = found.agreement.start.iter().flatten().zip(&found.shards);
            skipped.into_iter().try_for_each(|(verdict, shard)| report_verdict(shard, verdict, out))?;
            writeln!(out, "sound: a start works")?;
            Ok(Outcome::Sound)
        }
        Some(_) | None => Err(Obstacle::World(format!("{} is still damaged after the repair", path.display()))),
    }
}

/// What a reading of all logs gave.
struct Found {
    shards: Vec<Examined>,
    agreement: Agreement,
}

impl Found {
    fn is_lost(&self) -> bool {
        self.shards.iter().any(Examined::is_lost)
    }

    fn losses(&self) -> Result<Vec<(&Examined, Loss)>, Obstacle> {
        let all = self.shards.iter().zip(&self.agreement.whole);
        let all = all.map(|(shard, verdict)| Ok(loss(shard, verdict)?.map(|loss| (shard, loss))));
        all.filter_map(Result::transpose).collect()
    }
}

fn end_lost(out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    writeln!(
        out,
        "damaged: a start is refused, and --repair can't help, as the log that the snapshot replaced is gone. Use a backup, \
         or `shardis restore` where there is an archive"
    )?;
    Ok(Outcome::Damaged)
}

fn end_without_logs(directory: &Directory, out: &mut dyn Write) -> Result<Outcome, Obstacle> {
    match &directory.content {
        Content::Damaged { .. } => {
            writeln!(out, "damaged: without the right MANIFEST nothing else can be judged, and --repair can't help")?;
            Ok(Outcome::Damaged)
        }
        Content::Nothing | Content::Epoch(_) => {
            writeln!(out, "sound: no server has put anything here yet")?;
            Ok(Outcome::Sound)
        }
    }
}

/// Reads all logs and says what they are like; `None` if the directory has none that could be judged.
fn report(path: &Path, directory: &Directory, out: &mut dyn Write) -> Result<Option<Found>, Obstacle> {
    let manifest = match &directory.content {
        Content::Epoch(manifest) => *manifest,
        Content::Nothing => return Ok(None),
        Content::Damaged { reason, likely } => {
            writeln!(out, "DAMAGED: {reason}")?;
            if let Some(Manifest { epoch, shards, snapshot }) = likely {
                let snapshot = snapshot.map_or(String::new(), |number| format!(" and snapshot {number}"));
                writeln!(out, "note: the files are those of epoch {epoch} with {shards} shards{snapshot}")?;
            }
            return Ok(None);
        }
    };
    let Manifest { epoch, shards, snapshot } = manifest;
    let snapshot = snapshot.map_or(String::new(), |number| format!(", snapshot {number}"));
    writeln!(out, "{}: epoch {epoch}, {shards} shards{snapshot}", path.display())?;
    for other in &directory.other_epochs {
        writeln!(out, "note: epoch-{other} is not the manifest's; the next start removes it")?;
    }
    let mut all = Vec::new();
    for place in directory.places(manifest) {
        let examined = examine(&place)?;
        report_shard(&examined, out)?;
        all.push(examined);
    }
    let agreement = Agreement::reach(&all)?;
    for (at, shard) in all.iter().enumerate() {
        match &agreement.start {
            Some(_) if agreement.leaves_halves(at) => report_halves(shard, &agreement.whole[at], out)?,
            Some(start) => report_verdict(shard, &start[at], out)?,
            None => {}
        }
    }
    Ok(Some(Found { shards: all, agreement }))
}

fn report_shard(examined: &Examined, out: &mut dyn Write) -> Result<(), Obstacle> {
    let shard = examined.place.shard.0;
    if examined.lacks_directory {
        writeln!(out, "shard {shard}: DAMAGED: {} is not there", examined.place.directory.display())?;
        return Ok(());
    }
    report_snapshot(examined, out)?;
    let recovered = &examined.recovered;
    let segments = examined.live().count();
    write!(
        out,
        "shard {shard}: {segments} segments, {} records, {} edits, {} bytes of edits, {} transactions over several shards",
        recovered.records, recovered.edits, recovered.bytes, examined.groups
    )?;
    if recovered.last_wall_ms > 0 {
        write!(out, ", until {}", show::time(recovered.last_wall_ms))?;
    }
    writeln!(out)?;
    if examined.databases > DATABASES_BY_DEFAULT {
        writeln!(out, "shard {shard}: note: a start needs --databases {} or more", examined.databases)?;
    }
    for segment in &examined.segments {
        let note = match segment.part {
            Part::CutOff => "was cut off by an earlier start",
            Part::InSnapshot => "is needed no more: the snapshot holds all of it",
            Part::Log(_) | Part::Blank => continue,
        };
        writeln!(out, "shard {shard}: note: {} {note}", segment.path.display())?;
    }
    match recovered.cut {
        Some(Cut { damage: Some(damage), .. }) => report_damage(examined, &damage, out),
        Some(cut) => report_torn(examined, &cut, out),
        None => Ok(()),
    }
}

fn report_snapshot(examined: &Examined, out: &mut dyn Write) -> Result<(), Obstacle> {
    let shard = examined.place.shard.0;
    match &examined.snapshot {
        Some(Ok(Snapshot { header, footer, .. })) => writeln!(
            out,
            "shard {shard}: snapshot of {}: {} entries, {} bytes, up to record {}",
            show::time(header.wall_ms),
            footer.entries,
            footer.bytes,
            footer.last_sequence.0
        )?,
        Some(Err(Fault { path, position, reason })) => {
            writeln!(out, "shard {shard}: DAMAGED: {}, byte {position}: {reason}", path.display())?;
        }
        None => {}
    }
    for number in &examined.other_snapshots {
        writeln!(out, "shard {shard}: note: snapshot {number} is not the manifest's; the next start removes it")?;
    }
    Ok(())
}

/// A start of a server that has fewer than the log names refuses it.
const DATABASES_BY_DEFAULT: u32 = 16;

fn report_damage(examined: &Examined, damage: &Damage, out: &mut dyn Write) -> Result<(), Obstacle> {
    let shard = examined.place.shard.0;
    let Damage { segment, position, sequence, reason, evidence } = *damage;
    let path = examined.path(segment).display();
    writeln!(out, "shard {shard}: DAMAGED: {path}, byte {position}: record {} is missing: {reason}", sequence.0)?;
    if let Some(evidence) = evidence {
        writeln!(
            out,
            "shard {shard}: it was on disk: {}, byte {}, says that all up to record {} were",
            examined.path(evidence.segment).display(),
            evidence.position,
            evidence.durable_mark.0
        )?;
    }
    Ok(())
}

fn report_torn(examined: &Examined, cut: &Cut, out: &mut dyn Write) -> Result<(), Obstacle> {
    writeln!(
        out,
        "shard {}: torn tail (fine): {}, byte {}: {} bytes from record {} on: {}; nothing in them was acknowledged as \
         durable, and a start cuts them off",
        examined.place.shard.0,
        examined.path(cut.segment).display(),
        cut.position,
        cut.bytes,
        cut.sequence.0,
        cut.reason
    )?;
    Ok(())
}

/// What a start does so that no transaction is there by halves.
fn report_verdict(examined: &Examined, verdict: &Verdict, out: &mut dyn Write) -> Result<(), Obstacle> {
    let shard = examined.place.shard.0;
    if let Some(cut) = verdict.cut {
        writeln!(
            out,
            "shard {shard}: consistent cut (fine): a start cuts off {} records from record {} on, with {} transactions \
             over several shards, as they may build on one that another shard's log lost",
            cut.records, cut.before.0, cut.groups
        )?;
    }
    if !verdict.skipped.is_empty() {
        let groups: Vec<String> = verdict.skipped.iter().map(|id| show::group(*id)).collect();
        writeln!(
            out,
            "shard {shard}: a start skips {} transactions over several shards, which are not in all of their logs: {}",
            groups.len(),
            groups.join(" ")
        )?;
    }
    Ok(())
}

fn report_halves(examined: &Examined, verdict: &Verdict, out: &mut dyn Write) -> Result<(), Obstacle> {
    let (shard, cut) = (examined.place.shard.0, verdict.cut.expect("halves are what the start does not cut"));
    writeln!(
        out,
        "shard {shard}: DAMAGED: {} records from record {} on build on transactions over several shards that another \
         shard's log held and has lost; a start does not look for them, as they were settled",
        cut.records, cut.before.0
    )?;
    Ok(())
}

fn report_losses(losses: &[(&Examined, Loss)], out: &mut dyn Write) -> Result<(), Obstacle> {
    for (examined, loss) in losses {
        let (shard, records, first) = (examined.place.shard.0, loss.records(), loss.first().0);
        if examined.lacks_directory {
            writeln!(out, "  shard {shard}: all that it had; the directory is made, and empty")?;
            continue;
        }
        write!(out, "  shard {shard}: ")?;
        match records {
            0 => write!(out, "what follows record {}", first - 1)?,
            _ => write!(out, "{records} records, {first} to {}", loss.last.0)?,
        }
        write!(out, " ({} of them whole, with {} transactions over several shards)", loss.readable, loss.groups)?;
        write!(out, ", {} bytes in {} files", loss.bytes(), loss.pieces.len())?;
        let why = if loss.is_own { "" } else { ", as another shard gives up what they build on" };
        writeln!(out, "{why}")?;
    }
    writeln!(out, "  Transactions over several shards are taken back on all of their shards, or on none.")?;
    Ok(())
}

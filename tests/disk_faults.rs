//! Disks that are full, fail, are slow or hang, under the real server: what writers are told, that reads go on, what INFO and
//! the operational log say, and that nothing acknowledged is lost. Needs root and loop devices; skipped without.
//!
//! Where one shard's disk is at fault, the other shard has another disk and must not notice. `scripts/disk-faults` is the
//! long form.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod disk_faults {
    pub mod disk;
    pub mod load;
}
mod support;

use disk_faults::disk::{Ballast, Disk, Fault, one_at_a_time, possible};
use disk_faults::load::{Event, Flood, LOST_MAX, Load, Reads, Written, keys_on, slowest};
use std::time::{Duration, Instant};
use support::server::{bad_start, free_port};
use support::{Client, DataDir, Resp, Server, wait_until};

const SHARDS: u16 = 2;
/// The shard whose disk is at fault; the other is on a disk of its own.
const FAULTY: u16 = 1;
const WRITERS_PER_SHARD: usize = 2;
/// For what the server has to do by itself: a busy machine takes its time.
const SOON: Duration = Duration::from_secs(15);
/// What no read takes, nor 99 of 100, on a machine that has other things to do, too. Left alone they take far less than that.
const READ_MAX: Duration = Duration::from_secs(5);
const READ_P99_MAX: Duration = Duration::from_millis(500);

/// No snapshots by themselves: one would make room on a full disk.
fn flags(policy: &str) -> [&str; 10] {
    [
        "--appendonly",
        "yes",
        "--appendfsync",
        policy,
        "--shards",
        "2",
        "--wal-segment-size",
        "1mb",
        "--auto-aof-rewrite-percentage",
        "0",
    ]
}

/// With room in the log for more than a disk may be behind.
fn roomy_flags(policy: &str) -> [&str; 8] {
    ["--appendonly", "yes", "--appendfsync", policy, "--shards", "2", "--wal-segment-size", "64mb"]
}

/// A data directory with the log of one shard on another disk.
fn spread_over(disk: &Disk, policy: &str) -> DataDir {
    let dir = DataDir::new();
    let (status, _) = Server::shardis_in(dir.path(), &flags(policy)).stop();
    assert_eq!(status.code(), Some(0));
    let here = dir.path().join(format!("epoch-1/shard-{FAULTY}"));
    let there = disk.path().join("log");
    std::fs::create_dir(&there).expect("the disk is new");
    for file in std::fs::read_dir(&here).expect("a shard has a directory") {
        let file = file.expect("it can be listed");
        std::fs::copy(file.path(), there.join(file.file_name())).expect("the disk has room");
    }
    std::fs::remove_dir_all(&here).expect("nobody uses it");
    std::os::unix::fs::symlink(there, here).expect("its place is free");
    dir
}

/// INFO persistence, as any client sees it.
fn persistence(client: &mut Client) -> Vec<(String, String)> {
    let text = client.line("INFO persistence").text();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn field(client: &mut Client, name: &str) -> String {
    let found = persistence(client).into_iter().find(|(field, _)| field == name);
    found.unwrap_or_else(|| panic!("INFO persistence has no {name}")).1
}

fn shard_says(client: &mut Client, shard: u16, status: &str) -> bool {
    field(client, &format!("wal_shard_{shard}")).starts_with(&format!("status={status},"))
}

/// Connections enough that each core has some.
fn clients(server: &Server) -> Vec<Client> {
    (0..2 * SHARDS).map(|_| server.client()).collect()
}

fn assert_reads_went_on(reads: &[Reads], from: Instant, until: Instant) {
    for read in reads {
        assert!(read.wrong.is_empty(), "shard {}: {:?}", read.shard, &read.wrong[..read.wrong.len().min(3)]);
        let during = read.answered.iter().filter(|event| event.sent > from && event.answered() < until);
        let (max, p99) = slowest(during.clone());
        println!("  shard {}: {} reads, p99 {p99:?}, slowest {max:?}", read.shard, during.clone().count());
        assert!(max < READ_MAX && p99 < READ_P99_MAX, "shard {}: reads took {p99:?}, and {max:?}", read.shard);
        let (fewest, lasted) = (during.count(), until - from);
        assert!(fewest as u128 > lasted.as_millis() / 50, "shard {}: {fewest} reads in {lasted:?}", read.shard);
    }
}

fn assert_all_kept(server: &Server, written: &[Written], until: Option<Instant>, what: &str) {
    let mut client = server.client();
    let writes = written.iter().map(|writer| writer.assert_kept(&mut client, until, what)).sum::<usize>();
    println!("  {what}: {writes} acknowledged writes, none lost");
}

fn sent_between<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    from: Instant,
    until: Instant,
) -> impl Iterator<Item = &'a Event> {
    events.into_iter().filter(move |event| event.sent > from && event.sent < until)
}

fn acknowledged(writer: &Written) -> impl Iterator<Item = &Event> {
    writer.acknowledged.iter().map(|(event, ..)| event)
}

// ---- a full disk -----------------------------------------------------------------------------------------

#[test]
fn a_full_disk_refuses_writers_and_nothing_else_and_heals_by_itself() {
    if !possible(false) {
        return;
    }
    let _turn = one_at_a_time();
    let fills = support::from_env("SHARDIS_DISK_FILLS", 2);
    for policy in ["always", "everysec"] {
        for first in (0..fills).step_by(FILLS_PER_DISK) {
            // The log is never compacted: a disk is good for some fills only.
            let disk = Disk::plain(64 + 128 * FILLS_PER_DISK as u64);
            let mut server = Server::shardis_in(&disk.path().join("data"), &flags(policy));
            for fill in (first..fills).take(FILLS_PER_DISK) {
                println!("{policy}, fill {fill}");
                server = fill_and_heal(&disk, server, policy, fill);
            }
        }
    }
}

const FILLS_PER_DISK: usize = 4;

/// The disk is filled under load, and healed; the server is killed, in every other fill before it healed. Its successor.
fn fill_and_heal(disk: &Disk, mut server: Server, policy: &str, fill: u64) -> Server {
    let killed_full = fill % 2 == 1;
    let load = Load::start(server.port, SHARDS, WRITERS_PER_SHARD, 8 << 10, fill);
    let (ballast, full, refused) = fill_up(disk, &server);
    assert_fresh_writers_are_refused(&server);
    std::thread::sleep(Duration::from_millis(300));
    let healing = Instant::now();
    let mut ballast = Some(ballast);
    if !killed_full {
        drop(ballast.take());
        wait_until("writes are taken again", SOON, || field(&mut server.client(), "wal_status") == "ok");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(server.is_running(), "a full disk ends no server");
    let (written, reads) = load.stop_under(server, killed_full);
    assert_reads_went_on(&reads, full, healing);
    assert_refused_in_time(&written, refused, healing, !killed_full);
    // Without space, too.
    let server = Server::shardis_in(&disk.path().join("data"), &flags(policy));
    assert_all_kept(&server, &written, None, policy);
    drop(ballast);
    // Its state is looked at in each tick: one that was just started may call itself well, and have no space.
    for key in (0..SHARDS).map(|shard| keys_on(shard, SHARDS, "healed", 1).remove(0)) {
        let mut client = server.client();
        wait_until("writes are taken again", SOON, || client.call(&["SET", &key, "1"]) == Resp::ok());
    }
    server
}

/// Takes all space, and waits until both shards say so: since when the disk is full, and since when they do.
fn fill_up(disk: &Disk, server: &Server) -> (Ballast, Instant, Instant) {
    std::thread::sleep(Duration::from_millis(200));
    let ballast = disk.fill();
    let full = Instant::now();
    let mut clients = clients(server);
    for client in &mut clients {
        for shard in 0..SHARDS {
            wait_until("each shard is out of space", SOON, || shard_says(client, shard, "blocked"));
        }
        assert_eq!(field(client, "wal_status"), "blocked");
        let why = field(client, "wal_error");
        assert!(why.contains("No space left on device"), "{why}");
        assert_eq!(field(client, "aof_last_write_status"), "err");
    }
    (ballast, full, Instant::now())
}

/// Within 100 ms each, but for the pauses of a busy machine.
fn assert_fresh_writers_are_refused(server: &Server) {
    let mut took = Vec::new();
    for mut client in clients(server) {
        for key in (0..SHARDS).map(|shard| keys_on(shard, SHARDS, "fresh", 1).remove(0)) {
            let sent = Instant::now();
            let reply = client.call(&["SET", &key, "1"]).text();
            took.push(sent.elapsed());
            assert!(reply.starts_with("MISCONF") && reply.contains("No space left on device"), "{reply}");
        }
    }
    took.sort();
    println!("  fresh writers are refused within {:?}", took[took.len() - 1]);
    assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
}

/// What was sent while the disk was full: refused soon, with the reason; and afterwards taken again.
fn assert_refused_in_time(written: &[Written], refused: Instant, healing: Instant, healed: bool) {
    for writer in written {
        let shard = writer.shard;
        let mut taken = sent_between(acknowledged(writer), refused, healing).filter(|event| event.answered() < healing);
        if let Some(event) = taken.next() {
            let (after, before) = (event.answered() - refused, healing - event.answered());
            panic!("shard {shard} takes writes: {after:?} after it was full, {before:?} before there was space");
        }
        let during = sent_between(&writer.refused, refused, healing).collect::<Vec<_>>();
        let waiting = sent_between(acknowledged(writer), healing - SOON, healing);
        let waiting = waiting.filter(|event| event.answered() > healing).count();
        let (max, p99) = slowest(during.iter().copied());
        println!("  shard {shard}: {} refusals, p99 {p99:?}, slowest {max:?}, {waiting} waiting", during.len());
        // One that came before the obstacle was seen may have been taken, and then waits for space.
        assert!(waiting == 1 || !during.is_empty() || !healed, "shard {shard}: neither refused nor taken");
        assert!(max < READ_MAX, "shard {shard}: a refusal took {max:?}");
        assert!(writer.cut.iter().all(|event| event.answered() > healing), "shard {shard}: cut off");
        let right =
            |text: &String| text.starts_with("MISCONF") && text.contains(&format!("log of shard {shard} can't grow"));
        assert!(writer.texts.iter().all(right), "shard {shard}: {:?}", writer.texts);
        let after = acknowledged(writer).filter(|event| event.sent > healing).count();
        assert!(!healed || after > 0, "shard {shard} takes no writes after the disk has healed");
    }
}

trait StopUnder {
    fn stop_under(self, server: Server, killed_first: bool) -> (Vec<Written>, Vec<Reads>);
}

impl StopUnder for Load {
    /// Ends both, by kill -9: the server first, or the clients.
    fn stop_under(self, server: Server, killed_first: bool) -> (Vec<Written>, Vec<Reads>) {
        if killed_first {
            self.ends_soon();
            server.kill();
            return self.stop();
        }
        let seen = self.stop();
        server.kill();
        seen
    }
}

// ---- errors ----------------------------------------------------------------------------------------------

#[test]
fn after_a_failed_write_nothing_is_acknowledged_until_a_restart_under_always() {
    a_failing_disk("always", Fault::Write);
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_a_restart_under_always() {
    a_failing_disk("always", Fault::Flush);
}

#[test]
fn after_a_failed_write_the_second_before_may_be_lost_under_everysec() {
    a_failing_disk("everysec", Fault::Write);
}

#[test]
fn after_a_failed_flush_the_second_before_may_be_lost_under_everysec() {
    a_failing_disk("everysec", Fault::Flush);
}

fn a_failing_disk(policy: &str, fault: Fault) {
    if !possible(true) {
        return;
    }
    let _turn = one_at_a_time();
    for round in 0..support::from_env("SHARDIS_DISK_ERRORS", 1) {
        println!("{policy}, {fault:?}, round {round}");
        let mut disk = Disk::faulty(64);
        let dir = spread_over(&disk, policy);
        let mut server = Server::shardis_in(dir.path(), &flags(policy));
        let load = Load::start(server.port, SHARDS, WRITERS_PER_SHARD, 100, round);
        std::thread::sleep(Duration::from_millis(1500));
        let broken = Instant::now();
        disk.break_by(fault);
        if !fails(&server) {
            a_segment_could_not_be_made(&mut disk, server, load, &dir, policy);
            continue;
        }
        let failed = Instant::now();
        println!("  it showed after {:?}", failed - broken);
        std::thread::sleep(Duration::from_millis(700));
        assert_says_that_it_failed(&server);
        // A disk that works again changes nothing: what it lost in between, nobody knows.
        disk.heal();
        std::thread::sleep(Duration::from_millis(500));
        assert_says_that_it_failed(&server);
        assert!(server.is_running(), "a failed log ends no server");
        let over = Instant::now();
        let (written, reads) = load.stop();
        assert_reads_went_on(&reads, broken, over);
        let since = if policy == "always" { broken } else { failed };
        assert_nothing_acknowledged(&written, since, failed);
        let said = server.log().matches("the log has failed").count();
        assert_eq!(said, 1, "the operational log says it {said} times");
        server.kill();
        disk.replace();
        let server = Server::shardis_in(dir.path(), &flags(policy));
        // Under everysec, what was acknowledged in the last second may be gone with the disk's cache.
        let until = (policy != "always").then(|| failed - LOST_MAX);
        let until = until.map(|until| until.min(broken));
        assert_all_kept(&server, &written, until, policy);
        let key = &keys_on(FAULTY, SHARDS, "again", 1)[0];
        assert_eq!(server.client().call(&["SET", key, "1"]), Resp::ok());
        assert_eq!(field(&mut server.client(), "wal_status"), "ok");
    }
}

/// Whether a record or a sync fails, which is for good; else the log is only blocked, and stays so.
fn fails(server: &Server) -> bool {
    let broken = Instant::now();
    let mut has_failed = false;
    wait_until("the failure shows", SOON, || {
        has_failed = shard_says(&mut server.client(), FAULTY, "failed");
        // A sync of what came before the obstacle may still fail, a second later.
        has_failed || broken.elapsed() > SOON / 3 && shard_says(&mut server.client(), FAULTY, "blocked")
    });
    has_failed
}

/// The fault met the making of the next segment, and no record: writes are refused until that succeeds, and nothing is lost.
fn a_segment_could_not_be_made(disk: &mut Disk, server: Server, load: Load, dir: &DataDir, policy: &str) {
    println!("  it met the making of a segment");
    let why = field(&mut server.client(), "wal_error");
    assert!(names_the_fault(&why), "{why}");
    disk.heal();
    wait_until("writes are taken again", SOON, || field(&mut server.client(), "wal_status") == "ok");
    let (written, _) = load.stop();
    server.kill();
    assert_all_kept(&Server::shardis_in(dir.path(), &flags(policy)), &written, None, policy);
}

/// To each connection, whatever core it is on: in INFO, and in each refusal.
fn assert_says_that_it_failed(server: &Server) {
    let on_faulty = &keys_on(FAULTY, SHARDS, "told", 1)[0];
    let on_other = &keys_on(0, SHARDS, "told", 1)[0];
    let mut others_taken = 0;
    for mut client in clients(server) {
        let refusal = client.call(&["SET", on_faulty, "1"]).text();
        let start = format!("MISCONF Writes are refused: the log of shard {FAULTY} has failed: ");
        assert!(refusal.starts_with(&start) && names_the_fault(&refusal), "{refusal}");
        assert_eq!(field(&mut client, "wal_status"), "failed");
        assert_eq!(field(&mut client, "aof_last_write_status"), "err");
        let why = field(&mut client, "wal_error");
        assert!(names_the_fault(&why) && refusal.contains(&why), "{why}, but {refusal}");
        assert!(shard_says(&mut client, 0, "ok"), "the other shard has another disk");
        assert!(shard_says(&mut client, FAULTY, "failed"));
        let taken = client.call(&["SET", on_other, "1"]);
        assert!(taken == Resp::ok() || taken.text().starts_with("MISCONF"), "{taken}");
        others_taken += u16::from(taken == Resp::ok());
    }
    // Those on the failed shard's core cannot write to other shards either.
    assert!(others_taken >= 1, "nobody can write to the other shard");
}

/// EIO, or EROFS where the file system's own journal met the error first.
fn names_the_fault(text: &str) -> bool {
    text.contains("Input/output error") || text.contains("Read-only file system")
}

fn assert_nothing_acknowledged(written: &[Written], since: Instant, failed: Instant) {
    for writer in written {
        let late = acknowledged(writer).filter(|event| event.sent > since).count();
        let refused = writer.refused.iter().filter(|event| event.sent > failed).count();
        let (shard, cut) = (writer.shard, writer.cut.len());
        println!("  shard {shard}: {late} acknowledged afterwards, {refused} refused, {cut} cut off");
        if shard == FAULTY {
            assert_eq!(late, 0, "shard {shard} acknowledged writes sent after its failure");
            assert!(refused > 0, "shard {shard} refused nothing");
        }
    }
    let others = written.iter().filter(|writer| writer.shard != FAULTY);
    let taken = others.flat_map(acknowledged).filter(|event| event.sent > failed).count();
    let cut = written.iter().filter(|writer| writer.shard != FAULTY).all(|writer| !writer.refused.is_empty());
    assert!(taken > 0 || cut, "the other shard takes no writes");
}

#[test]
fn a_disk_that_can_not_be_read_refuses_the_start_and_loses_nothing() {
    if !possible(true) {
        return;
    }
    let _turn = one_at_a_time();
    let mut disk = Disk::faulty(64);
    let dir = spread_over(&disk, "always");
    let server = Server::shardis_in(dir.path(), &flags("always"));
    let load = Load::start(server.port, SHARDS, WRITERS_PER_SHARD, 1000, 0);
    std::thread::sleep(Duration::from_millis(700));
    let (written, _) = load.stop();
    server.kill();
    disk.remount();
    // The directory is read now: it is the log itself that will not be there.
    let names = std::fs::read_dir(disk.path().join("log")).expect("it can be listed still");
    let names = names.map(|entry| entry.expect("listed").path()).collect::<Vec<_>>();
    names.iter().for_each(|name| assert!(name.metadata().is_ok_and(|found| found.len() > 0)));
    disk.break_by(Fault::Read);
    for _ in 0..2 {
        let end = bad_start(free_port(), dir.path(), &flags("always"));
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        assert!(end.stderr.contains("Input/output error"), "{}", end.stderr);
        assert!(end.stderr.contains(&format!("shard-{FAULTY}")) || end.stderr.contains("log/"), "{}", end.stderr);
        // Settings of this test in the environment are none of the server's, which it warns of.
        let said = end.stderr.lines().filter(|line| !line.is_empty() && !line.contains(" WARN ")).count();
        assert_eq!(said, 1, "{}", end.stderr);
        println!("  {}", end.stderr.trim());
    }
    disk.replace();
    let server = Server::shardis_in(dir.path(), &flags("always"));
    assert_all_kept(&server, &written, None, "after two refused starts");
}

// ---- short writes ----------------------------------------------------------------------------------------

#[test]
fn a_write_cut_short_is_final_until_a_restart_and_loses_nothing() {
    if support::server::subject_is_redis() {
        println!("SKIPPED: this is about our own log");
        return;
    }
    for policy in ["always", "everysec"] {
        // Not at the end of a block, so that a record is cut in the middle.
        for limit in [300_000, 77 * 4096] {
            println!("{policy}, files end at {limit}");
            let dir = DataDir::new();
            let mut server = Server::shardis_in(dir.path(), &flags(policy));
            let load = Load::start(server.port, SHARDS, WRITERS_PER_SHARD, 3000, 0);
            server.limit_files(limit);
            let has_failed = |shard| shard_says(&mut server.client(), shard, "failed");
            wait_until("both logs fail", SOON, || (0..SHARDS).all(has_failed));
            let failed = Instant::now();
            std::thread::sleep(Duration::from_millis(300));
            server.limit_files(libc::RLIM_INFINITY);
            std::thread::sleep(Duration::from_millis(300));
            assert!((0..SHARDS).all(has_failed), "never tried again");
            let over = Instant::now();
            let (written, reads) = load.stop();
            assert!(server.is_running());
            assert_reads_went_on(&reads, failed, over);
            let late = written.iter().flat_map(acknowledged).filter(|event| event.sent > failed).count();
            assert_eq!(late, 0, "acknowledged after the failure");
            assert_eq!(server.log().matches("the log has failed").count(), SHARDS as usize, "{}", server.log());
            server.kill();
            let server = Server::shardis_in(dir.path(), &flags(policy));
            assert_all_kept(&server, &written, None, policy);
        }
    }
}

// ---- a slow disk, and one that hangs -----------------------------------------------------------------------

#[test]
fn a_slow_disk_slows_no_reads_and_its_backlog_is_bounded() {
    if !possible(true) {
        return;
    }
    let _turn = one_at_a_time();
    for policy in ["always", "everysec"] {
        println!("{policy}, slow");
        let disk = Disk::faulty(900);
        pile_up(&disk, policy, Pace::Slow, || disk.break_by(Fault::Slow), |()| disk.heal());
    }
}

#[test]
fn a_hung_disk_hangs_no_reads_and_all_is_well_after_the_thaw() {
    if !possible(false) {
        return;
    }
    let _turn = one_at_a_time();
    for policy in ["always", "everysec", "no"] {
        println!("{policy}, hung");
        let disk = Disk::plain(900);
        pile_up(&disk, policy, Pace::Hung, || disk.freeze(), drop);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It still writes: what is behind comes and goes, as one record under way may be large and doesn't count.
    Slow,
    Hung,
}

/// More is written to a shard than its disk takes, in the time between `begin` and `end`.
fn pile_up<F>(disk: &Disk, policy: &str, pace: Pace, begin: impl FnOnce() -> F, end: impl FnOnce(F)) {
    let dir = spread_over(disk, policy);
    let server = Server::shardis_in(dir.path(), &roomy_flags(policy));
    let load = Load::start(server.port, SHARDS, WRITERS_PER_SHARD, 100, 0);
    std::thread::sleep(Duration::from_millis(500));
    let resident_bytes = server.resident_bytes();
    let began = Instant::now();
    let fault = begin();
    let flood = Flood::start(server.port, FAULTY, SHARDS);
    let mut client = server.client();
    wait_until("writers are refused", 2 * SOON, || shard_says(&mut client, FAULTY, "blocked"));
    let refused_after = began.elapsed();
    let mut most_bytes = 0;
    let watched = Instant::now();
    while watched.elapsed() < 4 * Flood::PAUSE * Flood::VALUES as u32 {
        most_bytes = most_bytes.max(field(&mut client, "shardis_wal_backlog_bytes").parse::<u64>().expect("a number"));
        std::thread::sleep(Duration::from_millis(10));
    }
    if pace == Pace::Hung {
        assert_only_the_hung_one_is_behind(&server);
    }
    let grown_mib = server.resident_bytes().saturating_sub(resident_bytes) >> 20;
    let healing = Instant::now();
    println!("  refused after {refused_after:?}, {} MiB behind, {grown_mib} MiB more memory", most_bytes >> 20);
    end(fault);
    wait_until("writes are taken again", 4 * SOON, || field(&mut client, "wal_status") == "ok");
    println!("  taken again after {:?}", healing.elapsed());
    let taken = flood.taken();
    std::thread::sleep(Duration::from_millis(300));
    let (written, reads) = load.stop();
    assert_reads_went_on(&reads, began, healing);
    assert!(most_bytes <= BEHIND_BYTES_MAX && grown_mib <= GROWN_MIB_MAX, "{most_bytes} bytes, {grown_mib} MiB");
    assert!(taken.len() >= 32, "only {} of the flood was taken", taken.len());
    for writer in &written {
        assert!(writer.cut.is_empty(), "shard {}: cut off", writer.shard);
        let after = acknowledged(writer).filter(|event| event.sent > healing).count();
        assert!(after > 0, "shard {}: no writes after it healed", writer.shard);
    }
    server.kill();
    let server = Server::shardis_in(dir.path(), &roomy_flags(policy));
    assert_all_kept(&server, &written, None, policy);
    Flood::assert_kept(&mut server.client(), &taken);
}

/// 64 MiB count against writers. Not counted is a record that is being written, which may be as large, and what came just before.
const BEHIND_BYTES_MAX: u64 = 160 << 20;
/// The values themselves, their edits in the log's buffers, and buffers that grew by doubling.
const GROWN_MIB_MAX: u64 = 512;

/// Writers to the shard are refused, or wait; where its log is behind on their own core they wait, with whatever they write.
fn assert_only_the_hung_one_is_behind(server: &Server) {
    let (mut refused, mut waiting, mut others_taken) = (0, 0, 0);
    for mut client in clients(server) {
        assert_eq!(field(&mut client, "wal_status"), "blocked");
        assert!(field(&mut client, "wal_error").ends_with("its disk is too slow"));
        assert!(shard_says(&mut client, 0, "ok"), "the other shard has another disk");
        assert!(shard_says(&mut client, FAULTY, "blocked"));
        client.set_timeout(READ_P99_MAX);
        match client.try_call(&["SET", &keys_on(FAULTY, SHARDS, "told", 1)[0], "1"]) {
            Ok(reply) => {
                let start = format!("MISCONF Writes are refused: the log of shard {FAULTY} is ");
                assert!(reply.text().starts_with(&start) && reply.text().ends_with("its disk is too slow"), "{reply}");
                refused += 1;
                others_taken += u16::from(client.call(&["SET", &keys_on(0, SHARDS, "told", 1)[0], "1"]) == Resp::ok());
            }
            Err(_) => waiting += 1,
        }
    }
    println!("  of {} clients, {refused} are refused, {waiting} wait", refused + waiting);
    assert!(refused > 0 && others_taken > 0, "{refused} refused, {others_taken} of them write to the other shard");
}

//! `shardis check`, `check --repair` and `dump`, on data directories that the binary made and the tests then damaged.
//! What a start makes of the result is asked of the binary.
#![allow(clippy::disallowed_methods, reason = "tests of a running server wait in real time")]

mod support;

use shards::slot::{SlotMap, slot_of};
use shards::units::ShardId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::client::command;
use support::server::{bad_start, free_port, subject_is_redis};
use support::{Client, DataDir, Resp, Server};

const FLAGS: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--shards", "2"];

/// Bytes of a segment's header; under `always` also what each small record takes.
const BLOCK: usize = 4096;

// ---- sound -----------------------------------------------------------------------------------------------

#[test]
fn what_a_killed_or_stopped_server_leaves_is_sound_and_stays_as_it_is() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..40, Server::kill);
    assert_sound(&dir, &["epoch 1, 2 shards", "shard 0: 1 segments", "transactions over several shards"]);
    write(&dir, 40..80, |server| assert!(server.stop().0.success()));
    assert_sound(&dir, &["shard 1: 2 segments"]);
    let (before, said) = (files(dir.path()), tool(&dir, &["check", "--repair"]));
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(said.text.contains("nothing was changed"), "{}", said.text);
    assert_eq!(files(dir.path()), before);
}

#[test]
fn an_empty_directory_is_sound_and_none_cannot_be_examined() {
    let Some(dir) = fresh() else { return };
    assert_eq!(tool(&dir, &["check"]).code, 0);
    assert!(files(dir.path()).is_empty(), "a check makes nothing");
    for name in ["check", "dump"] {
        let nowhere = run(&[name, "/nonexistent/shardis-data"]);
        assert_eq!(nowhere.code, 2, "{}", nowhere.text);
        assert!(nowhere.text.contains("/nonexistent/shardis-data"), "{}", nowhere.text);
        assert_eq!(run(&[name]).code, 2, "1 would say that something is damaged");
    }
}

#[test]
fn a_torn_tail_is_fine() {
    let Some(dir) = fresh() else { return };
    write_singles(&dir, 0..20);
    let last = segments(&dir, 0).pop().expect("it was written to");
    let mut bytes = std::fs::read(&last).expect("it is there");
    let records = records(&bytes);
    // The middle of the last record never came to the disk.
    bytes[records[records.len() - 1] + 85] ^= 0xff;
    std::fs::write(&last, bytes).expect("the directory is ours");
    assert_sound(&dir, &["shard 0: torn tail (fine)", "fails its checksum", "from record 20 on"]);
    let server = Server::shardis_in(dir.path(), &FLAGS);
    assert_eq!(singles(&mut server.client()), (0..19).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_a_server_uses_is_left_alone() {
    let Some(dir) = fresh() else { return };
    let server = Server::shardis_in(dir.path(), &FLAGS);
    for args in [&["check"][..], &["check", "--repair"], &["dump"]] {
        let said = tool(&dir, args);
        assert_eq!(said.code, 2, "{}", said.text);
        assert!(said.text.contains("in use by a server"), "{}", said.text);
    }
    assert_eq!(server.client().line("SET k v"), Resp::ok());
}

// ---- damage and repair -----------------------------------------------------------------------------------

#[test]
fn a_flipped_bit_is_found_named_and_cut_off_on_all_shards_together() {
    let Some(dir) = fresh() else { return };
    // The second start finds the transactions of the first run settled, and says so in the logs.
    write(&dir, 0..30, Server::kill);
    write(&dir, 30..60, Server::kill);
    let path = segments(&dir, 0).remove(0);
    let mut bytes = std::fs::read(&path).expect("it is there");
    let record = records(&bytes)[20];
    bytes[record + 90] ^= 1;
    std::fs::write(&path, bytes).expect("the directory is ours");
    let named = format!("{}, byte {record}: record 21 is missing: the record fails its checksum", path.display());
    assert_damaged(&dir, &["shard 0: DAMAGED", &named, "it was on disk", "would give up"]);
    assert_refused(&dir);

    let said = assert_repaired(&dir);
    assert!(said.contains("given up") || said.contains("Given up"), "{said}");
    let side = path.with_extension(format!("wal.cut-at-{record}"));
    let kept = std::fs::read(&side).expect("what was cut off is kept");
    assert!(kept.len() > 5 * BLOCK, "{} bytes", kept.len());
    let left = whole_pairs(&dir).expect("no transaction is there by halves");
    assert!((5..=20).contains(&left), "{left} transactions are left");
    // The repaired log goes on.
    write(&dir, left..left + 10, Server::kill);
    assert_sound(&dir, &[]);
    assert_eq!(whole_pairs(&dir), Ok(left + 10));
}

/// The planted failure: without the cut over all shards, halves of transactions would be left, and the test would see them.
#[test]
fn a_cut_of_the_damaged_log_alone_leaves_halves_which_these_tests_notice() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..30, Server::kill);
    write(&dir, 30..60, Server::kill);
    let all = segments(&dir, 0);
    let bytes = std::fs::read(&all[0]).expect("it is there");
    std::fs::write(&all[0], &bytes[..records(&bytes)[20]]).expect("the directory is ours");
    std::fs::remove_file(&all[1]).expect("the directory is ours");
    let halves = whole_pairs(&copy(&dir)).expect_err("transactions are there by halves");
    println!("{halves}");
    // And so does the tool, where a start can't.
    assert_damaged(&dir, &["shard 1: DAMAGED", "a start would not notice"]);
    assert_repaired(&dir);
    assert!(whole_pairs(&dir).expect("no transaction is there by halves") <= 20);
}

#[test]
fn the_log_of_a_shard_that_is_gone_is_missed_by_the_others() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..20, Server::kill);
    let shard = dir.path().join("epoch-1/shard-1");
    std::fs::remove_dir_all(&shard).expect("the directory is ours");
    assert_damaged(&dir, &["shard 1: DAMAGED", "is not there", "all that it had"]);
    assert_refused(&dir);
    assert_repaired(&dir);
    assert_eq!(whole_pairs(&dir), Ok(0));
}

#[test]
fn a_missing_segment_is_noticed_by_those_behind_it() {
    let Some(dir) = fresh() else { return };
    for run in 0..4 {
        write(&dir, run * 10..run * 10 + 10, Server::kill);
    }
    let all = segments(&dir, 1);
    assert_eq!(all.len(), 4);
    std::fs::remove_file(&all[1]).expect("the directory is ours");
    let named = format!("DAMAGED: {}, byte ", all[0].display());
    assert_damaged(&dir, &[&named, "the log goes on in segment 3", "but ends before it"]);
    assert_refused(&dir);
    assert_repaired(&dir);
    for cut_off in &all[2..] {
        assert!(!cut_off.exists() && cut_off.with_extension("wal.cut-at-0").exists(), "{}", cut_off.display());
    }
    let left = whole_pairs(&dir).expect("no transaction is there by halves");
    assert!((8..=10).contains(&left), "{left} transactions are left");
}

#[test]
fn another_shards_file_is_no_segment_of_this_one() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..10, Server::kill);
    write(&dir, 10..20, Server::kill);
    let (here, other) = (segments(&dir, 0).remove(1), segments(&dir, 1).remove(1));
    std::fs::copy(other, &here).expect("the directory is ours");
    let named = format!("DAMAGED: {}, byte 0", here.display());
    assert_damaged(&dir, &[&named, "its header names segment 2, shard 1"]);
    assert_refused(&dir);
    assert_repaired(&dir);
    let left = whole_pairs(&dir).expect("no transaction is there by halves");
    assert!((8..=10).contains(&left), "{left} transactions are left");
}

#[test]
fn damage_to_the_first_header_costs_everything_and_keeps_the_file() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..10, Server::kill);
    let path = segments(&dir, 0).remove(0);
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[60] ^= 1;
    std::fs::write(&path, &bytes).expect("the directory is ours");
    assert_damaged(&dir, &["header fails its checksum"]);
    assert_repaired(&dir);
    assert_eq!(std::fs::read(path.with_extension("wal.cut-at-0")).expect("it is kept"), bytes);
    assert_eq!(whole_pairs(&dir), Ok(0));
    write(&dir, 0..10, Server::kill);
    assert_eq!(whole_pairs(&dir), Ok(10));
}

#[test]
fn a_manifest_that_is_damaged_or_missing_is_reported_and_not_made_up() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..10, Server::kill);
    let path = dir.path().join("MANIFEST");
    let text = std::fs::read_to_string(&path).expect("it is there");
    std::fs::write(&path, text.replace("shards 2", "shards 3")).expect("the directory is ours");
    let named = format!("{} is damaged", path.display());
    assert_damaged(&dir, &[&named, "epoch 1 with 2 shards"]);
    assert_refused(&dir);
    std::fs::remove_file(&path).expect("the directory is ours");
    assert_damaged(&dir, &["is not there", "epoch 1 with 2 shards"]);
    let said = tool(&dir, &["check", "--repair"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("--repair can't help"), "{}", said.text);
    // It can be read all the same.
    let said = tool(&dir, &["dump"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains(" \"a:"), "{}", said.text);
}

#[test]
fn a_repair_that_was_broken_off_is_done_again() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..30, Server::kill);
    let path = segments(&dir, 0).remove(0);
    let mut bytes = std::fs::read(&path).expect("it is there");
    let record = records(&bytes)[12];
    bytes[record + 90] ^= 1;
    std::fs::write(&path, bytes).expect("the directory is ours");
    // Of an earlier attempt: half of a side file, and of a header.
    let side = path.with_extension(format!("wal.cut-at-{record}"));
    std::fs::write(&side, b"half of it").expect("the directory is ours");
    std::fs::write(path.with_file_name("00000000000000000002.new"), [1; 100]).expect("the directory is ours");
    assert_refused(&dir);
    assert_repaired(&dir);
    assert_eq!(std::fs::read(&side).expect("it is left alone"), b"half of it");
    assert!(side.with_extension(format!("cut-at-{record}.2")).exists());
    // What is done last may be left out: with the bytes back in their places they are still never read.
    let cut = std::fs::read(&path).expect("it is there");
    let kept = std::fs::read(side.with_extension(format!("cut-at-{record}.2"))).expect("it is there");
    std::fs::write(&path, [cut, kept].concat()).expect("the directory is ours");
    assert_sound(&dir, &[]);
    assert!(whole_pairs(&dir).expect("no transaction is there by halves") < 30);
}

#[test]
fn a_newer_programs_file_is_not_called_damaged() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..10, Server::kill);
    let path = segments(&dir, 0).remove(0);
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[8] = 9;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..104]);
    bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    std::fs::write(&path, bytes).expect("the directory is ours");
    let before = files(dir.path());
    for args in [&["check"][..], &["check", "--repair"]] {
        let said = tool(&dir, args);
        assert_eq!(said.code, 2, "{}", said.text);
        assert!(said.text.contains("newer program"), "{}", said.text);
    }
    assert_eq!(files(dir.path()), before);
}

// ---- snapshots -------------------------------------------------------------------------------------------

#[test]
fn a_snapshot_and_the_log_behind_it_are_checked_and_repaired() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..20, save);
    write(&dir, 20..40, Server::kill);
    assert_sound(&dir, &["epoch 1, 2 shards, snapshot 1", "20 entries", "shard 0: snapshot of", "up to record"]);
    assert_eq!(whole_pairs(&copy(&dir)), Ok(40));
    let path = segments(&dir, 0).pop().expect("it was written to");
    let mut bytes = std::fs::read(&path).expect("it is there");
    let record = records(&bytes)[6];
    bytes[record + 90] ^= 1;
    std::fs::write(&path, bytes).expect("the directory is ours");
    assert_damaged(&dir, &[&format!("DAMAGED: {}, byte {record}: record", path.display())]);
    assert_refused(&dir);
    assert_repaired(&dir);
    let left = whole_pairs(&dir).expect("no transaction is there by halves");
    assert!((20..40).contains(&left), "{left} transactions are left");
    write(&dir, left..left + 5, save);
    assert_sound(&dir, &["snapshot 2"]);
    assert_eq!(whole_pairs(&dir), Ok(left + 5));
}

#[test]
fn the_first_segment_behind_a_snapshot_may_be_lost_as_a_whole() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..20, save);
    write(&dir, 20..40, Server::kill);
    for path in segments(&dir, 0) {
        let mut bytes = std::fs::read(&path).expect("it is there");
        bytes[60] ^= 1;
        std::fs::write(&path, bytes).expect("the directory is ours");
    }
    assert_damaged(&dir, &["header fails its checksum"]);
    assert_repaired(&dir);
    assert_eq!(whole_pairs(&dir), Ok(20));
}

#[test]
fn a_damaged_snapshot_is_named_and_no_repair_is_pretended() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..20, save);
    let path = dir.path().join("epoch-1/shard-1/00000000000000000001.snapshot");
    let whole = std::fs::read(&path).expect("it is there");
    let mut bytes = whole.clone();
    bytes[BLOCK + 100] ^= 1;
    std::fs::write(&path, &bytes).expect("the directory is ours");
    let named = format!("shard 1: DAMAGED: {}, byte {BLOCK}: the block fails its checksum", path.display());
    assert_damaged(&dir, &[&named, "--repair can't help"]);
    assert_refused(&dir);
    let before = files(dir.path());
    let said = tool(&dir, &["check", "--repair"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert_eq!(files(dir.path()), before);
    let said = tool(&dir, &["dump"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains(&format!("not read from byte {BLOCK} on")), "{}", said.text);
    assert_eq!(edit_lines(&said.text).iter().filter(|line| line.starts_with("0 ")).count(), 20, "{}", said.text);

    std::fs::write(&path, &whole[..whole.len() - BLOCK]).expect("the directory is ours");
    assert_damaged(&dir, &["ends without a footer"]);
    std::fs::remove_file(&path).expect("the directory is ours");
    assert_damaged(&dir, &["it is not there"]);
}

// ---- dump ------------------------------------------------------------------------------------------------

#[test]
fn a_dump_has_one_line_for_each_edit() {
    let Some(dir) = fresh() else { return };
    let server = Server::shardis_in(dir.path(), &[&FLAGS[..4], &["--shards", "1"]].concat());
    let mut client = server.client();
    client.line("SET greeting \"two\\nwords\" PXAT 9999999999000");
    client.line("SET secret hidden");
    client.line("INCR number");
    client.line("DEL secret");
    client.line("FLUSHALL");
    server.kill();
    let said = tool(&dir, &["dump"]);
    assert_eq!(said.code, 0, "{}", said.text);
    let edits = edit_lines(&said.text);
    let ends = [
        r#" put 0 "greeting" "two\nwords" expires 2286-11-20T17:46:39.000Z"#,
        r#" put 0 "secret" "hidden""#,
        r#" put 0 "number" 1"#,
        r#" remove 0 "secret""#,
        " flush-all",
    ];
    assert_eq!(edits.len(), ends.len(), "{}", said.text);
    edits.iter().zip(ends).for_each(|(line, end)| assert!(line.ends_with(end), "{line} should end with {end}"));
    assert!(edits[0].starts_with("0 0 1 2"), "{}", edits[0]);

    let keys = tool(&dir, &["dump", "--keys"]).text;
    assert!(keys.contains("\"secret\"") && !keys.contains("hidden"), "{keys}");
    let offset = edits[2].split(' ').nth(1).expect("the offset comes second");
    let later = tool(&dir, &["dump", "--from-offset", offset]).text;
    assert_eq!(edit_lines(&later), edits[2..]);
    assert_eq!(tool(&dir, &["dump", "--shard", "1"]).code, 2);
}

#[test]
fn a_dump_shows_transactions_and_goes_on_behind_damage() {
    let Some(dir) = fresh() else { return };
    write(&dir, 0..30, Server::kill);
    let whole = tool(&dir, &["dump", "--shard", "0"]);
    assert_eq!((whole.code, edit_lines(&whole.text).len()), (0, 30), "{}", whole.text);
    assert!(whole.text.contains("on shards 0 1") && whole.text.contains("is closed"), "{}", whole.text);
    let path = segments(&dir, 0).remove(0);
    let mut bytes = std::fs::read(&path).expect("it is there");
    let record = records(&bytes)[12];
    bytes[record + 90] ^= 1;
    std::fs::write(&path, bytes).expect("the directory is ours");
    let said = tool(&dir, &["dump", "--shard", "0"]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains(&format!("# byte {record}: ")), "{}", said.text);
    let lines = edit_lines(&said.text);
    let (log, behind): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.starts_with("0 "));
    assert!(log.len() >= 6 && behind.len() >= 6 && behind.iter().all(|line| line.starts_with("0! ")), "{}", said.text);
    assert!((28..30).contains(&lines.len()), "one record is lost: {}", said.text);
}

// ---- import ----------------------------------------------------------------------------------------------

/// An RDB file of strings as long as a MiB.
fn file_of_strings(count: u8) -> Vec<u8> {
    const LENGTH_32: u8 = 0x80;
    let value = vec![b'v'; 1 << 20];
    let mut file = b"REDIS0010".to_vec();
    for number in 0..count {
        file.extend_from_slice(&[0, 1, number, LENGTH_32]);
        file.extend_from_slice(&(value.len() as u32).to_be_bytes());
        file.extend_from_slice(&value);
    }
    // The end, and no checksum.
    file.push(0xff);
    file.extend_from_slice(&[0; 8]);
    file
}

#[test]
fn an_import_that_nobody_watches_tells_its_progress_in_plain_lines() {
    let Some(dir) = fresh() else { return };
    let server = Server::shardis(&["--shards", "2"]);
    let path = dir.path().join("strings.rdb");
    std::fs::write(&path, file_of_strings(40)).expect("written");
    let file = path.to_str().expect("a path of ASCII");
    let said = run(&["import", file, "--port", &server.port.to_string()]);
    assert_eq!((said.code, said.text.contains(['\r', '\x1b'])), (0, false), "{:?}", said.text);
    let lines: Vec<&str> = said.text.lines().collect();
    assert_eq!(lines, ["40 keys imported", "16 of 40 MiB, 16 keys", "32 of 40 MiB, 32 keys"]);
}

// ---- what the tests are made of --------------------------------------------------------------------------

fn fresh() -> Option<DataDir> {
    if subject_is_redis() {
        println!("SKIPPED: redis-server has other tools");
        return None;
    }
    Some(DataDir::new())
}

struct Said {
    code: i32,
    /// On both streams.
    text: String,
}

fn run(args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_shardis")).args(args).output().expect("it can be started");
    let text = [output.stdout, output.stderr].concat();
    Said { code: output.status.code().expect("no signal"), text: String::from_utf8_lossy(&text).into_owned() }
}

fn tool(dir: &DataDir, args: &[&str]) -> Said {
    run(&[args, &[dir.path().to_str().expect("a path of ASCII")]].concat())
}

#[track_caller]
fn assert_sound(dir: &DataDir, contains: &[&str]) {
    let before = files(dir.path());
    let said = tool(dir, &["check"]);
    assert_eq!(said.code, 0, "{}", said.text);
    contains.iter().for_each(|part| assert!(said.text.contains(part), "{part} is not in: {}", said.text));
    assert_eq!(files(dir.path()), before, "a check changes nothing");
}

#[track_caller]
fn assert_damaged(dir: &DataDir, contains: &[&str]) {
    let before = files(dir.path());
    let said = tool(dir, &["check"]);
    println!("{}", said.text);
    assert_eq!(said.code, 1, "{}", said.text);
    contains.iter().for_each(|part| assert!(said.text.contains(part), "{part} is not in: {}", said.text));
    assert_eq!(files(dir.path()), before, "a check changes nothing");
}

/// What it said, once a second run finds nothing more to do.
#[track_caller]
fn assert_repaired(dir: &DataDir) -> String {
    let said = tool(dir, &["check", "--repair"]);
    println!("{}", said.text);
    assert_eq!(said.code, 0, "{}", said.text);
    let (before, again) = (files(dir.path()), tool(dir, &["check", "--repair"]));
    assert_eq!(again.code, 0, "{}", again.text);
    assert!(again.text.contains("nothing was changed"), "{}", again.text);
    assert_eq!(files(dir.path()), before);
    said.text
}

#[track_caller]
fn assert_refused(dir: &DataDir) {
    let end = bad_start(free_port(), dir.path(), &FLAGS);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("damaged") || end.stderr.contains("No such file"), "{}", end.stderr);
}

/// Takes a snapshot, and ends the server.
fn save(server: Server) {
    assert_eq!(server.client().line("SAVE"), Resp::ok());
    server.kill();
}

/// One transaction over both shards for each number, one after the other, and then the end of the server.
fn write(dir: &DataDir, numbers: std::ops::Range<usize>, end: impl FnOnce(Server)) {
    let server = Server::shardis_in(dir.path(), &FLAGS);
    let mut client = server.client();
    for number in numbers {
        let [a, b] = pair(number);
        assert_eq!(client.call(&["MSET", &a, &number.to_string(), &b, &number.to_string()]), Resp::ok());
    }
    end(server);
}

/// How many transactions are there, from the first on; else what is there by halves, or out of order.
fn whole_pairs(dir: &DataDir) -> Result<usize, String> {
    let server = Server::shardis_in(dir.path(), &FLAGS);
    let mut client = server.client();
    let there = (0..200).map(|number| pair(number).map(|key| client.call(&["EXISTS", &key]) == Resp::Integer(1)));
    let there: Vec<[bool; 2]> = there.collect();
    let count = there.iter().take_while(|pair| **pair == [true, true]).count();
    match there[count..].iter().position(|pair| *pair != [false, false]) {
        None => Ok(count),
        Some(at) => Err(format!("after {count} transactions, {} is there as {:?}", count + at, there[count + at])),
    }
}

/// A key on shard 0 and one on shard 1.
fn pair(number: usize) -> [String; 2] {
    [on_shard(0, &format!("a:{number}")), on_shard(1, &format!("b:{number}"))]
}

fn on_shard(shard: u16, name: &str) -> String {
    let names = (0..).map(|n| format!("{name}:{n}"));
    let is_there = |key: &String| SlotMap::new(2).shard_of(slot_of(key.as_bytes())) == ShardId(shard);
    names.into_iter().find(is_there).expect("every second key is there")
}

/// A record on shard 0 for each number.
fn write_singles(dir: &DataDir, numbers: std::ops::Range<usize>) {
    let server = Server::shardis_in(dir.path(), &FLAGS);
    let mut client: Client = server.client();
    for number in numbers {
        let key = on_shard(0, &format!("s:{number}"));
        let replies = client.pipeline(&[command(&["SET", &key, "v"])]).expect("it is answered");
        assert_eq!(replies, [Resp::ok()]);
    }
    server.kill();
}

fn singles(client: &mut Client) -> Vec<usize> {
    (0..100).filter(|n| client.call(&["EXISTS", &on_shard(0, &format!("s:{n}"))]) == Resp::Integer(1)).collect()
}

/// Of the first epoch, that were begun.
fn segments(dir: &DataDir, shard: u16) -> Vec<PathBuf> {
    let folder = dir.path().join(format!("epoch-1/shard-{shard}"));
    let entries = std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let is_begun = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes[..BLOCK].iter().any(|byte| *byte != 0));
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
    found.retain(is_begun);
    found.sort();
    found
}

/// Where they begin, in a segment of whole blocks.
fn records(bytes: &[u8]) -> Vec<usize> {
    (BLOCK..bytes.len()).step_by(BLOCK).filter(|at| bytes[*at..*at + 4] != [0; 4]).collect()
}

/// Lines of a dump that are no remarks.
fn edit_lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// Every file below `path` with what it holds; the lock may come into being.
fn files(path: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") {
            let bytes = std::fs::read(&path).expect("it can be read");
            found.insert(path, crc32fast::hash(&bytes));
        }
    }
    found
}

fn copy(dir: &DataDir) -> DataDir {
    let copy = DataDir::new();
    for path in files(dir.path()).into_keys() {
        let to = copy.path().join(path.strip_prefix(dir.path()).expect("it was found below"));
        std::fs::create_dir_all(to.parent().expect("a file is in a directory")).expect("the directory is ours");
        std::fs::copy(path, to).expect("the directory is ours");
    }
    copy
}

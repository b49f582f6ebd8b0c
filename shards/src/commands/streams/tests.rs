//! What the script of streams can't see: clocks, edits, wishes to wait, memory.

use crate::commands::strings::tested::Shard;
use crate::types::Kind;
use crate::waiting::{Awaited, Null, Readers, Wait};

#[test]
fn ids_go_up_when_the_clock_goes_back() {
    let mut shard = Shard::new();
    let first = shard.run("XADD s * f v");
    assert_eq!(first, "$15\r\n1700000000000-0\r\n");
    shard.now.wall_ms -= 5000;
    assert_eq!(shard.run("XADD s * f v"), "$15\r\n1700000000000-1\r\n");
    shard.now.wall_ms += 5001;
    assert_eq!(shard.run("XADD s * f v"), "$15\r\n1700000000001-0\r\n");
    shard.check_replica();
}

#[test]
fn who_waits_is_tried_again_with_the_ids_that_were_meant() {
    let mut shard = Shard::new();
    shard.run("XADD s 5-5 f v");
    let reply = shard.reply_to(&[&b"XREAD"[..], b"BLOCK", b"20", b"COUNT", b"3", b"STREAMS", b"s", b"t", b"$", b"7"]);
    let wait = Wait::in_place_of(&reply).expect("there is nothing yet");
    let retry = vec![&b"XREAD"[..], b"BLOCK", b"20", b"COUNT", b"3", b"STREAMS", b"s", b"t", b"5-5", b"7-0"];
    let (kind, readers, keys) = (Kind::Stream, Readers::Shared, Awaited::All);
    assert_eq!(wait, Wait { timeout_ms: 20, null: Null::Array, kind, readers, keys, retry: retry.clone() });
    shard.run("XADD s 5-6 f v");
    assert!(shard.run_words(&retry).starts_with("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-6\r\n"));
}

#[test]
fn what_changes_nothing_is_no_edit() {
    let mut shard = Shard::new();
    assert_eq!(shard.edits("XADD s 1-1 f v"), 1);
    for line in [
        "XADD s 1-1 f v",
        "XADD t NOMKSTREAM * f v",
        "XDEL s 3-3",
        "XTRIM s MAXLEN 1",
        "XTRIM s MINID ~ 1",
        "XSETID s 1-1",
        "XCFGSET s IDMP-MAXSIZE 100",
        "XDEL t 1-1",
        "XTRIM t MAXLEN 0",
    ] {
        assert_eq!(shard.edits(line), 0, "{line}");
    }
    assert_eq!(shard.edits("XADD s MAXLEN 1 2-1 f v"), 2);
    assert_eq!(shard.edits("XADD s IDMP p i * f v"), 1);
    assert_eq!(shard.edits("XADD s IDMP p i * f v"), 1);
    assert_eq!(shard.edits("XCFGSET s IDMP-MAXSIZE 7"), 1);
    assert_eq!(shard.edits("XTRIM s MAXLEN 0"), 1);
    shard.check_replica();
}

#[test]
fn trimming_deletes_references_or_spares_what_is_referred_to() {
    let mut shard = Shard::new();
    for line in [
        "XADD s 1-1 f v",
        "XADD s 1-2 f v",
        "XADD s 1-3 f v",
        "XADD s 1-4 f v",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c COUNT 3 STREAMS s >",
        "XACK s g 1-2",
    ] {
        assert!(!shard.run(line).starts_with('-'), "{line}");
    }
    // Neither is 1-1 acknowledged, nor is 1-4 read.
    assert_eq!(shard.run("XTRIM s MAXLEN 0 ACKED"), ":1\r\n");
    assert_eq!(shard.run("XLEN s"), ":3\r\n");
    assert!(shard.run("XPENDING s g").starts_with("*4\r\n:2\r\n"));
    assert_eq!(shard.run("XTRIM s MINID 1-3 KEEPREF"), ":1\r\n");
    assert!(shard.run("XPENDING s g").starts_with("*4\r\n:2\r\n"));
    assert_eq!(shard.run("XTRIM s MINID 1-4 DELREF"), ":1\r\n");
    assert!(shard.run("XPENDING s g").starts_with("*4\r\n:1\r\n"), "1-1 was gone before");
    shard.check_replica();
}

#[test]
fn a_small_entry_takes_little_more_than_its_value() {
    const ENTRIES: usize = 20_000;
    let mut shard = Shard::new();
    let empty = shard.bytes_used();
    for number in 0..ENTRIES {
        shard.advance((number % 3 == 0) as u64);
        shard.run("XADD s * field value");
    }
    let each = (shard.bytes_used() - empty) as f64 / ENTRIES as f64;
    assert!(each < 12.0, "{each} bytes for each entry");
}

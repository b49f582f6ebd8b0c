//! What scripts can't see of groups: edits, waiting, and how it ends.

use crate::commands::strings::tested::Shard;
use crate::types::Kind;
use crate::waiting::{Awaited, Null, Readers, Wait};

fn with_group() -> Shard {
    let mut shard = Shard::new();
    for line in ["XADD s 1 f v", "XADD s 2 f v", "XADD s 3 f v", "XGROUP CREATE s g 0"] {
        shard.run(line);
    }
    shard
}

#[test]
fn what_changes_nothing_is_no_edit() {
    let mut shard = with_group();
    for line in [
        "XGROUP CREATE s g 0",
        "XGROUP SETID s g 0",
        "XGROUP DESTROY s nog",
        "XGROUP DELCONSUMER s g c",
        "XREADGROUP GROUP g c STREAMS s x",
        "XREADGROUP GROUP nog c STREAMS s >",
        "XCLAIM s g c 0 1",
        "XAUTOCLAIM s g c 0 0",
        "XACK s g 1 2",
        "XNACK s g FAIL IDS 1 1",
        "XACKDEL s g IDS 1 1",
        "XDELEX s ACKED IDS 1 1",
        "XDELEX s DELREF IDS 1 9",
        "XPENDING s g",
    ] {
        assert_eq!(shard.edits(line), 0, "{line}");
    }
    for line in [
        "XGROUP CREATECONSUMER s g c",
        "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
        "XCLAIM s g d 0 1",
        "XREADGROUP GROUP g c NOACK STREAMS s >",
        "XNACK s g FAIL IDS 2 1 2",
        "XACK s g 1 2",
        "XGROUP SETID s g 0",
        "XGROUP DELCONSUMER s g c",
        "XGROUP DESTROY s g",
    ] {
        assert_eq!(shard.edits(line), 1, "{line}");
    }
}

#[test]
fn history_without_entries_is_an_edit_only_as_time_passes() {
    let mut shard = with_group();
    assert_eq!(shard.edits("XREADGROUP GROUP g c STREAMS s 0"), 1, "makes the consumer");
    assert_eq!(shard.edits("XREADGROUP GROUP g c STREAMS s 0"), 0);
    shard.advance(1);
    assert_eq!(shard.edits("XREADGROUP GROUP g c STREAMS s 0"), 1, "says when it was seen");
}

#[test]
fn a_hundred_deliveries_are_a_short_edit() {
    let mut shard = Shard::new();
    (1..=100).for_each(|id| drop(shard.run(&format!("XADD s 17000000000{id:02} f v"))));
    shard.run("XGROUP CREATE s group 0");
    let bytes = shard.edit_bytes("XREADGROUP GROUP group consumer COUNT 100 STREAMS s >");
    assert!(bytes < 350, "{bytes} bytes");
}

#[test]
fn a_reader_that_finds_nothing_waits_without_an_edit() {
    let mut shard = with_group();
    shard.run("XREADGROUP GROUP g c STREAMS s >");
    shard.advance(5);
    let line = "XREADGROUP GROUP g d BLOCK 20 STREAMS s >";
    assert_eq!(shard.edits(line), 0);
    let reply = shard.reply_to(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    let wait = Wait::in_place_of(&reply).expect("it waits");
    assert_eq!((wait.timeout_ms, wait.null, wait.kind), (20, Null::Array, Kind::Stream));
    // In one line with the others of its group.
    assert!(matches!(wait.readers, Readers::Group(_)));
    assert_eq!((wait.keys, wait.retry.len()), (Awaited::All, 0));
    // Its own history it gets at once, even if there is none.
    assert_eq!(shard.run("XREADGROUP GROUP g d BLOCK 20 STREAMS s 0"), "*1\r\n*2\r\n$1\r\ns\r\n*0\r\n");
}

#[test]
fn a_reader_that_is_woken_learns_what_became_of_its_stream() {
    const NO_GROUP: &str = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option\r\n";
    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    for (command, reply) in [("DEL s", NO_GROUP), ("XGROUP DESTROY s g", NO_GROUP), ("SET s x", WRONG_TYPE)] {
        let mut shard = with_group();
        shard.run("XREADGROUP GROUP g c STREAMS s >");
        shard.run(command);
        assert_eq!(shard.run("XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), reply, "{command}");
    }
    let mut shard = with_group();
    shard.run("XREADGROUP GROUP g c STREAMS s >");
    shard.run("PEXPIRE s 10");
    shard.advance(10);
    assert_eq!(shard.run("XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), NO_GROUP);
}

#[test]
fn of_those_that_wait_for_longest_the_longest_comes_first() {
    let mut shard = with_group();
    for (consumer, id) in [("a", 2), ("b", 3), ("c", 1)] {
        shard.run(&format!("XGROUP SETID s g {}", id - 1));
        shard.run(&format!("XREADGROUP GROUP g {consumer} COUNT 1 STREAMS s >"));
        shard.advance(100);
    }
    shard.run("XGROUP SETID s g 3");
    let reply = shard.run("XREADGROUP GROUP g d COUNT 2 CLAIM 150 STREAMS s >");
    let entry = |id, idle| format!("*4\r\n$3\r\n{id}-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:{idle}\r\n:1\r\n");
    assert_eq!(reply, format!("*1\r\n*2\r\n$1\r\ns\r\n*2\r\n{}{}", entry(2, 300), entry(3, 200)));
    assert_eq!(shard.run("XREADGROUP GROUP g d CLAIM 150 STREAMS s >"), "*-1\r\n");
}

#[test]
fn entries_that_are_gone_do_not_hide_others_that_can_be_claimed() {
    let mut shard = with_group();
    shard.run("XREADGROUP GROUP g a STREAMS s >");
    shard.run("XDEL s 1 2");
    shard.advance(100);
    let reply = shard.run("XREADGROUP GROUP g b COUNT 1 CLAIM 50 STREAMS s >");
    assert!(reply.contains("3-0"), "{reply}");
    assert_eq!(shard.run("XPENDING s g"), "*4\r\n:1\r\n$3\r\n3-0\r\n$3\r\n3-0\r\n*1\r\n*2\r\n$1\r\nb\r\n$1\r\n1\r\n");
}

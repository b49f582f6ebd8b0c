//! Values written and read back, and bytes of anybody.

use super::*;
use crate::keyspace::Value;
use crate::types::stream::{Ids, Stream, StreamChange};
use crate::types::{Collection, Kind, Large, Thresholds, View};
use crate::units::Now;

/// What a payload says, piece by piece, as text; the caller's checksum aside.
fn pieces(value: &[u8], version: u16) -> Result<Vec<String>, RdbError> {
    let mut reader = Reader::of(value);
    let kind = ValueType::new(reader.byte()?, version)?;
    let mut found = Vec::new();
    kind.read(&mut reader, &mut |item| {
        found.push(match item {
            Item::String(bytes) | Item::Element(bytes) | Item::Member(bytes) => bytes.escape_ascii().to_string(),
            other => format!("{other:?}"),
        });
        Ok(())
    })?;
    if reader.remaining() == 0 { Ok(found) } else { Err(RdbError::Corrupt("more than a value")) }
}

fn written(write: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    write(&mut writer);
    writer.finish().expect("a vector takes everything")
}

fn words() -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> =
        ["", "0", "-1", "127", "128", "-129", "4095", "-4096", "32767", "-32768", "65536", "8388608"]
            .map(|word| word.as_bytes().to_vec())
            .to_vec();
    words.extend(["2147483648", "-9223372036854775808", "007", "a\0b"].map(|word| word.as_bytes().to_vec()));
    words.extend([20, 63, 64, 127, 128, 4095, 4096, 20_000].map(|len| vec![b'x'; len]));
    words.extend([62, 63, 126, 16_370, 16_380].map(|len| (0..len).map(|n| (n * n) as u8).collect::<Vec<u8>>()));
    words
}

#[test]
fn strings_lists_and_sets_come_back_as_they_were_written() {
    let escaped = |words: &[Vec<u8>]| words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>();
    let words = words();
    for word in &words {
        let value = written(|writer| write_string(writer, None, word));
        assert_eq!(pieces(&value, VERSION), Ok(escaped(std::slice::from_ref(word))));
    }
    let walk = |each: &mut dyn FnMut(&[u8])| words.iter().for_each(|word| each(word));
    let list = written(|writer| write_list(writer, None, &walk));
    assert_eq!(pieces(&list, VERSION), Ok(escaped(&words)));
    let set = written(|writer| write_set(writer, None, words.len(), &walk));
    assert_eq!(pieces(&set, VERSION), Ok(escaped(&words)));
    for top in [300, 100_000, 1 << 40] {
        let walk =
            |each: &mut dyn FnMut(&[u8])| [top, -top, 0].iter().for_each(|n: &i64| each(n.to_string().as_bytes()));
        let set = written(|writer| write_set(writer, None, 3, &walk));
        assert_eq!(pieces(&set, VERSION), Ok(vec![(-top).to_string(), "0".into(), top.to_string()]));
    }
}

#[test]
fn hashes_and_sorted_sets_come_back_in_either_form() {
    let words = words();
    for words in [&words[..4], &words[..]] {
        let walk = |each: &mut dyn FnMut(&[u8], &[u8])| words.iter().for_each(|word| each(word, word));
        let hash = written(|writer| write_hash(writer, None, words.len(), &walk));
        let expected: Vec<String> = words
            .iter()
            .map(|word| format!("{:?}", Item::Field { field: word, value: word, deadline_ms: None }))
            .collect();
        assert_eq!(pieces(&hash, VERSION), Ok(expected));
        let scores = [0.0, -0.0, 1.5, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, 17179869184.0];
        let scored: Vec<(&Vec<u8>, f64)> = words.iter().zip(scores.into_iter().cycle()).collect();
        let walk = |each: &mut dyn FnMut(&[u8], f64)| scored.iter().for_each(|(word, score)| each(word, *score));
        let sorted_set = written(|writer| write_sorted_set(writer, None, words.len(), &walk));
        let expected: Vec<String> =
            scored.iter().map(|(word, score)| format!("{:?}", Item::Scored(word, *score))).collect();
        assert_eq!(pieces(&sorted_set, VERSION), Ok(expected));
    }
}

#[test]
fn hashes_with_deadlines_of_fields_come_back() {
    let words = words();
    let deadline_ms = |at: usize| (at % 3 > 0).then_some(1_700_000_000_000 - at as u64 * 1_000_000);
    let fields = || words.iter().enumerate().map(|(at, word)| (word, deadline_ms(at)));
    let walk = |each: &mut dyn FnMut(&[u8], &[u8], Option<u64>)| {
        fields().for_each(|(word, deadline_ms)| each(word, word, deadline_ms));
    };
    let hash = written(|writer| write_limited_hash(writer, None, words.len(), &walk));
    let expected: Vec<String> = fields()
        .map(|(word, deadline_ms)| format!("{:?}", Item::Field { field: word, value: word, deadline_ms }))
        .collect();
    assert_eq!(pieces(&hash, VERSION_MAX), Ok(expected));
}

/// As redis-server 7.4 writes one field with a deadline and one without: a list of fields, and a listpack.
#[test]
fn both_forms_of_redis_are_read() {
    let first = 1_700_000_000_000u64.to_le_bytes();
    let fields = [&[24][..], &first, &[2], &[1], b"\x01a\x011", &[0], b"\x01b\x012"].concat();
    let elements = b"\x81a\x02\x01\x01\xf4\x00\x68\xe5\xcf\x8b\x01\x00\x00\x09\x81b\x02\x02\x01\x00\x01\xff";
    let pack = [&(6 + elements.len() as u32).to_le_bytes()[..], &[6, 0], elements].concat();
    let listpack = [&[25][..], &first, &[pack.len() as u8], &pack].concat();
    let expected = [(b"a", b"1", Some(1_700_000_000_000)), (b"b", b"2", None)];
    let expected =
        expected.map(|(field, value, deadline_ms)| format!("{:?}", Item::Field { field, value, deadline_ms }));
    for value in [fields, listpack] {
        assert_eq!(pieces(&value, VERSION_MAX), Ok(expected.to_vec()));
    }
}

#[test]
fn mutated_values_are_read_or_refused() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let words = words();
    let each_word = |each: &mut dyn FnMut(&[u8])| words.iter().take(20).for_each(|word| each(word));
    let each_pair = |each: &mut dyn FnMut(&[u8], &[u8])| words.iter().take(12).for_each(|word| each(word, word));
    let corpus = [
        written(|writer| write_list(writer, None, &each_word)),
        written(|writer| write_set(writer, None, 20, &each_word)),
        written(|writer| write_hash(writer, None, 12, &each_pair)),
    ];
    for _ in 0..20_000 {
        let mut value = corpus[random.usize(..corpus.len())].clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..value.len());
            value[at] = random.u8(..);
        }
        if random.bool() {
            value[0] = random.u8(..26);
        }
        value.truncate(random.usize(1..=value.len()));
        let _ = pieces(&value, if random.bool() { VERSION } else { VERSION_VALKEY });
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.trim().bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Three entries, one deleted, a group of two consumers: `DUMP` of redis-server 7.0.15.
const STREAM: &str = include_str!("../../../tests/corpora/rdb/stream-7.0.hex");

#[test]
fn a_stream_of_redis_is_read_with_its_groups() {
    let payload = bytes_of(STREAM);
    let found = pieces(&payload[..payload.len() - 10], VERSION).expect("redis-server made it");
    assert_eq!(found.iter().filter(|piece| piece.starts_with("Entry")).count(), 3);
    assert_eq!(found.iter().filter(|piece| piece.starts_with("Consumer")).count(), 2);
    let pending: Vec<&String> = found.iter().filter(|piece| piece.starts_with("Pending")).collect();
    assert_eq!(pending.len(), 2);
    assert!(pending[1].contains("deliveries: 4"), "{}", pending[1]);
}

#[test]
fn a_stream_of_redis_comes_back_with_its_groups() {
    let read = |payload: &[u8]| {
        let read = Payload::verify(payload).and_then(Payload::read).expect("it is a payload");
        let NewValue::Collection(Kind::Stream, changes) = read else { panic!("it is a stream: {read:?}") };
        assert_eq!(Stream::verify(&changes), Ok(()));
        Stream::change_small(&mut Vec::new(), &changes, &Thresholds::default()).expect("a stream is large")
    };
    let stream = read(&bytes_of(STREAM));
    assert_eq!(stream.view().len(), 3);
    let now = Now::at(1_700_000_000_000);
    let large = Large::Stream(stream.clone());
    let payload = dump(&Value::Large(&large), now).expect("there is something");
    assert_eq!(read(&payload).view().digest(), stream.view().digest());
}

#[test]
fn what_is_pending_for_nobody_is_written_as_pending_for_one_without_a_name() {
    let (group, id) = (&b"g"[..], StreamId { ms: 1, seq: 1 });
    let (mut changes, mut ids) = (Vec::new(), Vec::new());
    StreamChange::encode_append(id, [(&b"f"[..], &b"v"[..])].into_iter(), &mut changes);
    StreamChange::GroupCreate { group, delivered: id, read: Some(1) }.encode(&mut changes);
    let ids = Ids::of(&[id], &mut ids);
    StreamChange::Pend { group, consumer: b"c", delivered_ms: 5, count: 1, ids }.encode(&mut changes);
    StreamChange::Release { group, id, count: 2 }.encode(&mut changes);
    let mut stream = Stream::default();
    stream.change(&changes, &Thresholds::default());
    let large = Large::Stream(stream);
    let payload = dump(&Value::Large(&large), Now::at(5)).expect("there is something");
    let found = pieces(&payload[..payload.len() - 10], VERSION).expect("it is well-formed");
    assert_eq!(found.iter().filter(|piece| piece.starts_with("Consumer")).count(), 2);
    let pending = found.iter().find(|piece| piece.starts_with("Pending")).expect("it is still pending");
    assert!(pending.contains("deliveries: 2") && pending.contains("consumer: []"), "{pending}");
}

#[test]
fn mutated_streams_are_read_or_refused() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let payload = bytes_of(STREAM);
    for _ in 0..20_000 {
        let mut value = payload[..payload.len() - 10].to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(1..value.len());
            value[at] = random.u8(..);
        }
        value[0] = [15, 19, 21][random.usize(..3)];
        let _ = pieces(&value, VERSION);
    }
}

//! DUMP and RESTORE: values as payloads of Redis' RDB format, which redis-server 7.0 and later exchange with us.

use crate::call::Call;
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::NewDeadline;
use crate::numbers::integer;
use crate::rdb;
use crate::rdb::{NewValue, Payload};
use crate::units::Deadline;

const BAD_DATA: CommandError = CommandError::new("ERR Bad data format");

/// DUMP key
pub(super) fn dump(call: &mut Call<'_>) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        call.reply.null();
        return Ok(());
    };
    match rdb::dump(&entry.value(), call.now) {
        Some(payload) => call.reply.bulk(&payload),
        None => call.reply.null(),
    }
    Ok(())
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
pub(super) fn restore(call: &mut Call<'_>) -> CommandResult {
    const BUSY_KEY: CommandError = CommandError::new("BUSYKEY Target key name already exists.");
    const BAD_TTL: CommandError = CommandError::new("ERR Invalid TTL value, must be >= 0");
    const BAD_PAYLOAD: CommandError = CommandError::new("ERR DUMP payload version or checksum are wrong");
    let (key, options) = (call.args.at(1), options(call)?);
    let is_there = call.keyspace.get_to_write(call.db, key, call.now).is_some();
    if is_there && !options.replace {
        return Err(BUSY_KEY);
    }
    let ttl = u64::try_from(integer(call.args.at(2))?).map_err(|_| BAD_TTL)?;
    let payload = Payload::verify(call.args.at(3)).map_err(|_| BAD_PAYLOAD)?;
    let value = payload.read().map_err(|_| BAD_DATA)?;
    let deadline = match ttl {
        0 => None,
        _ if options.is_absolute => Some(Deadline::at(ttl)),
        _ => Some(Deadline::after(call.now, ttl)),
    };
    if deadline.is_some_and(|deadline| deadline.is_due(call.now)) {
        if is_there {
            call.keyspace.remove(call.db, key);
        }
    } else {
        let deadline = deadline.map_or(NewDeadline::None, NewDeadline::At);
        match value {
            NewValue::String(bytes) => call.keyspace.put(call.db, key, &bytes, deadline),
            NewValue::Collection(kind, changes) => {
                call.keyspace.put_collection(call.db, key, kind, &changes, deadline);
            }
        }
        if let Some(access) = options.access(call) {
            call.keyspace.note_access(call.db, key, access);
        }
    }
    call.reply.ok();
    Ok(())
}

#[derive(Default)]
struct Options {
    replace: bool,
    is_absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    /// The access bits that the options ask for, of which the policy decides what they mean; without, a key that was just
    /// restored counts as just used.
    fn access(&self, call: &Call<'_>) -> Option<u32> {
        let seconds = call.now.steady_ms / 1000;
        match (self.idle_seconds, self.frequency) {
            (_, Some(frequency)) if call.limits.lfu => Some(((seconds / 60) << 8) as u32 | frequency as u32),
            (Some(idle), _) if !call.limits.lfu => Some(seconds.wrapping_sub(idle) as u32),
            _ => None,
        }
    }
}

fn options(call: &Call<'_>) -> Result<Options, CommandError> {
    const BAD_IDLE: CommandError = CommandError::new("ERR Invalid IDLETIME value, must be >= 0");
    const BAD_FREQ: CommandError = CommandError::new("ERR Invalid FREQ value, must be >= 0 and <= 255");
    let mut options = Options::default();
    let mut at = 4;
    while at < call.args.len() {
        let value = call.args.get(at + 1);
        match value {
            _ if call.args.is(at, "replace") => options.replace = true,
            _ if call.args.is(at, "absttl") => options.is_absolute = true,
            Some(value) if call.args.is(at, "idletime") && options.frequency.is_none() => {
                options.idle_seconds = Some(u64::try_from(integer(value)?).map_err(|_| BAD_IDLE)?);
                at += 1;
            }
            Some(value) if call.args.is(at, "freq") && options.idle_seconds.is_none() => {
                options.frequency = Some(u8::try_from(integer(value)?).map_err(|_| BAD_FREQ)?);
                at += 1;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::super::super::strings::tested::Shard;
    use super::super::stage::Stage;

    fn payload(shard: &mut Shard, key: &str) -> Option<Vec<u8>> {
        let reply = shard.reply_to(&[b"DUMP", key.as_bytes()]);
        let at = reply.windows(2).position(|pair| pair == b"\r\n")? + 2;
        reply.get(at..reply.len().checked_sub(2)?).map(<[u8]>::to_vec)
    }

    #[test]
    fn every_value_comes_back_from_its_payload() {
        let mut shard = Shard::new();
        shard.run("SET s text");
        shard.run("SET n -70000");
        shard.run("RPUSH l 1 two three");
        shard.run("SADD i 5 -3 700000");
        shard.run("SADD m a b 3");
        shard.run("HSET h f v g 12");
        for key in ["s", "n", "l", "i", "m", "h"] {
            let first = payload(&mut shard, key).expect("the key is there");
            assert_eq!(
                shard.run_words(&[b"RESTORE", key.as_bytes(), b"0", &first]),
                "-BUSYKEY Target key name already exists.\r\n"
            );
            assert_eq!(shard.run_words(&[b"RESTORE", b"copy", b"0", &first, b"REPLACE"]), "+OK\r\n");
            assert_eq!(payload(&mut shard, "copy").expect("it was restored"), first, "{key}");
            assert_eq!(shard.run(&format!("TYPE {key}")), shard.run("TYPE copy"));
        }
    }

    #[test]
    fn the_policy_decides_whether_idle_time_or_frequency_is_restored() {
        let mut stage = Stage::new();
        let row = super::super::ROWS.iter().find(|row| row.name == "restore").expect("it has a row");
        let payload = crate::rdb::payload_of(b"\0\x01v", crate::rdb::VERSION);
        let restore = |stage: &mut Stage, option: &str, value: &str| {
            let words: [&[u8]; 7] = [b"RESTORE", b"k", b"0", &payload, b"REPLACE", option.as_bytes(), value.as_bytes()];
            assert_eq!(stage.run_row(row, &words), "+OK\r\n");
        };
        restore(&mut stage, "IDLETIME", "1000");
        assert_eq!(stage.run("OBJECT IDLETIME k"), ":1000\r\n");
        stage.advance(5000);
        assert_eq!(stage.run("OBJECT IDLETIME k"), ":1005\r\n");
        restore(&mut stage, "FREQ", "200");
        assert_eq!(stage.run("OBJECT IDLETIME k"), ":0\r\n");
        stage.owner.limits.lfu = true;
        for frequency in ["200", "0"] {
            restore(&mut stage, "FREQ", frequency);
            assert_eq!(stage.run("OBJECT FREQ k"), format!(":{frequency}\r\n"));
        }
        stage.owner.limits.lfu = false;
        restore(&mut stage, "IDLETIME", &i64::MAX.to_string());
        assert!(stage.run("OBJECT IDLETIME k").starts_with(':'));
    }

    #[test]
    fn deadlines_of_fields_come_back_and_those_that_are_over_do_not() {
        let mut shard = Shard::new();
        for fields in [1, 200] {
            (0..fields).for_each(|number| drop(shard.run(&format!("HSET h f{number} v"))));
            shard.run("HSETEX h PX 5000 FIELDS 1 a 1");
            shard.run("HSETEX h PXAT 1700000009000 FIELDS 1 b 2");
            shard.run("HSETEX h PX 1000 FIELDS 1 c 3");
            shard.advance(1000);
            let dumped = payload(&mut shard, "h").expect("the key is there");
            assert_eq!(dumped[dumped.len() - 10], 12, "the version that has a place for them");
            assert_eq!(shard.run_words(&[b"RESTORE", b"copy", b"0", &dumped]), "+OK\r\n");
            assert_eq!(shard.run("HPTTL copy FIELDS 4 f0 a b c"), "*4\r\n:-1\r\n:4000\r\n:8000\r\n:-2\r\n");
            assert_eq!(shard.run("HLEN copy"), format!(":{}\r\n", fields + 2));
            shard.run("HPERSIST h FIELDS 2 a b");
            let dumped = payload(&mut shard, "h").expect("the key is there");
            assert_eq!(dumped[dumped.len() - 10], 10);
            shard.run("FLUSHALL");
            shard.now = Shard::new().now;
        }
        shard.run("HSETEX h PX 1000 FIELDS 1 c 3");
        shard.advance(1000);
        assert_eq!(shard.run("DUMP h"), "$-1\r\n");
    }

    #[test]
    fn mutated_payloads_are_refused_or_restored_and_never_panic() {
        const COUNT: usize = 20_000;
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut shard = Shard::new();
        shard.run("RPUSH l 1 two three aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        shard.run("SADD i 5 -3 700000");
        shard.run("HSET h f v g 12");
        shard.run("HSET t f v g 12");
        shard.run("HEXPIRE t 10 FIELDS 1 f");
        let corpus = ["l", "i", "h", "t"].map(|key| payload(&mut shard, key).expect("the key is there"));
        for _ in 0..COUNT {
            let mut value = corpus[random.usize(..corpus.len())].clone();
            value.truncate(value.len() - 10);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..value.len());
                value[at] = random.u8(..);
            }
            if random.bool() {
                value[0] = random.u8(..26);
            }
            let version = [10, 12, 80][random.usize(..3)];
            let payload = crate::rdb::payload_of(&value, version);
            let reply = shard.run_words(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]);
            assert!(matches!(&*reply, "+OK\r\n" | "-ERR Bad data format\r\n"), "{reply}");
        }
    }
}

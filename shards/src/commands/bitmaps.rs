//! Bitmaps: strings seen as bits, the first bit being the highest of the first byte. BITFIELD is in `bitfield`.
//!
//! Reads work on the stored bytes where they lie; writes touch only the bytes that change, by a splice.

mod bitfield;

use super::strings::{clamp_range, is_backwards, make_raw, remove_expired};
use crate::call::Call;
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::{NewDeadline, StringRef};
use crate::numbers::{integer, parse_integer};
use crate::row::{KeyUse, Keys, Row, Traits};
use std::borrow::Cow;

const GROWS: Traits = Traits::WRITE.and(Traits::DENY_OOM);
const READ_FAST: Traits = Traits::READ.and(Traits::FAST);

/// The destination, then the sources.
const BITOP_KEYS: Keys = Keys::Two { first: (2, KeyUse::Overwrite), rest: (3, -1, KeyUse::Read) };

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    <Row>::new("bitcount", -2, Traits::READ, bitcount).key(KeyUse::Read)
        .docs("bitmap", "2.6.0", "O(N) in the length of the range", "Counts the bits that are set in a string or a range of it."),
    <Row>::new("bitfield", -2, GROWS, bitfield::bitfield).key(KeyUse::ReadWrite)
        .docs("bitmap", "3.2.0", "O(1) for each subcommand", "Reads, sets and increments integers of any width at any position in a string."),
    <Row>::new("bitfield_ro", -2, READ_FAST, bitfield::bitfield_ro).key(KeyUse::Read)
        .docs("bitmap", "6.0.0", "O(1) for each subcommand", "Reads integers of any width at any position in a string."),
    <Row>::new("bitop", -4, GROWS, bitop).keys(BITOP_KEYS)
        .docs("bitmap", "2.6.0", "O(N) in the total length of the sources", "Combines strings bit by bit and stores the result."),
    <Row>::new("bitpos", -3, Traits::READ, bitpos).key(KeyUse::Read)
        .docs("bitmap", "2.8.7", "O(N) in the length of the range", "Finds the first bit that is set, or clear, in a string or a range of it."),
    <Row>::new("getbit", 3, READ_FAST, getbit).key(KeyUse::Read)
        .docs("bitmap", "2.2.0", "O(1)", "Replies the bit at a position of a string."),
    <Row>::new("setbit", 4, GROWS, setbit).key(KeyUse::ReadWrite)
        .docs("bitmap", "2.2.0", "O(1), or the length of the padding when the string grows", "Sets or clears the bit at a position of a string and replies what it was."),
];

const BAD_OFFSET: CommandError = CommandError::new("ERR bit offset is not an integer or out of range");

/// An argument that is the position of a bit; `#n` means the n-th field where fields have a `width`.
fn bit_offset(call: &Call<'_>, arg: &[u8], width: Option<u32>) -> Result<u64, CommandError> {
    let offset = match (arg, width) {
        ([b'#', index @ ..], Some(width)) => parse_integer(index).and_then(|n| n.checked_mul(width as i64)),
        _ => parse_integer(arg),
    };
    let in_reach = |offset: &u64| offset >> 3 < call.limits.string_bytes_max;
    offset.and_then(|offset| u64::try_from(offset).ok()).filter(in_reach).ok_or(BAD_OFFSET)
}

fn getbit(call: &mut Call<'_>) -> CommandResult {
    let offset = bit_offset(call, call.args.at(2), None)?;
    let bit = match call.keyspace.get(call.db, call.args.at(1), call.now) {
        None => 0,
        Some(entry) => {
            let value = entry.string()?;
            let byte = value.as_bytes(&mut itoa::Buffer::new()).get((offset >> 3) as usize).copied();
            byte.unwrap_or(0) >> (7 - (offset & 7)) & 1
        }
    };
    call.reply.integer(bit as i64);
    Ok(())
}

fn setbit(call: &mut Call<'_>) -> CommandResult {
    const BAD_BIT: CommandError = CommandError::new("ERR bit is not an integer or out of range");
    let key = call.args.at(1);
    let offset = bit_offset(call, call.args.at(2), None)?;
    let bit = parse_integer(call.args.at(3)).filter(|bit| matches!(bit, 0 | 1)).ok_or(BAD_BIT)? as u8;
    let at = (offset >> 3) as usize;
    let shift = 7 - (offset & 7);
    let (byte, is_same, is_raw) = match call.keyspace.get_to_write(call.db, key, call.now) {
        None => {
            remove_expired(call, key);
            (0, false, false)
        }
        Some(entry) => {
            let value = entry.string()?;
            let byte = value.as_bytes(&mut itoa::Buffer::new()).get(at).copied();
            let is_same = byte.is_some_and(|byte| byte >> shift & 1 == bit);
            (byte.unwrap_or(0), is_same, matches!(value, StringRef::Raw(_)))
        }
    };
    if !is_same {
        call.keyspace.splice(call.db, key, at, &[byte & !(1 << shift) | bit << shift]);
    } else if !is_raw {
        make_raw(call);
    }
    call.reply.integer((byte >> shift & 1) as i64);
    Ok(())
}

/// Whether a range counts bytes or bits: the optional last argument of BITCOUNT and BITPOS.
fn counts_bits(call: &Call<'_>, index: usize) -> Result<bool, CommandError> {
    match call.args.get(index) {
        None => Ok(false),
        Some(_) if call.args.is(index, "BIT") => Ok(true),
        Some(_) if call.args.is(index, "BYTE") => Ok(false),
        Some(_) => Err(SYNTAX),
    }
}

/// Positions from a first to a last bit, both included, as bits of `len` bytes.
fn bit_range(start: i64, end: i64, len: usize, in_bits: bool) -> Option<(usize, usize)> {
    if in_bits {
        return clamp_range(start, end, len * 8);
    }
    clamp_range(start, end, len).map(|(first, last)| (first * 8, last * 8 + 7))
}

/// BITCOUNT key [start end [BYTE | BIT]]
fn bitcount(call: &mut Call<'_>) -> CommandResult {
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        // As Redis 7: what is said of a missing key isn't looked at.
        call.reply.integer(0);
        return Ok(());
    };
    let value = entry.string()?;
    let mut digits = itoa::Buffer::new();
    let bytes = value.as_bytes(&mut digits);
    let range = match call.args.len() {
        2 => bit_range(0, -1, bytes.len(), false),
        4 | 5 => {
            let (start, end) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
            // As Redis 7: the unit of such a range isn't looked at.
            if is_backwards(start, end) { None } else { bit_range(start, end, bytes.len(), counts_bits(call, 4)?) }
        }
        _ => return Err(SYNTAX),
    };
    call.reply.integer(range.map_or(0, |(first, last)| count_ones(bytes, first, last)) as i64);
    Ok(())
}

/// Bits of the byte at `index` that stand before bit `first` of the string, or behind bit `last`.
fn outside(index: usize, first: usize, last: usize) -> u8 {
    let before = if index == first / 8 { !(0xff >> (first % 8)) } else { 0 };
    let behind = if index == last / 8 { 0x7f >> (last % 8) } else { 0 };
    before | behind
}

fn count_ones(bytes: &[u8], first: usize, last: usize) -> u64 {
    let part = &bytes[first / 8..=last / 8];
    let (words, rest) = part.as_chunks::<8>();
    let whole: u64 = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as u64).sum();
    let rest: u64 = rest.iter().map(|byte| byte.count_ones() as u64).sum();
    let cut = |index: usize| (bytes[index] & outside(index, first, last)).count_ones() as u64;
    let ends = if first / 8 == last / 8 { cut(first / 8) } else { cut(first / 8) + cut(last / 8) };
    whole + rest - ends
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
fn bitpos(call: &mut Call<'_>) -> CommandResult {
    const BAD_BIT: CommandError = CommandError::new("ERR The bit argument must be 1 or 0.");
    let bit = match integer(call.args.at(2))? {
        0 => false,
        1 => true,
        _ => return Err(BAD_BIT),
    };
    let Some(entry) = call.keyspace.get(call.db, call.args.at(1), call.now) else {
        // A missing key is an endless row of clear bits.
        call.reply.integer(if bit { -1 } else { 0 });
        return Ok(());
    };
    let value = entry.string()?;
    let mut digits = itoa::Buffer::new();
    let bytes = value.as_bytes(&mut digits);
    if call.args.len() > 6 {
        return Err(SYNTAX);
    }
    let start = call.args.get(3).map_or(Ok(0), integer)?;
    let in_bits = counts_bits(call, 5)?;
    let end = call.args.get(4).map(integer).transpose()?;
    let position = bit_range(start, end.unwrap_or(-1), bytes.len(), in_bits).and_then(|(first, last)| {
        // Without an end, the string goes on with clear bits behind its last one.
        find_bit(bytes, bit, first, last).or((!bit && end.is_none()).then_some(bytes.len() * 8))
    });
    call.reply.integer(position.map_or(-1, |at| at as i64));
    Ok(())
}

fn find_bit(bytes: &[u8], bit: bool, first: usize, last: usize) -> Option<usize> {
    // Bytes in which a set bit is what is looked for, and only within the range.
    let sought = |index: usize| {
        let byte = if bit { bytes[index] } else { !bytes[index] };
        byte & !outside(index, first, last)
    };
    let skipped = if bit { 0 } else { 0xff };
    let (from, to) = (first / 8, last / 8);
    let mut at = from;
    if sought(at) == 0 {
        // Whole words of nothing are passed over quickly; the range's last byte is not among them.
        at += 1;
        let words = bytes.get(at..to).unwrap_or_default().as_chunks::<8>().0;
        at += 8 * words.iter().take_while(|word| **word == [skipped; 8]).count();
        at = (at..=to).find(|&index| sought(index) != 0)?;
    }
    Some(at * 8 + sought(at).leading_zeros() as usize)
}

/// What BITOP computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// In the first source and in no other one.
    Diff,
    /// In another source, but not in the first one.
    Diff1,
    /// In the first source and in another one.
    AndOr,
    /// In exactly one source.
    One,
}

impl Operation {
    const NAMES: [(&'static str, Operation); 8] = [
        ("AND", Operation::And),
        ("OR", Operation::Or),
        ("XOR", Operation::Xor),
        ("NOT", Operation::Not),
        ("DIFF", Operation::Diff),
        ("DIFF1", Operation::Diff1),
        ("ANDOR", Operation::AndOr),
        ("ONE", Operation::One),
    ];

    /// The operation at argument 1, with as many sources as it needs.
    fn parse(call: &Call<'_>) -> Result<Self, CommandError> {
        const ONE_SOURCE: CommandError = CommandError::new("ERR BITOP NOT must be called with a single source key.");
        let named = |(name, _): &(&str, Operation)| call.args.is(1, name);
        let (name, operation) = Self::NAMES.into_iter().find(named).ok_or(SYNTAX)?;
        let sources = call.args.len() - 3;
        match operation {
            Operation::Not if sources != 1 => Err(ONE_SOURCE),
            Operation::Diff | Operation::Diff1 | Operation::AndOr if sources < 2 => {
                Err(CommandError::owned(format!("ERR BITOP {name} must be called with at least two source keys.")))
            }
            Operation::And
            | Operation::Or
            | Operation::Xor
            | Operation::Not
            | Operation::Diff
            | Operation::Diff1
            | Operation::AndOr
            | Operation::One => Ok(operation),
        }
    }
    /// The result over sources that count as padded with zeros to the longest one's length.
    fn apply(self, sources: &[Cow<'_, [u8]>]) -> Vec<u8> {
        let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
        let mut result = sources[0].to_vec();
        result.resize(len, 0);
        match self {
            Operation::And => fold(&mut result, &sources[1..], |a, b| a & b),
            Operation::Or => fold(&mut result, &sources[1..], |a, b| a | b),
            Operation::Xor => fold(&mut result, &sources[1..], |a, b| a ^ b),
            Operation::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
            Operation::Diff => combine(&mut result, &sources[1..], |first, others| first & !others),
            Operation::Diff1 => combine(&mut result, &sources[1..], |first, others| !first & others),
            Operation::AndOr => combine(&mut result, &sources[1..], |first, others| first & others),
            Operation::One => {
                let mut several = vec![0; len];
                for source in &sources[1..] {
                    for (at, &byte) in source.iter().enumerate() {
                        several[at] |= result[at] & byte;
                        result[at] |= byte;
                    }
                }
                fold(&mut result, &[Cow::Owned(several)], |any, several| any & !several);
            }
        }
        result
    }
}

fn fold(result: &mut [u8], sources: &[Cow<'_, [u8]>], combine: fn(u8, u8) -> u8) {
    for source in sources {
        let (covered, padded) = result.split_at_mut(source.len());
        covered.iter_mut().zip(source.iter()).for_each(|(byte, &other)| *byte = combine(*byte, other));
        padded.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }
}

/// The first source with the union of the others.
fn combine(result: &mut [u8], others: &[Cow<'_, [u8]>], combine: fn(u8, u8) -> u8) {
    let mut union = vec![0; result.len()];
    fold(&mut union, others, |a, b| a | b);
    fold(result, &[Cow::Owned(union)], combine);
}

/// BITOP operation destination source [source ...]
fn bitop(call: &mut Call<'_>) -> CommandResult {
    let operation = Operation::parse(call)?;
    let source = |key| match call.keyspace.get(call.db, key, call.now) {
        None => Ok(Cow::Borrowed(&[][..])),
        Some(entry) => entry.string().map(|value| value.to_bytes()),
    };
    let sources = call.args.from(3).iter().map(source).collect::<Result<Vec<_>, _>>()?;
    let result = operation.apply(&sources);
    let destination = call.args.at(2);
    if result.is_empty() {
        call.keyspace.remove(call.db, destination);
    } else {
        call.keyspace.put_raw(call.db, destination, &result, NewDeadline::None);
    }
    call.reply.integer(result.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::strings::tested::Shard;
    use super::*;

    /// Bits one by one, as the page on BITCOUNT and BITPOS explains them.
    fn bits(bytes: &[u8]) -> Vec<bool> {
        bytes.iter().flat_map(|byte| (0..8).map(move |at| byte >> (7 - at) & 1 == 1)).collect()
    }

    #[test]
    fn counting_and_finding_agree_with_a_walk_over_single_bits() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..5_000 {
            let fill = [0, 0xff, random.u8(..)][random.usize(0..3)];
            let mut bytes = vec![fill; random.usize(1..40)];
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            let all = bits(&bytes);
            let first = random.usize(0..all.len());
            let last = random.usize(first..all.len());
            let ones = all[first..=last].iter().filter(|bit| **bit).count();
            assert_eq!(count_ones(&bytes, first, last), ones as u64, "{bytes:?} {first}..={last}");
            for bit in [false, true] {
                let position = (first..=last).find(|&at| all[at] == bit);
                assert_eq!(find_bit(&bytes, bit, first, last), position, "{bytes:?} {bit} {first}..={last}");
            }
        }
    }

    #[test]
    fn every_operation_agrees_with_its_definition_on_single_bits() {
        let mut random = fastrand::Rng::with_seed(12);
        for (_, operation) in Operation::NAMES {
            for _ in 0..200 {
                let count = if operation == Operation::Not { 1 } else { random.usize(2..5) };
                let sources: Vec<Cow<'_, [u8]>> =
                    (0..count).map(|_| (0..random.usize(0..5)).map(|_| random.u8(..)).collect()).collect();
                let result = bits(&operation.apply(&sources));
                let columns: Vec<Vec<bool>> = sources.iter().map(|source| bits(source)).collect();
                for (at, &bit) in result.iter().enumerate() {
                    let column: Vec<bool> = columns.iter().map(|bits| bits.get(at).copied().unwrap_or(false)).collect();
                    assert_eq!(bit, defined(operation, &column), "{operation:?} {column:?}");
                }
                assert_eq!(result.len(), columns.iter().map(Vec::len).max().unwrap_or(0));
            }
        }
    }

    fn defined(operation: Operation, column: &[bool]) -> bool {
        let others = column[1..].iter().any(|bit| *bit);
        let ones = column.iter().filter(|bit| **bit).count();
        match operation {
            Operation::And => ones == column.len(),
            Operation::Or => ones > 0,
            Operation::Xor => ones % 2 == 1,
            Operation::Not => !column[0],
            Operation::Diff => column[0] && !others,
            Operation::Diff1 => !column[0] && others,
            Operation::AndOr => column[0] && others,
            Operation::One => ones == 1,
        }
    }

    #[test]
    fn setting_a_bit_to_what_it_is_makes_no_edit_once_the_value_is_raw() {
        let mut shard = Shard::new();
        assert_eq!(shard.edits("SETBIT k 9 0"), 1, "the key is made");
        assert_eq!(shard.edits("SETBIT k 9 0"), 0);
        assert_eq!(shard.edits("SETBIT k 16 0"), 1, "the string grows");
        shard.run("SET k 1");
        assert_eq!(shard.edits("SETBIT k 0 0"), 1);
        assert_eq!(shard.encoding("k"), "raw");
    }
}

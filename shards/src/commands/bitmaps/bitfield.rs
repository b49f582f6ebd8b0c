//! BITFIELD: integers of 1 to 64 bits at any bit of a string.
//!
//! All subcommands are parsed before the first one runs, so that an error leaves the string alone. Each one then
//! reads a window of 9 bytes at most and writes it back, however long the string is.

use super::bit_offset;
use crate::call::Call;
use crate::commands::strings::{make_raw, remove_expired};
use crate::error::{CommandError, CommandResult, SYNTAX};
use crate::keyspace::StringRef;
use crate::numbers::{integer, parse_integer};

/// BITFIELD key [GET type offset | [OVERFLOW WRAP|SAT|FAIL] SET type offset value | INCRBY type offset increment ...]
pub fn bitfield(call: &mut Call<'_>) -> CommandResult {
    let subcommands = parse(call)?;
    let writes = subcommands.iter().filter(|subcommand| subcommand.action != Action::Get);
    match writes.map(|subcommand| subcommand.field.last_byte() + 1).max() {
        Some(len_min) => grow(call, len_min)?,
        None => require_string(call)?,
    }
    call.reply.array(subcommands.len());
    for subcommand in &subcommands {
        match subcommand.run(call)? {
            Some(value) => call.reply.integer(value),
            None => call.reply.null(),
        }
    }
    Ok(())
}

/// BITFIELD_RO key [GET type offset ...]
pub fn bitfield_ro(call: &mut Call<'_>) -> CommandResult {
    const ONLY_GET: CommandError = CommandError::new("ERR BITFIELD_RO only supports the GET subcommand");
    let subcommands = parse(call)?;
    if subcommands.iter().any(|subcommand| subcommand.action != Action::Get) {
        return Err(ONLY_GET);
    }
    require_string(call)?;
    call.reply.array(subcommands.len());
    for subcommand in &subcommands {
        let value = subcommand.field.read(call)?;
        call.reply.integer(value);
    }
    Ok(())
}

fn require_string(call: &Call<'_>) -> CommandResult {
    match call.keyspace.get(call.db, call.args.at(1), call.now) {
        None => Ok(()),
        Some(entry) => entry.string().map(|_| ()),
    }
}

/// Makes the string at least `len_min` bytes long, as Redis does before it looks at overflows.
fn grow(call: &mut Call<'_>, len_min: usize) -> CommandResult {
    let key = call.args.at(1);
    let (len, raw) = match call.keyspace.get_to_write(call.db, key, call.now) {
        None => {
            remove_expired(call, key);
            (0, false)
        }
        Some(entry) => {
            let value = entry.string()?;
            (value.len(), matches!(value, StringRef::Raw(_)))
        }
    };
    if len < len_min {
        call.keyspace.splice(call.db, key, len_min - 1, &[0]);
    } else if !raw {
        make_raw(call);
    }
    Ok(())
}

/// Where an integer lies and how wide it is.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// 1 to 64, or to 63 if unsigned.
    bits: u32,
    /// Its first bit.
    offset: u64,
}

/// Bytes that a field of 64 bits can touch.
const WINDOW_BYTES: usize = 9;

impl Field {
    fn first_byte(self) -> usize {
        (self.offset / 8) as usize
    }
    fn last_byte(self) -> usize {
        ((self.offset + self.bits as u64 - 1) / 8) as usize
    }
    /// How far the field stands from the low end of a window, as a number of `WINDOW_BYTES` bytes.
    fn shift(self) -> u32 {
        WINDOW_BYTES as u32 * 8 - (self.offset % 8) as u32 - self.bits
    }
    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }
    /// The bytes at the field as a big-endian number, zeros behind the string's end.
    fn window(self, call: &Call<'_>) -> Result<u128, CommandError> {
        let mut window = [0; WINDOW_BYTES];
        if let Some(entry) = call.keyspace.get_to_write(call.db, call.args.at(1), call.now) {
            let value = entry.string()?;
            let mut digits = itoa::Buffer::new();
            let bytes = value.as_bytes(&mut digits);
            let bytes = bytes.get(self.first_byte()..).unwrap_or_default();
            let len = bytes.len().min(WINDOW_BYTES);
            window[..len].copy_from_slice(&bytes[..len]);
        }
        Ok(window.iter().fold(0, |number, &byte| number << 8 | byte as u128))
    }
    fn value(self, window: u128) -> i64 {
        let value = (window >> self.shift() & self.mask()) as u64;
        let unused = 64 - self.bits;
        if self.signed { (value << unused) as i64 >> unused } else { value as i64 }
    }
    fn read(self, call: &Call<'_>) -> Result<i64, CommandError> {
        Ok(self.value(self.window(call)?))
    }
    fn write(self, call: &mut Call<'_>, window: u128, value: i64) {
        let cleared = window & !(self.mask() << self.shift());
        let changed = cleared | (value as u128 & self.mask()) << self.shift();
        if changed == window {
            // The string is long enough, and raw: nothing to write, nobody to tell.
            return;
        }
        let bytes = changed.to_be_bytes();
        let bytes = &bytes[bytes.len() - WINDOW_BYTES..][..self.last_byte() - self.first_byte() + 1];
        call.keyspace.splice(call.db, call.args.at(1), self.first_byte(), bytes);
    }
    /// `value + increment` as the field holds it; `None` when it overflows and that is to fail.
    fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        match (self.passes(value, increment), overflow) {
            (None, _) => Some(value.wrapping_add(increment)),
            (Some(_), Overflow::Wrap) => Some(self.wrap(value.wrapping_add(increment))),
            (Some(bound), Overflow::Saturate) => Some(bound),
            (Some(_), Overflow::Fail) => None,
        }
    }
    /// The bound that `value + increment` would pass. The distances to the bounds wrap as those of Redis do: SET of
    /// a number far below a narrow field saturates at its upper bound there, and here.
    fn passes(self, value: i64, increment: i64) -> Option<i64> {
        if self.signed { self.passes_signed(value, increment) } else { self.passes_unsigned(value, increment) }
    }
    fn passes_signed(self, value: i64, increment: i64) -> Option<i64> {
        let max = i64::MAX >> (64 - self.bits);
        let min = -max - 1;
        let (to_max, to_min) = (max.wrapping_sub(value), min.wrapping_sub(value));
        let narrow = self.bits != 64;
        if value > max || increment > to_max && (narrow || value >= 0 && increment > 0) {
            Some(max)
        } else if value < min || increment < to_min && (narrow || value < 0 && increment < 0) {
            Some(min)
        } else {
            None
        }
    }
    fn passes_unsigned(self, value: i64, increment: i64) -> Option<i64> {
        let max = self.mask() as i64;
        if value as u64 > max as u64 || increment > 0 && increment > max.wrapping_sub(value) {
            Some(max)
        } else if increment < 0 && increment < value.wrapping_neg() {
            Some(0)
        } else {
            None
        }
    }
    fn wrap(self, value: i64) -> i64 {
        self.value((value as u128 & self.mask()) << self.shift())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

struct Subcommand {
    action: Action,
    field: Field,
    overflow: Overflow,
}

impl Subcommand {
    /// What it replies.
    fn run(&self, call: &mut Call<'_>) -> Result<Option<i64>, CommandError> {
        let window = self.field.window(call)?;
        let old = self.field.value(window);
        let (new, reply) = match self.action {
            Action::Get => return Ok(Some(old)),
            Action::Set(value) => (self.field.add(value, 0, self.overflow), Some(old)),
            Action::Increment(increment) => {
                let new = self.field.add(old, increment, self.overflow);
                (new, new)
            }
        };
        let Some(new) = new else { return Ok(None) };
        self.field.write(call, window, new);
        Ok(reply)
    }
}

fn parse(call: &Call<'_>) -> Result<Vec<Subcommand>, CommandError> {
    let args = &call.args;
    let mut subcommands = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let operands = args.len() - at - 1;
        if args.is(at, "OVERFLOW") && operands >= 1 {
            overflow = parse_overflow(args.at(at + 1))?;
            at += 2;
            continue;
        }
        let action: fn(i64) -> Action = if args.is(at, "GET") && operands >= 2 {
            |_| Action::Get
        } else if args.is(at, "SET") && operands >= 3 {
            Action::Set
        } else if args.is(at, "INCRBY") && operands >= 3 {
            Action::Increment
        } else {
            return Err(SYNTAX);
        };
        let (signed, bits) = parse_type(args.at(at + 1))?;
        let field = Field { signed, bits, offset: bit_offset(call, args.at(at + 2), Some(bits))? };
        let reads = action(0) == Action::Get;
        let operand = if reads { 0 } else { integer(args.at(at + 3))? };
        subcommands.push(Subcommand { action: action(operand), field, overflow });
        at += if reads { 3 } else { 4 };
    }
    Ok(subcommands)
}

fn parse_overflow(arg: &[u8]) -> Result<Overflow, CommandError> {
    const UNKNOWN: CommandError = CommandError::new("ERR Invalid OVERFLOW type specified");
    let words = [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let named = |(word, _): &(&str, Overflow)| arg.eq_ignore_ascii_case(word.as_bytes());
    words.into_iter().find(named).map(|(_, overflow)| overflow).ok_or(UNKNOWN)
}

/// `i16`, `u8`: whether signed, and the width.
fn parse_type(arg: &[u8]) -> Result<(bool, u32), CommandError> {
    const UNKNOWN: CommandError = CommandError::new(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (signed, bits, bits_max) = match arg {
        [b'i', bits @ ..] => (true, bits, 64),
        [b'u', bits @ ..] => (false, bits, 63),
        _ => return Err(UNKNOWN),
    };
    let bits = parse_integer(bits).filter(|bits| (1..=bits_max).contains(bits)).ok_or(UNKNOWN)?;
    Ok((signed, bits as u32))
}

#[cfg(test)]
mod tests {
    use crate::commands::strings::tested::Shard;

    /// Reads a field bit by bit, as a number that isn't negative.
    fn field(bits: &[bool], offset: usize, width: usize) -> i128 {
        (offset..offset + width).fold(0, |value, at| value << 1 | bits.get(at).copied().unwrap_or(false) as i128)
    }

    #[test]
    fn fields_of_any_width_read_and_write_the_bits_they_cover_and_no_others() {
        let mut random = fastrand::Rng::with_seed(13);
        let mut shard = Shard::new();
        let mut bits: Vec<bool> = Vec::new();
        for _ in 0..5_000 {
            let signed = random.bool();
            let width = random.usize(1..=if signed { 64 } else { 63 });
            let offset = random.usize(0..200);
            let value = random.i64(..);
            let old = field(&bits, offset, width);
            let old = if signed && old >> (width - 1) == 1 { old - (1 << width) } else { old };
            let kind = if signed { 'i' } else { 'u' };
            let reply = shard.run(&format!("BITFIELD k SET {kind}{width} {offset} {value}"));
            assert_eq!(reply, format!("*1\r\n:{old}\r\n"), "{kind}{width} at {offset}");
            let end = (offset + width).div_ceil(8) * 8;
            bits.resize(bits.len().max(end), false);
            for at in 0..width {
                bits[offset + at] = value >> (width - 1 - at) & 1 == 1;
            }
            let ones = bits.iter().filter(|bit| **bit).count();
            assert_eq!(shard.run("BITCOUNT k"), format!(":{ones}\r\n"));
            assert_eq!(shard.run("STRLEN k"), format!(":{}\r\n", bits.len() / 8));
        }
    }
}

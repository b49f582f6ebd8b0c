//! Makes listpacks (drawn at their reader, in `packed`).

use crate::numbers::parse_integer;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// The header's count where there are more elements than it can tell.
const UNCOUNTED: u16 = u16::MAX;
const BACKLEN_BYTES_MAX: usize = 5;

#[derive(Default)]
pub struct ListpackBuilder {
    bytes: Vec<u8>,
    len: usize,
}

impl ListpackBuilder {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        self.len = 0;
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// With the end still to come.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len() + 1
    }
    pub fn integer(&mut self, value: i64) {
        let start = self.bytes.len();
        let out = &mut self.bytes;
        match value {
            0..0x80 => out.push(value as u8),
            -0x1000..0x1000 => {
                let bits = (value & 0x1fff) as u16;
                out.extend([0xc0 | (bits >> 8) as u8, bits as u8]);
            }
            -0x8000..0x8000 => {
                out.push(0xf1);
                out.extend_from_slice(&(value as i16).to_le_bytes());
            }
            -0x80_0000..0x80_0000 => {
                out.push(0xf2);
                out.extend_from_slice(&(value as i32).to_le_bytes()[..3]);
            }
            -0x8000_0000..0x8000_0000 => {
                out.push(0xf3);
                out.extend_from_slice(&(value as i32).to_le_bytes());
            }
            _ => {
                out.push(0xf4);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        self.end_element(start);
    }
    /// Packed as an integer where it is the text of one. At most 4 GiB less the rest.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(value) = parse_integer(bytes) {
            return self.integer(value);
        }
        let start = self.bytes.len();
        match bytes.len() {
            short @ 0..0x40 => self.bytes.push(0x80 | short as u8),
            medium @ 0x40..0x1000 => self.bytes.extend([0xe0 | (medium >> 8) as u8, medium as u8]),
            long => {
                self.bytes.push(0xf0);
                let long = u32::try_from(long).expect("values are shorter than 4 GiB");
                self.bytes.extend_from_slice(&long.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(bytes);
        self.end_element(start);
    }
    /// The listpack; none of its bytes change until the next `clear`.
    pub fn finish(&mut self) -> &[u8] {
        self.bytes.push(END);
        let total = u32::try_from(self.bytes.len()).expect("a listpack is shorter than 4 GiB");
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        let len = u16::try_from(self.len).unwrap_or(UNCOUNTED);
        self.bytes[4..HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
        &self.bytes
    }

    fn end_element(&mut self, start: usize) {
        let len = self.bytes.len() - start;
        let mut bytes = [0; BACKLEN_BYTES_MAX];
        backlen(len, &mut bytes);
        self.bytes.extend_from_slice(&bytes[..backlen_bytes(len)]);
        self.len += 1;
    }
}

/// Bytes that `push` adds at most.
pub fn element_bytes_max(len: usize) -> usize {
    5 + len + BACKLEN_BYTES_MAX
}

/// How many bytes `backlen` takes. The limits are what Redis made of them.
pub fn backlen_bytes(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        268_435_455.. => 5,
    }
}

/// An element's length, to be read backwards: seven bits a byte, the last byte first, the high bit where another follows.
pub fn backlen(len: usize, out: &mut [u8; BACKLEN_BYTES_MAX]) {
    let count = backlen_bytes(len);
    for (at, byte) in out[..count].iter_mut().enumerate() {
        let bits = (len >> (7 * (count - 1 - at))) as u8 & 0x7f;
        *byte = if at == 0 { bits } else { bits | 0x80 };
    }
}

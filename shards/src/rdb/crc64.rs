//! The checksum of RDB files and DUMP payloads: CRC-64 with the Jones polynomial, reflected, from 0, without a final
//! inversion. Eight bytes a step, by eight tables ("slicing by 8", Kounavis and Berry 2005), which are made at compile time.

/// 0xad93d23594c935a9, its bits in reverse.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[n][byte]`: what `byte` leaves behind `n` more bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crc64(u64);

impl Crc64 {
    pub fn of(bytes: &[u8]) -> u64 {
        let mut crc = Crc64::default();
        crc.update(bytes);
        crc.value()
    }
    pub fn update(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let word = (self.0 ^ u64::from_le_bytes(*word)).to_le_bytes();
            let left = word.iter().zip(TABLES.iter().rev()).map(|(byte, table)| table[*byte as usize]);
            self.0 = left.fold(0, |crc, part| crc ^ part);
        }
        for byte in rest {
            self.0 = (self.0 >> 8) ^ TABLES[0][(self.0 as u8 ^ byte) as usize];
        }
    }
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_published_check_value() {
        assert_eq!(Crc64::of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(Crc64::of(b""), 0);
    }

    #[test]
    fn it_is_the_same_in_pieces_and_bit_by_bit() {
        let bytes: Vec<u8> = (0..100u32).map(|n| ((n * n) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            let naive = bytes[..len].iter().fold(0u64, |crc, byte| {
                (0..8).fold(crc ^ *byte as u64, |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
            });
            let mut pieces = Crc64::default();
            bytes[..len].chunks(7).for_each(|piece| pieces.update(piece));
            assert_eq!((Crc64::of(&bytes[..len]), pieces.value()), (naive, naive));
        }
    }
}

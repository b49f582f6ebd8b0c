//! What a completion belongs to: the operation and a number, in the 64 bits that travel with a request.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Operation {
    Accept = 1,
    Receive,
    Send,
    /// The read of the core's doorbell.
    Doorbell,
    LogWrite,
    LogHeader,
    LogSync,
    Cancel,
}

const ALL: [Operation; 8] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::Doorbell,
    Operation::LogWrite,
    Operation::LogHeader,
    Operation::LogSync,
    Operation::Cancel,
];

const NUMBER_BITS: u32 = 56;

pub fn token(operation: Operation, number: u64) -> u64 {
    debug_assert!(number < 1 << NUMBER_BITS);
    (operation as u64) << NUMBER_BITS | number
}

pub fn split(token: u64) -> (Operation, u64) {
    let operation = ALL[(token >> NUMBER_BITS) as usize - 1];
    (operation, token & ((1 << NUMBER_BITS) - 1))
}

//! Which core does what, without I/O: the messages that cross lanes, and how parts become one reply.
//!
//! Arguments are copied into a batch before they cross: a core's receive buffers never leave it.

pub mod batch;
pub mod gather;
pub mod program;

//! Bytes to requests, without I/O: the incremental parser of what clients send (multibulk and inline).
//!
//! Replies are written elsewhere (`shards::reply`); sockets and buffers belong to the runtime. The rule: what
//! a client sends gives the same requests however the network cuts it into receives.

pub mod inline;
pub mod limits;
#[cfg(test)]
mod naive;
pub mod parser;

pub use limits::{ProtocolError, RequestLimits};
pub use parser::{Parsed, Parser};

//! What values of a type are made of, apart from keys and commands: representations and arithmetic.

pub mod geo;
pub mod hyperloglog;

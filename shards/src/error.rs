//! The client's mistakes, with Redis' exact texts. No allocation for the fixed ones.
//!
//! Every text starts with its code (`ERR`, `WRONGTYPE`...), without the leading `-` and the trailing CRLF.

use std::borrow::Cow;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandError(pub Cow<'static, str>);

pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    pub const fn new(text: &'static str) -> Self {
        CommandError(Cow::Borrowed(text))
    }
    /// A text made at run time. CR and LF from user input are replaced by the writer (`Reply::error`).
    pub fn owned(text: String) -> Self {
        CommandError(Cow::Owned(text))
    }
    pub fn invalid_expire_time(command: &str) -> Self {
        Self::owned(format!("ERR invalid expire time in '{command}' command"))
    }
    pub fn wrong_arity(command: &str) -> Self {
        Self::owned(format!("ERR wrong number of arguments for '{command}' command"))
    }
}

pub const SYNTAX: CommandError = CommandError::new("ERR syntax error");
pub const WRONG_TYPE: CommandError =
    CommandError::new("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const NOT_AN_INTEGER: CommandError = CommandError::new("ERR value is not an integer or out of range");
pub const NOT_A_FLOAT: CommandError = CommandError::new("ERR value is not a valid float");
pub const NO_SUCH_KEY: CommandError = CommandError::new("ERR no such key");
pub const OVERFLOW: CommandError = CommandError::new("ERR increment or decrement would overflow");
pub const DB_OUT_OF_RANGE: CommandError = CommandError::new("ERR DB index is out of range");
pub const OUT_OF_RANGE: CommandError = CommandError::new("ERR index out of range");
pub const STRING_TOO_LONG: CommandError =
    CommandError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const SAME_OBJECT: CommandError = CommandError::new("ERR source and destination objects are the same");

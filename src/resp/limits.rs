//! What a request may be, and how a request that breaks the protocol is answered (Redis' exact texts).
//!
//! The numbers a user may set come in as `RequestLimits`; the others are constants of the protocol.

use std::borrow::Cow;

/// The longest line (inline request, count or length header) may have this many bytes before its end.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// The largest argument count a request may announce.
pub const ARGUMENTS_MAX: i64 = i32::MAX as i64;
/// The largest argument count before authentication.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;
/// The longest argument before authentication.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16_384;

/// The limits of one connection at this moment; handed to every call of the parser, because settings are
/// live and a connection authenticates in the middle of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`: the longest argument.
    pub bulk_bytes_max: u64,
    /// `client-query-buffer-limit`: the longest request, headers included.
    pub query_bytes_max: u64,
    /// Whether the connection may send large requests: it has authenticated, or needs no password.
    pub authenticated: bool,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits { bulk_bytes_max: 512 << 20, query_bytes_max: 1 << 30, authenticated: true }
    }
}

/// Why a connection is closed: after any of these the stream has no next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    InlineTooLong,
    UnbalancedQuotes,
    CountLineTooLong,
    BulkLineTooLong,
    InvalidCount,
    InvalidBulkLength,
    /// An argument that starts with this byte instead of `$`.
    ExpectedBulk(u8),
    UnauthenticatedCount,
    UnauthenticatedBulkLength,
    /// Longer than `client-query-buffer-limit`.
    QueryTooLong,
}

impl ProtocolError {
    /// The error to reply before closing, code first, without the leading `-` and the CRLF; none where Redis
    /// closes without a word. Bytes, not a string: it may quote a byte of the client.
    pub fn reply(self) -> Option<Cow<'static, [u8]>> {
        let text: &'static [u8] = match self {
            ProtocolError::InlineTooLong => b"ERR Protocol error: too big inline request",
            ProtocolError::UnbalancedQuotes => b"ERR Protocol error: unbalanced quotes in request",
            ProtocolError::CountLineTooLong => b"ERR Protocol error: too big mbulk count string",
            ProtocolError::BulkLineTooLong => b"ERR Protocol error: too big bulk count string",
            ProtocolError::InvalidCount => b"ERR Protocol error: invalid multibulk length",
            ProtocolError::InvalidBulkLength => b"ERR Protocol error: invalid bulk length",
            ProtocolError::ExpectedBulk(got) => return Some(Cow::Owned(expected_bulk(got))),
            ProtocolError::UnauthenticatedCount => b"ERR Protocol error: unauthenticated multibulk length",
            ProtocolError::UnauthenticatedBulkLength => b"ERR Protocol error: unauthenticated bulk length",
            ProtocolError::QueryTooLong => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

fn expected_bulk(got: u8) -> Vec<u8> {
    // A line break of the client inside an error reply would let it forge a second reply.
    let shown = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
    let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
    text.extend([shown, b'\'']);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_byte_never_breaks_the_reply_line() {
        for byte in 0..=255 {
            let text = ProtocolError::ExpectedBulk(byte).reply().expect("it is replied");
            assert!(!text.contains(&b'\r') && !text.contains(&b'\n'));
        }
        assert_eq!(&*ProtocolError::ExpectedBulk(b'f').reply().unwrap(), b"ERR Protocol error: expected '$', got 'f'");
    }

    #[test]
    fn a_request_over_the_query_buffer_limit_closes_without_a_reply() {
        assert_eq!(ProtocolError::QueryTooLong.reply(), None);
    }
}

//! Writes RESP2 or RESP3 replies into a byte buffer. One writer for the shard and the server, so that a
//! reply has the same shape wherever it was made. Shapes: Redis protocol specification (RESP2, RESP3).

use crate::error::CommandError;

/// The protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends replies to a buffer that it doesn't own.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Reply { out, protocol }
    }
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// Bytes in the buffer; with `truncate`, undoes what was written since.
    pub fn mark(&self) -> usize {
        self.out.len()
    }
    pub fn truncate(&mut self, mark: usize) {
        self.out.truncate(mark);
    }
    /// Bytes that are RESP already.
    pub fn raw(&mut self, resp: &[u8]) {
        self.out.extend_from_slice(resp);
    }
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.out.push(b'+');
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }
    /// An error reply. CR and LF in the text (it may quote user input) become spaces: otherwise a client
    /// could forge replies (a security fix of Redis 8.0.6).
    pub fn error(&mut self, error: &CommandError) {
        self.out.push(b'-');
        self.out.extend(error.0.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.raw(b"\r\n");
    }
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        self.raw(bytes);
        self.raw(b"\r\n");
    }
    /// An integer as a bulk string (the value of a key that holds a number).
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value).as_bytes());
    }
    /// Null in place of a bulk string.
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }
    /// Null in place of an array.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }
    /// `len` replies follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }
    /// `pairs` keys and values follow: a map, or in RESP2 an array of twice the length.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', pairs as i64 * 2),
            Protocol::Resp3 => self.header(b'%', pairs as i64),
        }
    }
    /// `len` distinct replies follow: a set, or in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'~', len as i64),
        }
    }
    /// An unsolicited message of `len` parts (an array in RESP2).
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'>', len as i64),
        }
    }
    /// A double; in RESP2 a bulk string of the same digits.
    pub fn double(&mut self, value: f64) {
        let text = crate::numbers::format_double(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.raw(text.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }
    pub fn boolean(&mut self, value: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(value as i64),
            Protocol::Resp3 => self.raw(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }
    /// Text for people (INFO, LOLWUT): a verbatim string with a three-letter format (`txt`), or a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        assert_eq!(format.len(), 3, "RESP3 has three-letter formats");
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.raw(format.as_bytes());
                self.out.push(b':');
                self.raw(text);
                self.raw(b"\r\n");
            }
        }
    }
    fn header(&mut self, mark: u8, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.out.push(mark);
        self.raw(digits.format(value).as_bytes());
        self.raw(b"\r\n");
    }
}

//! RESP2 and RESP3 values, as a client sees them: read from a stream, printed in the notation of command scripts.
//! Independent of the server's own parser and writer, so that one mistake can't hide in both.

use std::fmt;
use std::io::{self, BufRead, Read};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resp {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, and RESP3's only null.
    Nil,
    /// `*-1`
    NilArray,
    Array(Vec<Resp>),
    /// The digits as sent: their spelling matters.
    Double(Vec<u8>),
    Boolean(bool),
    BigNumber(Vec<u8>),
    /// Three letters, a colon, the text.
    Verbatim(Vec<u8>),
    Map(Vec<(Resp, Resp)>),
    Set(Vec<Resp>),
    Push(Vec<Resp>),
}

impl Resp {
    pub fn read(from: &mut impl BufRead) -> io::Result<Resp> {
        let line = line(from)?;
        let (&mark, rest) = line.split_first().ok_or_else(|| bad("an empty line"))?;
        Ok(match mark {
            b'+' => Resp::Simple(rest.to_vec()),
            b'-' => Resp::Error(rest.to_vec()),
            b':' => Resp::Integer(number(rest)?),
            b'$' | b'=' if rest == b"-1" => Resp::Nil,
            b'$' => Resp::Bulk(body(from, number(rest)?)?),
            b'=' => Resp::Verbatim(body(from, number(rest)?)?),
            b'*' if rest == b"-1" => Resp::NilArray,
            b'*' => Resp::Array(items(from, number(rest)?)?),
            b'~' => Resp::Set(items(from, number(rest)?)?),
            b'>' => Resp::Push(items(from, number(rest)?)?),
            b'%' => {
                let pair = |_| Ok((Resp::read(from)?, Resp::read(from)?));
                Resp::Map((0..number(rest)?).map(pair).collect::<io::Result<_>>()?)
            }
            b'_' => Resp::Nil,
            b',' => Resp::Double(rest.to_vec()),
            b'#' => Resp::Boolean(rest == b"t"),
            b'(' => Resp::BigNumber(rest.to_vec()),
            other => return Err(bad(&format!("a reply that starts with {:?}", other as char))),
        })
    }

    pub fn ok() -> Resp {
        Resp::Simple(b"OK".to_vec())
    }
    pub fn bulk(text: impl AsRef<[u8]>) -> Resp {
        Resp::Bulk(text.as_ref().to_vec())
    }
    pub fn is_error(&self) -> bool {
        matches!(self, Resp::Error(_))
    }
    /// The bytes of whatever is text here; empty for the rest.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Resp::Simple(text) | Resp::Error(text) | Resp::Bulk(text) => text,
            Resp::Double(text) | Resp::BigNumber(text) | Resp::Verbatim(text) => text,
            Resp::Integer(_) | Resp::Nil | Resp::NilArray | Resp::Array(_) => b"",
            Resp::Boolean(_) | Resp::Map(_) | Resp::Set(_) | Resp::Push(_) => b"",
        }
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
    pub fn integer(&self) -> i64 {
        match self {
            Resp::Integer(value) => *value,
            other => panic!("expected an integer, got {other}"),
        }
    }
    pub fn items(&self) -> &[Resp] {
        match self {
            Resp::Array(items) | Resp::Set(items) | Resp::Push(items) => items,
            other => panic!("expected an array, got {other}"),
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(text.to_vec()),
        None => Err(bad("a line without CRLF")),
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| bad(&format!("{:?} for a number", String::from_utf8_lossy(text))))
}

fn body(from: &mut impl BufRead, len: i64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| bad("a negative length"))?;
    let mut bytes = Vec::with_capacity(len.min(1 << 20) + 2);
    from.take(len as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.len() < len + 2 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the middle of a string"));
    }
    if !bytes.ends_with(b"\r\n") {
        return Err(bad("a string without CRLF"));
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn items(from: &mut impl BufRead, count: i64) -> io::Result<Vec<Resp>> {
    if count < 0 {
        return Err(bad("a negative count"));
    }
    (0..count).map(|_| Resp::read(from)).collect()
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {what}"))
}

/// In the notation of command scripts, so that what was got can be pasted as what is expected.
impl fmt::Display for Resp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self, 0, f)
    }
}

fn show(value: &Resp, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let pad = "  ".repeat(depth);
    write!(f, "{pad}")?;
    match value {
        Resp::Simple(text) => write!(f, "{}", String::from_utf8_lossy(text)),
        Resp::Error(text) => write!(f, "(error) {}", String::from_utf8_lossy(text)),
        Resp::Integer(value) => write!(f, "(integer) {value}"),
        Resp::Bulk(text) => write!(f, "{}", quoted(text)),
        Resp::Nil => write!(f, "(nil)"),
        Resp::NilArray => write!(f, "(nil array)"),
        Resp::Double(text) => write!(f, "(double) {}", String::from_utf8_lossy(text)),
        Resp::Boolean(value) => write!(f, "({value})"),
        Resp::BigNumber(text) => write!(f, "(big number) {}", String::from_utf8_lossy(text)),
        Resp::Verbatim(text) => write!(f, "(verbatim) {}", quoted(text)),
        Resp::Array(items) => list("[", items, depth, f),
        Resp::Set(items) => list("~[", items, depth, f),
        Resp::Push(items) => list(">[", items, depth, f),
        Resp::Map(pairs) => {
            writeln!(f, "{{")?;
            for part in pairs.iter().flat_map(|(key, value)| [key, value]) {
                show(part, depth + 1, f)?;
                writeln!(f)?;
            }
            write!(f, "{pad}}}")
        }
    }
}

fn list(open: &str, items: &[Resp], depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{open}")?;
    for item in items {
        show(item, depth + 1, f)?;
        writeln!(f)?;
    }
    write!(f, "{}]", "  ".repeat(depth))
}

/// Double quotes and the escapes that scripts (and redis-cli) read back.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', byte as char]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(byte as char),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

/// A command as one line of a script.
pub fn command_line(args: &[Vec<u8>]) -> String {
    let plain = |arg: &[u8]| !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b));
    let word = |arg: &Vec<u8>| if plain(arg) { String::from_utf8_lossy(arg).into_owned() } else { quoted(arg) };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}

//! Whether replies are what they should be: reads RESP2 as it comes in pieces, keeps none of it.

/// The next reply, or element of a reply. An array is followed by its elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    Ok,
    Queued,
    /// A string, or none.
    Value,
    Array(u32),
}

/// How far one connection's replies have come.
#[derive(Default)]
pub struct Checker {
    /// Replies that were wrong, and the first of them.
    pub errors: u64,
    pub first_error: Option<String>,
    /// In the current unit: what of `expected` is done.
    step: usize,
    /// Bytes of a string that are still to come.
    skip: usize,
    /// Elements of an array that should not have been one, still to come.
    stray: u64,
}

/// After this nothing can be understood.
#[derive(Debug)]
pub struct Garbage(pub String);

/// More bytes than this without an end of line are no reply.
const LINE_BYTES_MAX: usize = 4096;

impl Checker {
    /// Takes what belongs to the unit that is answered so. How many bytes that is, and whether the unit is complete; if it
    /// is not, the rest of the bytes is to be given again with more behind it.
    pub fn take(&mut self, bytes: &[u8], expected: &[Expected]) -> Result<(usize, bool), Garbage> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            at += skipped;
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok((at, false));
            }
            if self.step >= expected.len() && self.stray == 0 {
                self.step = 0;
                return Ok((at, true));
            }
            let Some((token, used)) = token(&bytes[at..])? else { return Ok((at, false)) };
            let line = &bytes[at..at + used];
            at += used;
            if let Token::String(len) = token {
                self.skip = len + 2;
            }
            self.compare(token, line, expected);
        }
    }

    fn compare(&mut self, token: Token, line: &[u8], expected: &[Expected]) {
        if self.stray > 0 {
            self.stray -= 1;
            self.stray += token.elements();
            return;
        }
        let wanted = expected[self.step];
        self.step += 1;
        let right = match wanted {
            Expected::Ok => token == Token::Ok,
            Expected::Queued => token == Token::Queued,
            Expected::Value => matches!(token, Token::String(_) | Token::Null),
            Expected::Array(elements) => token == Token::Array(elements as u64),
        };
        if right {
            return;
        }
        self.errors += 1;
        if self.first_error.is_none() {
            let line = String::from_utf8_lossy(line);
            self.first_error = Some(format!("{:?} instead of {wanted:?}", line.trim_end()));
        }
        self.stray = token.elements();
        if let Expected::Array(elements) = wanted {
            self.step += elements as usize;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Ok,
    Queued,
    String(usize),
    Null,
    Array(u64),
    /// Another line: an error, a status, a number, no array.
    Line,
}

impl Token {
    fn elements(self) -> u64 {
        match self {
            Token::Array(elements) => elements,
            Token::Ok | Token::Queued | Token::String(_) | Token::Null | Token::Line => 0,
        }
    }
}

/// The line at the start of `bytes`, and its length, if it is there as a whole.
fn token(bytes: &[u8]) -> Result<Option<(Token, usize)>, Garbage> {
    const OK: &[u8] = b"+OK\r\n";
    const QUEUED: &[u8] = b"+QUEUED\r\n";
    if bytes.starts_with(OK) {
        return Ok(Some((Token::Ok, OK.len())));
    }
    if bytes.starts_with(QUEUED) {
        return Ok(Some((Token::Queued, QUEUED.len())));
    }
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(garbage(bytes)) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or_else(|| garbage(bytes))?;
    let (kind, rest) = line.split_first().ok_or_else(|| garbage(bytes))?;
    let number = || std::str::from_utf8(rest).ok()?.parse::<i64>().ok();
    let token = match kind {
        b'+' | b'-' | b':' => Token::Line,
        b'$' => match number().ok_or_else(|| garbage(bytes))? {
            -1 => Token::Null,
            len => Token::String(usize::try_from(len).map_err(|_| garbage(bytes))?),
        },
        b'*' => match number().ok_or_else(|| garbage(bytes))? {
            -1 => Token::Line,
            elements => Token::Array(u64::try_from(elements).map_err(|_| garbage(bytes))?),
        },
        _ => return Err(garbage(bytes)),
    };
    Ok(Some((token, end + 1)))
}

fn garbage(bytes: &[u8]) -> Garbage {
    Garbage(format!("this is no reply: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(100)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTI: [Expected; 6] =
        [Expected::Ok, Expected::Queued, Expected::Queued, Expected::Array(2), Expected::Ok, Expected::Ok];
    const MGET: [Expected; 3] = [Expected::Array(2), Expected::Value, Expected::Value];

    /// Gives `replies` in pieces of `step` bytes; the units completed, and the checker.
    fn units(replies: &str, expected: &[Expected], step: usize) -> (usize, Checker) {
        let (mut checker, mut kept, mut units) = (Checker::default(), Vec::new(), 0);
        for piece in replies.as_bytes().chunks(step) {
            kept.extend_from_slice(piece);
            let mut at = 0;
            while at < kept.len() {
                let (used, done) = checker.take(&kept[at..], expected).expect("replies");
                at += used;
                units += usize::from(done);
                if !done {
                    break;
                }
            }
            kept.drain(..at);
        }
        assert_eq!(kept, b"", "left over");
        (units, checker)
    }

    #[test]
    fn replies_are_right_however_they_are_cut() {
        let multi = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n".repeat(3);
        let mget = "*2\r\n$5\r\n\r\n$1\r\r\n$-1\r\n".repeat(3);
        for step in 1..60 {
            for (replies, expected) in [(&multi, &MULTI[..]), (&mget, &MGET[..])] {
                let (units, checker) = units(replies, expected, step);
                assert_eq!((units, checker.errors), (3, 0), "{:?}", checker.first_error);
            }
        }
    }

    #[test]
    fn a_wrong_reply_is_counted_and_the_next_unit_is_found() {
        let right = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n";
        let cases = [
            ("-ERR unknown command\r\n+QUEUED\r\n+QUEUED\r\n-ERR EXEC without MULTI\r\n", 2),
            ("+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n", 1),
            ("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-ERR no\r\n+OK\r\n", 1),
            ("+OK\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n*1\r\n$2\r\nhi\r\n:1\r\n", 1),
            ("$2\r\nhi\r\n*0\r\n:1\r\n*2\r\n+OK\r\n+OK\r\n", 3),
        ];
        for (wrong, errors) in cases {
            for step in [1, 7, 100] {
                let (units, checker) = units(&[right, wrong, right].concat(), &MULTI, step);
                assert_eq!((units, checker.errors), (3, errors), "{wrong:?}");
                assert!(checker.first_error.is_some());
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in ["hello\r\n", "$x\r\n", "$-2\r\n", "+OK\n", "\r\n", &"+".repeat(LINE_BYTES_MAX)] {
            assert!(Checker::default().take(bytes.as_bytes(), &MULTI).is_err(), "{bytes:?}");
        }
    }
}

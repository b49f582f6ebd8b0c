//! Inline requests: one line of words with quoting, as typed into telnet, and as used in redis.conf.
//!
//! Between double quotes `\n \r \t \b \a` and `\xHH` are escapes and a backslash before anything else stands
//! for that byte; between single quotes only `\'` is one. A closing quote must end its word.

/// The words of a line (without its line break); `None` when a quote is not closed, or closed inside a word.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
}

/// The word at the start of `text`, decoded, and what follows it.
fn word(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match *text {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some((word, text)),
            // A quote may also open in the middle of a word: its contents are joined to what stands before.
            [b'"', ref tail @ ..] => return double_quoted(tail, word),
            [b'\'', ref tail @ ..] => return single_quoted(tail, word),
            [byte, ref tail @ ..] => {
                word.push(byte);
                text = tail;
            }
        }
    }
}

fn double_quoted(mut text: &[u8], mut word: Vec<u8>) -> Option<(Vec<u8>, &[u8])> {
    loop {
        let (byte, tail) = match *text {
            [] => return None,
            [b'"', ref tail @ ..] => return ends_word(tail).then_some((word, tail)),
            [b'\\', b'x', high, low, ref tail @ ..] if let (Some(high), Some(low)) = (hex(high), hex(low)) => {
                (high << 4 | low, tail)
            }
            [b'\\', escaped, ref tail @ ..] => (unescape(escaped), tail),
            [byte, ref tail @ ..] => (byte, tail),
        };
        word.push(byte);
        text = tail;
    }
}

fn single_quoted(mut text: &[u8], mut word: Vec<u8>) -> Option<(Vec<u8>, &[u8])> {
    loop {
        let (byte, tail) = match *text {
            [] => return None,
            [b'\'', ref tail @ ..] => return ends_word(tail).then_some((word, tail)),
            [b'\\', b'\'', ref tail @ ..] => (b'\'', tail),
            [byte, ref tail @ ..] => (byte, tail),
        };
        word.push(byte);
        text = tail;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn ends_word(tail: &[u8]) -> bool {
    tail.first().is_none_or(|&next| is_space(next))
}

/// C's isspace: one more than Rust's ASCII white space, the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_into_words_as_redis_splits_them() {
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t ", &[]),
            (b" \t PING ", &[b"PING"]),
            (b"\x0bPING", &[b"PING"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (b"a\rb", &[b"a", b"b"]),
            (b"echo \"\\x41\\n\\r\\t\\b\\a\\q\\x4\"", &[b"echo", b"A\n\r\t\x08\x07qx4"]),
            (b"echo 'a\\'b\\n'", &[b"echo", b"a'b\\n"]),
            (b"echo a\"b c\"", &[b"echo", b"ab c"]),
            (b"echo a\\n", &[b"echo", b"a\\n"]),
            (b"\"\" x", &[b"", b"x"]),
            (b"'' ''", &[b"", b""]),
            (b"echo \"a\"\x0bb", &[b"echo", b"a", b"b"]),
            (b"a\0b", &[b"a\0b"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).as_deref(), Some(&words.iter().map(|w| w.to_vec()).collect::<Vec<_>>()[..]));
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [&b"echo \"a"[..], b"echo 'a", b"echo \"a\"b", b"echo 'a'b", b"echo \"a\\", b"echo \"a\\\"", b"\""]
        {
            assert_eq!(split(line), None, "{}", line.escape_ascii());
        }
    }
}

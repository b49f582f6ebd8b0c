//! The parser's naive twin, for tests: starts over at every byte string, copies everything, knows no speed.

use super::inline;
use super::limits::{ProtocolError, RequestLimits};
use super::parser::{Parsed, Parser};
use shards::call::{Args, Span};

/// A request, or the error that ends the stream.
pub type Outcome = Result<Vec<Vec<u8>>, ProtocolError>;

/// All requests of a stream that arrived whole.
pub fn parse(mut stream: &[u8], limits: &RequestLimits) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    loop {
        match request(stream, limits) {
            Ok(Some((args, rest))) => {
                stream = rest;
                if !args.is_empty() {
                    outcomes.push(Ok(args));
                }
            }
            Ok(None) => return outcomes,
            Err(error) => {
                outcomes.push(Err(error));
                return outcomes;
            }
        }
    }
}

type Step<'a, T> = Result<Option<(T, &'a [u8])>, ProtocolError>;

fn request<'a>(stream: &'a [u8], limits: &RequestLimits) -> Step<'a, Vec<Vec<u8>>> {
    let bytes_max = stream.len().min(limits.query_bytes_max as usize);
    let (within, beyond) = stream.split_at(bytes_max);
    let found = if stream.first() == Some(&b'*') { multibulk(within, limits)? } else { inline_request(within)? };
    match found {
        Some((args, rest)) => Ok(Some((args, &stream[bytes_max - rest.len()..]))),
        None if beyond.is_empty() => Ok(None),
        None => Err(ProtocolError::QueryTooLong),
    }
}

fn inline_request(stream: &[u8]) -> Step<'_, Vec<Vec<u8>>> {
    let Some((mut line, rest)) = cut(stream, b'\n', 1, ProtocolError::InlineTooLong)? else { return Ok(None) };
    if line.ends_with(b"\r") {
        line = &line[..line.len() - 1];
    }
    Ok(Some((inline::split(line).ok_or(ProtocolError::UnbalancedQuotes)?, rest)))
}

fn multibulk<'a>(stream: &'a [u8], limits: &RequestLimits) -> Step<'a, Vec<Vec<u8>>> {
    let Some((line, mut rest)) = cut(stream, b'\r', 2, ProtocolError::CountLineTooLong)? else { return Ok(None) };
    let count = number(&line[1..]).filter(|&n| n <= 2_147_483_647).ok_or(ProtocolError::InvalidCount)?;
    if count > 10 && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedCount);
    }
    let mut args = Vec::new();
    for _ in 0..count.max(0) {
        let Some((line, body)) = cut(rest, b'\r', 2, ProtocolError::BulkLineTooLong)? else { return Ok(None) };
        if line.first() != Some(&b'$') {
            return Err(ProtocolError::ExpectedBulk(rest[0]));
        }
        let in_range = |&n: &i64| n >= 0 && n <= limits.bulk_bytes_max as i64;
        let len = number(&line[1..]).filter(in_range).ok_or(ProtocolError::InvalidBulkLength)?;
        if len > 16_384 && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        let end = len as usize + 2;
        if body.len() < end {
            let bytes = stream.len() - body.len() + end;
            return if bytes as u64 > limits.query_bytes_max { Err(ProtocolError::QueryTooLong) } else { Ok(None) };
        }
        args.push(body[..len as usize].to_vec());
        rest = &body[end..];
    }
    Ok(Some((args, rest)))
}

/// The line before `end` and what follows its `end_bytes` bytes of line end.
fn cut(text: &[u8], end: u8, end_bytes: usize, too_long: ProtocolError) -> Step<'_, &[u8]> {
    match text.iter().take(65_537).position(|&byte| byte == end) {
        Some(at) if at + end_bytes <= text.len() => Ok(Some((&text[..at], &text[at + end_bytes..]))),
        Some(_) => Ok(None),
        None if text.len() > 65_536 => Err(too_long),
        None => Ok(None),
    }
}

fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|n| n.to_string() == text)
}

/// Feeds a stream to the real parser in the given pieces, as the runtime does: what is used leaves the
/// buffer, what is not waits at its front for more.
pub fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &RequestLimits) -> Vec<Outcome> {
    let (mut parser, mut buffer, mut outcomes) = (Parser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let (mut at, mut spans) = (0, Vec::<Span>::new());
        loop {
            let first = spans.len();
            match parser.next(&buffer, at, limits, &mut spans) {
                Parsed::Command { used } => {
                    outcomes.push(Ok(Args::new(&buffer, &spans[first..]).iter().map(<[u8]>::to_vec).collect()));
                    at += used;
                }
                Parsed::Inline { used, args } => {
                    outcomes.push(Ok(args));
                    at += used;
                }
                Parsed::Ignored { used } => at += used,
                Parsed::Incomplete { wanted } => {
                    assert!(wanted.is_none_or(|wanted| wanted > buffer.len() - at), "it wants what is not there");
                    break;
                }
                Parsed::Error(error) => {
                    outcomes.push(Err(error));
                    return outcomes;
                }
            }
            if !outcomes.is_empty() {
                assert!(!parser.is_inside_request(), "a finished request leaves nothing behind");
            }
        }
        buffer.drain(..at);
    }
    outcomes
}

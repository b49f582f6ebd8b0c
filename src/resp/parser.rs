//! The incremental parser: one connection's place in its stream of requests.
//!
//! Requests are read where they lie; an argument is a span, never a copy (inline words, which may need
//! unquoting, are the exception). A request cut by a receive is resumed, not read again: the work is
//! linear in the bytes, and memory follows the bytes that arrived, never a number the client announced.
//!
//! As Redis does, a line ends at CR plus any one byte, and the two bytes after an argument are not looked at.

use super::inline;
use super::limits::{
    ARGUMENTS_MAX, LINE_BYTES_MAX, ProtocolError, RequestLimits, UNAUTHENTICATED_ARGUMENTS_MAX,
    UNAUTHENTICATED_BULK_BYTES_MAX,
};
use shards::call::Span;
use shards::numbers::parse_integer;

/// What the bytes from the given position begin with. `used` counts bytes from that position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A request; its arguments were appended to the spans.
    Command { used: usize },
    /// A request typed as a line. At least one argument.
    Inline { used: usize, args: Vec<Vec<u8>> },
    /// An empty line or an array without elements: not a request, not an error.
    Ignored { used: usize },
    /// The request does not end here. Nothing is used: call again with the same bytes and more behind them.
    /// `wanted` is how many bytes from the start of the request are certainly needed, where that is known.
    Incomplete { wanted: Option<usize> },
    /// The connection must be closed, after the error's reply.
    Error(ProtocolError),
}

/// The place of one connection in its stream.
#[derive(Default, Debug)]
pub struct Parser {
    progress: Progress,
    /// Arguments of the unfinished request, relative to its first byte.
    spans: Vec<Span>,
}

/// How far an unfinished request has been read. Positions are relative to its first byte.
#[derive(Clone, Copy, Default, Debug)]
struct Progress {
    /// The first byte not yet read: the start of a header, or of the bulk that `bulk` describes.
    position: usize,
    /// Bytes of the current line in which no line end was found.
    searched: usize,
    /// Arguments still to come; 0 until the count is read.
    missing: u32,
    /// Length of the argument whose header has been read.
    bulk: Option<u32>,
}

/// Where reading a multibulk request stopped.
enum Stop {
    Complete,
    Empty,
    Short { wanted: Option<usize> },
}

impl Parser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a request has begun and not ended: its bytes must stay until the next call.
    pub fn is_inside_request(&self) -> bool {
        self.progress.position > 0 || self.progress.searched > 0
    }

    /// Reads the request that starts at `buffer[at]`. Spans of a complete one are relative to the start of
    /// `buffer`, so that the requests of a pipeline share a buffer and a vector of spans.
    ///
    /// After `Incomplete` the next call must present the same request from its first byte, at any `at`, with
    /// at least as many bytes. After `Error` the parser is of no further use. Of a buffer of more than 4 GiB only
    /// the first 4 GiB are seen: move the unread rest to the front and call again.
    #[inline]
    pub fn next(&mut self, buffer: &[u8], at: usize, limits: &RequestLimits, spans: &mut Vec<Span>) -> Parsed {
        // Spans hold 32 bits; what lies beyond is reached once the caller has moved the request to the front.
        let bytes_max = limits.query_bytes_max.min(u32::MAX as u64) as usize;
        let there = &buffer[at..buffer.len().min(u32::MAX as usize)];
        // Bytes beyond the limit are not looked at: how many of them are here already must not matter.
        let request = &there[..there.len().min(bytes_max)];
        let parsed = match request.first() {
            None => Parsed::Incomplete { wanted: None },
            Some(b'*') if self.is_inside_request() => self.resume(request, at as u32, limits, spans),
            Some(b'*') => self.begin(request, at as u32, limits, spans),
            Some(_) => self.line(request),
        };
        match parsed {
            // Refused as soon as it is known to be too long: an announced length is not waited for in vain.
            Parsed::Incomplete { wanted } if wanted.unwrap_or(there.len()) > bytes_max => {
                Parsed::Error(ProtocolError::QueryTooLong)
            }
            parsed => parsed,
        }
    }

    /// A request not seen before: its spans go straight to the caller's, and move here only if it is cut.
    #[inline]
    fn begin(&mut self, request: &[u8], at: u32, limits: &RequestLimits, spans: &mut Vec<Span>) -> Parsed {
        let first = spans.len();
        let mut progress = Progress::default();
        match progress.read(request, at, limits, spans) {
            Ok(Stop::Complete) => Parsed::Command { used: progress.position },
            Ok(Stop::Empty) => Parsed::Ignored { used: progress.position },
            Ok(Stop::Short { wanted }) => {
                let relative = |span: Span| Span { start: span.start - at, len: span.len };
                self.spans.extend(spans.drain(first..).map(relative));
                self.progress = progress;
                Parsed::Incomplete { wanted }
            }
            Err(error) => {
                spans.truncate(first);
                Parsed::Error(error)
            }
        }
    }

    #[cold]
    fn resume(&mut self, request: &[u8], at: u32, limits: &RequestLimits, spans: &mut Vec<Span>) -> Parsed {
        if let Some(cut_short) = self.cut_short(request) {
            return cut_short;
        }
        let stop = match self.progress.read(request, 0, limits, &mut self.spans) {
            Ok(stop) => stop,
            Err(error) => return Parsed::Error(error),
        };
        let used = self.progress.position;
        let parsed = match stop {
            Stop::Short { wanted } => return Parsed::Incomplete { wanted },
            Stop::Empty => Parsed::Ignored { used },
            Stop::Complete => Parsed::Command { used },
        };
        self.progress = Progress::default();
        // Taken, not drained: a connection that once sent a million arguments does not keep their room.
        let own = std::mem::take(&mut self.spans);
        spans.extend(own.iter().map(|span| Span { start: span.start + at, len: span.len }));
        parsed
    }

    /// Fewer bytes than have been read already: the query buffer limit was lowered in the middle of the request.
    fn cut_short(&self, request: &[u8]) -> Option<Parsed> {
        let read = self.progress.position + self.progress.searched;
        (read > request.len()).then_some(Parsed::Incomplete { wanted: Some(read) })
    }

    #[cold]
    fn line(&mut self, request: &[u8]) -> Parsed {
        if let Some(cut_short) = self.cut_short(request) {
            return cut_short;
        }
        let searched = self.progress.searched;
        let Some(end) = find(request, searched, b'\n') else {
            self.progress.searched = request.len().min(LINE_BYTES_MAX + 1);
            if request.len() > LINE_BYTES_MAX {
                return Parsed::Error(ProtocolError::InlineTooLong);
            }
            return Parsed::Incomplete { wanted: None };
        };
        self.progress = Progress::default();
        let text = &request[..end];
        match inline::split(text.strip_suffix(b"\r").unwrap_or(text)) {
            None => Parsed::Error(ProtocolError::UnbalancedQuotes),
            Some(args) if args.is_empty() => Parsed::Ignored { used: end + 1 },
            Some(args) => Parsed::Inline { used: end + 1, args },
        }
    }
}

impl Progress {
    /// Reads on as far as the bytes go, appending a span (moved by `at`) per argument.
    #[inline]
    fn read(
        &mut self,
        request: &[u8],
        at: u32,
        limits: &RequestLimits,
        spans: &mut Vec<Span>,
    ) -> Result<Stop, ProtocolError> {
        if self.missing == 0 {
            match self.count(request, limits)? {
                None => return Ok(Stop::Short { wanted: None }),
                Some(0) => return Ok(Stop::Empty),
                Some(count) => self.missing = count,
            }
        }
        // In a local until the loop ends: the compiler keeps it in a register.
        let mut position = self.position;
        loop {
            let len = match self.bulk.take() {
                Some(len) => len,
                None => match short_number(&request[position..], b'$') {
                    Some((len, header)) if len as u64 <= limits.bulk_bytes_max => {
                        position += header;
                        self.searched = 0;
                        len
                    }
                    _ => {
                        self.position = position;
                        let Some(len) = self.bulk_len(request, limits)? else {
                            return Ok(Stop::Short { wanted: None });
                        };
                        position = self.position;
                        len
                    }
                },
            };
            let end = position + len as usize + 2;
            if end > request.len() {
                self.position = position;
                self.bulk = Some(len);
                return Ok(Stop::Short { wanted: Some(end) });
            }
            spans.push(Span { start: at + position as u32, len });
            position = end;
            self.missing -= 1;
            if self.missing == 0 {
                self.position = position;
                return Ok(Stop::Complete);
            }
        }
    }

    /// The number of arguments, 0 for nothing or less; `None` when its line is cut.
    #[inline]
    fn count(&mut self, request: &[u8], limits: &RequestLimits) -> Result<Option<u32>, ProtocolError> {
        if let Some((count, header)) = short_number(request, b'*')
            && count as i64 <= UNAUTHENTICATED_ARGUMENTS_MAX
        {
            self.position += header;
            self.searched = 0;
            return Ok(Some(count));
        }
        self.long_count(request, limits)
    }

    #[cold]
    fn long_count(&mut self, request: &[u8], limits: &RequestLimits) -> Result<Option<u32>, ProtocolError> {
        let Some(line) = self.header(request, ProtocolError::CountLineTooLong)? else { return Ok(None) };
        let count =
            parse_integer(&line[1..]).filter(|&count| count <= ARGUMENTS_MAX).ok_or(ProtocolError::InvalidCount)?;
        if count > UNAUTHENTICATED_ARGUMENTS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        Ok(Some(count.max(0) as u32))
    }

    /// The length of the next argument; `None` when its line is cut.
    #[cold]
    fn bulk_len(&mut self, request: &[u8], limits: &RequestLimits) -> Result<Option<u32>, ProtocolError> {
        let first = request.get(self.position).copied();
        let Some(line) = self.header(request, ProtocolError::BulkLineTooLong)? else { return Ok(None) };
        let [b'$', digits @ ..] = line else {
            return Err(ProtocolError::ExpectedBulk(first.expect("a whole header has a first byte")));
        };
        let len = parse_integer(digits)
            .filter(|&len| len >= 0 && len as u64 <= limits.bulk_bytes_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        // Only a bulk limit of 4 GiB and more lets a longer one come here, which no query buffer could hold.
        u32::try_from(len).map(Some).map_err(|_| ProtocolError::QueryTooLong)
    }

    /// The line at the position, without its end; moves past it. `None` when it is cut.
    fn header<'a>(&mut self, request: &'a [u8], too_long: ProtocolError) -> Result<Option<&'a [u8]>, ProtocolError> {
        let text = &request[self.position..];
        let Some(end) = find(text, self.searched, b'\r') else {
            self.searched = text.len().min(LINE_BYTES_MAX + 1);
            return if text.len() > LINE_BYTES_MAX { Err(too_long) } else { Ok(None) };
        };
        if end + 2 > text.len() {
            self.searched = end;
            return Ok(None);
        }
        self.position += end + 2;
        self.searched = 0;
        Ok(Some(&text[..end]))
    }
}

/// A header of one to four digits, which is nearly every header: its number and how many bytes it takes.
/// Anything else, right or wrong, is left to the long way.
#[inline(always)]
fn short_number(text: &[u8], mark: u8) -> Option<(u32, usize)> {
    let digit = |byte: u8| (byte - b'0') as u32;
    match *text {
        [first, a @ b'0'..=b'9', b'\r', _, ..] if first == mark => Some((digit(a), 4)),
        [first, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] if first == mark => Some((digit(a) * 10 + digit(b), 5)),
        [first, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', _, ..] if first == mark => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), 6))
        }
        [first, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', d @ b'0'..=b'9', b'\r', _, ..] if first == mark => {
            Some((digit(a) * 1000 + digit(b) * 100 + digit(c) * 10 + digit(d), 7))
        }
        _ => None,
    }
}

/// The first `byte` at or after `from` that a line's limit allows.
fn find(text: &[u8], from: usize, byte: u8) -> Option<usize> {
    let text = &text[..text.len().min(LINE_BYTES_MAX + 1)];
    text[from..].iter().position(|&b| b == byte).map(|found| from + found)
}

#[cfg(test)]
mod tests {
    use super::super::naive::{self, Outcome};
    use super::*;
    use fastrand::Rng;

    const LIMITS: RequestLimits =
        RequestLimits { bulk_bytes_max: 1 << 20, query_bytes_max: 1 << 30, authenticated: true };

    fn command(args: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn run(stream: &[u8]) -> Vec<Outcome> {
        naive::feed([stream], &LIMITS)
    }

    fn error(stream: &[u8], limits: &RequestLimits) -> Option<ProtocolError> {
        naive::feed([stream], limits).pop().and_then(Result::err)
    }

    /// A stream of requests of every kind; with some luck a broken one among them.
    fn random_stream(rng: &mut Rng, requests: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..requests {
            match rng.u8(0..12) {
                0 => stream.extend_from_slice(b"PING\r\n"),
                1 => stream.extend_from_slice(b"set \"a \\x41\\n\" 'it\\'s'\n"),
                2 => stream.extend_from_slice([&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b" \n"][rng.usize(0..4)]),
                3 => {
                    let bytes = rng.usize(0..12);
                    let alphabet = b"*$0123-\r\n\"' aA\0";
                    stream.extend((0..bytes).map(|_| alphabet[rng.usize(0..alphabet.len())]));
                }
                _ => {
                    let args: Vec<Vec<u8>> = (0..rng.usize(1..14))
                        .map(|_| {
                            let longest = [3, 12, 120, 1200][rng.usize(0..4)];
                            (0..rng.usize(0..longest)).map(|_| rng.u8(..)).collect()
                        })
                        .collect();
                    stream.extend(command(&args.iter().map(Vec::as_slice).collect::<Vec<_>>()));
                }
            }
        }
        stream
    }

    fn random_pieces<'a>(rng: &mut Rng, stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rng.usize(1..=rest.len().min(64)));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }

    #[test]
    fn a_pipeline_shares_one_buffer_and_one_vector_of_spans() {
        let stream = [command(&[b"SET", b"k", b"v"]), command(&[b"GET", b"key"])].concat();
        let (mut parser, mut spans) = (Parser::new(), Vec::new());
        assert_eq!(parser.next(&stream, 0, &LIMITS, &mut spans), Parsed::Command { used: 27 });
        assert_eq!(parser.next(&stream, 27, &LIMITS, &mut spans), Parsed::Command { used: 22 });
        assert_eq!(parser.next(&stream, 49, &LIMITS, &mut spans), Parsed::Incomplete { wanted: None });
        let args: Vec<&[u8]> = shards::call::Args::new(&stream, &spans).iter().collect();
        assert_eq!(args, [&b"SET"[..], b"k", b"v", b"GET", b"key"]);
    }

    #[test]
    fn every_split_point_gives_the_commands_of_the_unsplit_stream() {
        let mut rng = Rng::with_seed(15);
        let (mut requests, mut splits) = (0, 0);
        while requests < 400 {
            let stream = random_stream(&mut rng, 3);
            let whole = run(&stream);
            requests += whole.iter().filter(|outcome| outcome.is_ok()).count();
            for at in 0..=stream.len() {
                let (head, tail) = stream.split_at(at);
                assert_eq!(naive::feed([head, tail], &LIMITS), whole, "{} at {at}", stream.escape_ascii());
                splits += 1;
            }
        }
        assert!(splits > 10_000);
    }

    #[test]
    fn random_streams_parse_as_by_the_naive_twin() {
        let seed = 20;
        let mut rng = Rng::with_seed(seed);
        for round in 0..20_000 {
            let stream = random_stream(&mut rng, 4);
            let limits = RequestLimits {
                bulk_bytes_max: [100, 1 << 20][rng.usize(0..2)],
                query_bytes_max: [64, 1000, 1 << 30][rng.usize(0..3)],
                authenticated: rng.bool(),
            };
            let expected = naive::parse(&stream, &limits);
            let context = || format!("seed {seed}, round {round}, {limits:?}: {}", stream.escape_ascii());
            assert_eq!(naive::feed([&stream[..]], &limits), expected, "{}", context());
            assert_eq!(naive::feed(random_pieces(&mut rng, &stream), &limits), expected, "{}", context());
            if round % 16 == 0 {
                assert_eq!(naive::feed(stream.chunks(1), &limits), expected, "{}", context());
            }
        }
    }

    #[test]
    fn random_garbage_never_panics() {
        let mut rng = Rng::with_seed(7);
        let alphabet = b"**$$0123456789-+\r\r\n\n\"'\\x a";
        for _ in 0..200_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..40))
                .map(|_| if rng.u8(..) < 8 { rng.u8(..) } else { alphabet[rng.usize(0..alphabet.len())] })
                .collect();
            let cut = rng.usize(0..=bytes.len());
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(naive::feed([head, tail], &LIMITS), naive::parse(&bytes, &LIMITS), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_million_arguments_in_small_receives_are_read_once() {
        let args: Vec<&[u8]> = vec![b"x"; 1_000_000];
        let stream = command(&args);
        let (mut parser, mut spans) = (Parser::new(), Vec::new());
        let mut there = 0;
        // Were every receive to start over, these 5,000 receives would read 17 GB.
        let used = loop {
            there = (there + 1400).min(stream.len());
            match parser.next(&stream[..there], 0, &LIMITS, &mut spans) {
                Parsed::Incomplete { .. } => assert!(spans.is_empty() && there < stream.len()),
                Parsed::Command { used } => break used,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((used, spans.len()), (stream.len(), 1_000_000));
        assert!(spans.iter().all(|span| stream[span.start as usize] == b'x' && span.len == 1));
    }

    #[test]
    fn an_unfinished_request_may_move_between_calls() {
        let stream = command(&[b"SET", b"key", b"value"]);
        let (mut parser, mut spans) = (Parser::new(), Vec::new());
        let behind = [b"PING\r\n", &stream[..20]].concat();
        assert_eq!(parser.next(&behind, 6, &LIMITS, &mut spans), Parsed::Incomplete { wanted: Some(22) });
        let elsewhere = [b"xx", &stream[..]].concat();
        assert_eq!(parser.next(&elsewhere, 2, &LIMITS, &mut spans), Parsed::Command { used: stream.len() });
        let args: Vec<&[u8]> = shards::call::Args::new(&elsewhere, &spans).iter().collect();
        assert_eq!(args, [&b"SET"[..], b"key", b"value"]);
    }

    #[test]
    fn a_limit_lowered_in_the_middle_of_a_request_refuses_it() {
        let lowered = RequestLimits { query_bytes_max: 10, ..LIMITS };
        for stream in [&b"*2\r\n$3\r\nGET\r\n$3\r\nke"[..], b"an inline request", b"*1111111111111111"] {
            let (mut parser, mut spans) = (Parser::new(), Vec::new());
            assert!(matches!(parser.next(stream, 0, &LIMITS, &mut spans), Parsed::Incomplete { .. }));
            let parsed = parser.next(stream, 0, &lowered, &mut spans);
            assert_eq!(parsed, Parsed::Error(ProtocolError::QueryTooLong));
        }
    }

    #[test]
    fn announced_numbers_cost_no_memory() {
        let limits = RequestLimits::default();
        for stream in [&b"*2147483647\r\n"[..], b"*2147483647\r\n$3\r\nSET\r\n", b"*3\r\n$3\r\nSET\r\n$536870912\r\n"] {
            let (mut parser, mut spans) = (Parser::new(), Vec::new());
            assert!(matches!(parser.next(stream, 0, &limits, &mut spans), Parsed::Incomplete { .. }));
            assert!(spans.capacity() < 64 && parser.spans.capacity() < 64);
        }
    }

    #[test]
    fn a_cut_argument_says_how_many_bytes_it_wants() {
        let mut parser = Parser::new();
        let parsed = parser.next(b"*2\r\n$3\r\nGET\r\n$500000\r\nabc", 0, &LIMITS, &mut Vec::new());
        assert_eq!(parsed, Parsed::Incomplete { wanted: Some(13 + 9 + 500_000 + 2) });
    }

    #[test]
    fn empty_lines_and_empty_arrays_are_ignored() {
        for nothing in [&b"\r\n"[..], b"\n", b" \t\r\n", b"*0\r\n", b"*-1\r\n", b"*-99999999999\r\n"] {
            assert_eq!(run(&[nothing, b"PING\r\n"].concat()), [Ok(vec![b"PING".to_vec()])]);
        }
    }

    /// Streams and what redis-server 7.0.15 replies to them.
    #[test]
    fn broken_requests_fail_as_in_redis() {
        use ProtocolError::*;
        let cases: &[(&[u8], Option<ProtocolError>)] = &[
            (b"*1\rX$4\rXPINGab", None),
            (b"*\r\n", Some(InvalidCount)),
            (b"*+1\r\n", Some(InvalidCount)),
            (b"*01\r\n", Some(InvalidCount)),
            (b"*-0\r\n", Some(InvalidCount)),
            (b"*2147483648\r\n", Some(InvalidCount)),
            (b"*2147483647\r\n", None),
            (b"*1\r\nfoo", None),
            (b"*1\r\nf\r", None),
            (b"*1\r\nfoo\r\n", Some(ExpectedBulk(b'f'))),
            (b"*1\r\n\r\n", Some(ExpectedBulk(b'\r'))),
            (b"*1\r\n\n\r\n", Some(ExpectedBulk(b'\n'))),
            (b"*1\r\n\xff\r\n", Some(ExpectedBulk(0xff))),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", Some(ExpectedBulk(b'f'))),
            (b"*1\r\n$-1\r\n", Some(InvalidBulkLength)),
            (b"*1\r\n$\r\n", Some(InvalidBulkLength)),
            (b"*1\r\n$+4\r\n", Some(InvalidBulkLength)),
            (b"*1\r\n$04\r\n", Some(InvalidBulkLength)),
            (b"*1\r\n$536870912\r\n", None),
            (b"*1\r\n$536870913\r\n", Some(InvalidBulkLength)),
            (b"*1\n$4\nPING\n", None),
            (b"echo \"a\"b\r\n", Some(UnbalancedQuotes)),
        ];
        for (stream, expected) in cases {
            assert_eq!(error(stream, &RequestLimits::default()), *expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn a_line_of_more_than_64_kb_is_refused() {
        let long = |head: &str, bytes: usize| [head.as_bytes(), &vec![b'1'; bytes - 1]].concat();
        let cases = [
            ("", "a", ProtocolError::InlineTooLong),
            ("", "*", ProtocolError::CountLineTooLong),
            ("*1\r\n", "$", ProtocolError::BulkLineTooLong),
        ];
        for (before, head, refused) in cases {
            let fits = [before.as_bytes(), &long(head, 65_536)].concat();
            let over = [before.as_bytes(), &long(head, 65_537)].concat();
            assert_eq!((error(&fits, &LIMITS), error(&over, &LIMITS)), (None, Some(refused)));
        }
    }

    #[test]
    fn before_authentication_requests_are_small() {
        let limits = RequestLimits { authenticated: false, ..RequestLimits::default() };
        assert_eq!(error(b"*10\r\n", &limits), None);
        assert_eq!(error(b"*11\r\n", &limits), Some(ProtocolError::UnauthenticatedCount));
        assert_eq!(error(b"*1\r\n$16384\r\n", &limits), None);
        assert_eq!(error(b"*1\r\n$16385\r\n", &limits), Some(ProtocolError::UnauthenticatedBulkLength));
    }

    #[test]
    fn a_request_longer_than_the_query_buffer_is_refused_when_announced() {
        let limits = RequestLimits { query_bytes_max: 1 << 20, ..RequestLimits::default() };
        assert_eq!(error(b"*1\r\n$1048565\r\n", &limits), Some(ProtocolError::QueryTooLong));
        assert_eq!(error(b"*1\r\n$1048560\r\n", &limits), None);
        let many = command(&vec![&b"abc"[..]; 200_000]);
        assert_eq!(naive::feed(many.chunks(4096), &limits), [Err(ProtocolError::QueryTooLong)]);
    }
}

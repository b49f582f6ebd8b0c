//! Redis' glob patterns (KEYS, SCAN MATCH, CONFIG GET, PSUBSCRIBE): `*`, `?`, `[a-z]`, `[^a]`, `\` escapes.
//!
//! Bytes, not characters, as in Redis. The rule that must hold: time is at most pattern length times text length
//! and nothing recurses, whatever a client sends. That works because only the last `*` ever needs a second try:
//! what an earlier `*` could give up, the later one can swallow.

/// Whether letters that differ only in ASCII case are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    Sensitive,
    Ignored,
}

/// Whether `pattern` matches all of `text`.
///
/// Malformed patterns mean what they mean in Redis: a class that is not closed ends with the pattern, `[]` matches
/// nothing, `[^]` any byte, a backslash at the very end is itself.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on after a mismatch: behind the last star, with one more byte of the text swallowed by it.
    let mut retry: Option<(usize, usize)> = None;
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return true;
            }
            retry = Some((at, from));
            continue;
        }
        if let Some(next) = one(pattern, at, text[from], case) {
            (at, from) = (next, from + 1);
            continue;
        }
        let Some((behind_star, swallowed)) = retry else { return false };
        (at, from) = (behind_star, swallowed + 1);
        retry = Some((at, from));
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Whether the pattern is one that every key matches, so that callers may skip matching.
pub fn is_all(pattern: &[u8]) -> bool {
    pattern == b"*"
}

/// If the element of the pattern at `at` (no star) matches `byte`: where the next element starts.
fn one(pattern: &[u8], at: usize, byte: u8, case: Case) -> Option<usize> {
    let (matched, next) = match *pattern.get(at)? {
        b'?' => (true, at + 1),
        b'[' => class(pattern, at + 1, byte, case),
        b'\\' if at + 1 < pattern.len() => (same(pattern[at + 1], byte, case), at + 2),
        literal => (same(literal, byte, case), at + 1),
    };
    matched.then_some(next)
}

/// Whether the class whose content starts at `at` has `byte`, and where it ends.
fn class(pattern: &[u8], mut at: usize, byte: u8, case: Case) -> (bool, usize) {
    let negated = pattern.get(at) == Some(&b'^');
    at += negated as usize;
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            // Redis looks at case here whatever was asked for.
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                found |= in_range(first, last, byte, case);
                at += 3;
            }
            [literal, ..] => {
                found |= same(literal, byte, case);
                at += 1;
            }
        }
    }
}

/// The ends of a range may come in either order; they are ordered before their case is dropped, as in Redis.
fn in_range(first: u8, last: u8, byte: u8, case: Case) -> bool {
    let (low, high) = (first.min(last), first.max(last));
    match case {
        Case::Sensitive => (low..=high).contains(&byte),
        Case::Ignored => (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&byte.to_ascii_lowercase()),
    }
}

fn same(a: u8, b: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => a == b,
        Case::Ignored => a.eq_ignore_ascii_case(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by recursion: a star matches nothing, or one more byte.
    fn naive(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(b'*'), None) => naive(&pattern[1..], text, case),
            (Some(b'*'), Some(_)) => naive(&pattern[1..], text, case) || naive(pattern, &text[1..], case),
            (Some(_), None) => false,
            (Some(_), Some(&byte)) => {
                one(pattern, 0, byte, case).is_some_and(|next| naive(&pattern[next..], &text[1..], case))
            }
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        let cases: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", true),
            ("*", "anything", true),
            ("a", "", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hbllo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[\\-a]", "-", true),
            ("[]", "]", false),
            ("[]a", "a", false),
            ("[^]", "x", true),
            ("[", "[", false),
            ("[abc", "b", true),
            ("[^abc", "b", false),
            ("[^", "b", true),
            ("[a-", "-", true),
            ("[a-", "b", false),
            ("[a-]", "]", true),
            ("[a-]", "a", true),
            ("[a-]", "-", false),
            ("[\\", "\\", true),
            ("\\", "\\", true),
            ("a\\", "a\\", true),
            ("\\\\", "\\", true),
            ("*.conf", "a.conf.conf", true),
            ("*ab*cd", "xabyabzcd", true),
            ("*ab*cd", "xabyabzce", false),
            ("a*", "a", true),
            ("a*?", "a", false),
            ("*?", "", false),
            ("MAX*", "maxmemory", false),
        ];
        for &(pattern, text, expected) in cases {
            let got = matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive);
            assert_eq!(got, expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn case_is_ignored_when_asked_for() {
        for (pattern, text, expected) in [
            ("MAX*", "maxmemory", true),
            ("m[A-Z]x", "max", true),
            ("m[A]x", "max", true),
            ("m[\\A]x", "max", false),
            ("max", "mux", false),
            ("[^A]", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), Case::Ignored),
                expected,
                "{pattern:?} on {text:?}"
            );
        }
    }

    #[test]
    fn it_agrees_with_its_naive_twin() {
        let seed = 0x5eed_0001;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut some = |alphabet: &[u8], len: usize| -> Vec<u8> {
            let len = random.usize(..len);
            (0..len).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
        };
        for round in 0..200_000 {
            let pattern = some(b"aabbBc**?[]^-\\", 9);
            let text = some(b"aabbBc]-\\", 9);
            for case in [Case::Sensitive, Case::Ignored] {
                let got = matches(&pattern, &text, case);
                assert_eq!(got, naive(&pattern, &text, case), "seed {seed:#x}, round {round}: {pattern:?} on {text:?}");
            }
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let text = vec![b'a'; 20_000];
        let mut pattern = b"*a".repeat(64);
        pattern.push(b'b');
        // With a second try for each star this would take 20,000^64 steps.
        assert!(!matches(&pattern, &text, Case::Sensitive));
        pattern.pop();
        assert!(matches(&pattern, &text, Case::Sensitive));
    }

    #[test]
    fn bytes_beyond_ascii_are_bytes() {
        assert!(matches(b"\xff?[\x80-\xfe]", b"\xff\x00\x90", Case::Sensitive));
        assert!(!matches(b"[\x80-\xfe]", b"\x7f", Case::Ignored));
    }
}

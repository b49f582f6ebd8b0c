//! Texts to values and back, per kind of setting, with Redis' wording for what does not fit.

use super::table::Kind;
use crate::resp::inline;
use shards::numbers::parse_integer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The value of one setting.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Integer(i64),
    Memory(u64),
    YesNo(bool),
    /// One of the words of the setting's row.
    Word(&'static str),
    Text(Vec<u8>),
    Words(Vec<Vec<u8>>),
    Addresses(Vec<BindAddress>),
    Cores(Vec<usize>),
    OutputLimits([OutputLimit; 3]),
    SavePoints(Vec<(u32, u32)>),
    Percentiles(Vec<f64>),
    Events(String),
}

/// An address to listen on. The text is kept to be shown as it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindAddress {
    pub ip: IpAddr,
    /// The server starts without it when the machine does not have it.
    pub optional: bool,
    text: String,
}

/// When unread replies disconnect a client. 0 for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

/// The classes of clients in the order of `Value::OutputLimits`, as Redis prints them.
const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];
/// The largest CPU number that `cores` accepts: the size of the kernel's usual CPU set.
const CPU_MAX: usize = 1023;
/// Event classes that `A` stands for, in the order in which Redis prints them.
const EVENTS_ALL: &str = "g$lshzxetd";

/// Reads `text` as a value; `before` is what the setting had, which kinds with parts keep in part.
pub fn parse(kind: Kind, text: &[u8], before: &Value) -> Result<Value, String> {
    match kind {
        Kind::Integer { min, max } => {
            let value = parse_integer(text).ok_or("argument couldn't be parsed into an integer")?;
            if value < min || value > max { Err(between(min, max)) } else { Ok(Value::Integer(value)) }
        }
        Kind::Clamped { min, max } => {
            let value = parse_integer(text).ok_or("argument couldn't be parsed into an integer")?;
            Ok(Value::Integer(value.clamp(min, max)))
        }
        Kind::Memory { min, max } => {
            let value = parse_memory(text).ok_or("argument must be a memory value")?;
            if value < min || value > max { Err(between(min, max)) } else { Ok(Value::Memory(value)) }
        }
        Kind::YesNo if text.eq_ignore_ascii_case(b"yes") => Ok(Value::YesNo(true)),
        Kind::YesNo if text.eq_ignore_ascii_case(b"no") => Ok(Value::YesNo(false)),
        Kind::YesNo => Err("argument must be 'yes' or 'no'".into()),
        Kind::OneOf(words) => words
            .iter()
            .find(|word| word.as_bytes().eq_ignore_ascii_case(text))
            .map(|word| Value::Word(word))
            .ok_or_else(|| format!("argument(s) must be one of the following: {}", words.join(", "))),
        Kind::Text => Ok(Value::Text(text.to_vec())),
        Kind::Words => words(text).map(Value::Words),
        Kind::Addresses => addresses(text).map(Value::Addresses),
        Kind::Cores => cores(text).map(Value::Cores),
        Kind::OutputLimits => output_limits(text, before).map(Value::OutputLimits),
        Kind::SavePoints => save_points(text).map(Value::SavePoints),
        Kind::Percentiles => percentiles(text).map(Value::Percentiles),
        Kind::Events => {
            events(text).map(Value::Events).ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
        }
        Kind::Only { value, .. } if value.as_bytes().eq_ignore_ascii_case(text) => Ok(Value::Word(value)),
        Kind::Only { reason, .. } => Err(reason.into()),
    }
}

/// The value as CONFIG GET shows it.
pub fn print(value: &Value) -> Vec<u8> {
    match value {
        Value::Integer(value) => value.to_string().into_bytes(),
        Value::Memory(bytes) => bytes.to_string().into_bytes(),
        Value::YesNo(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::Word(word) => (*word).into(),
        Value::Text(text) => text.clone(),
        Value::Words(words) => words.join(&b' '),
        Value::Addresses(list) => joined(list, " ", |address| address.text.clone()),
        Value::Cores(list) => {
            joined(
                &ranges(list),
                ",",
                |&(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}-{last}") }
                },
            )
        }
        Value::OutputLimits(limits) => joined(&output_limit_lines(limits), " ", String::clone),
        Value::SavePoints(points) => joined(points, " ", |(seconds, changes)| format!("{seconds} {changes}")),
        Value::Percentiles(list) => joined(list, " ", f64::to_string),
        Value::Events(flags) => flags.clone().into_bytes(),
    }
}

/// The value as the arguments of its lines in a file: most kinds have one line.
pub fn lines(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::OutputLimits(limits) => output_limit_lines(limits).into_iter().map(String::into_bytes).collect(),
        Value::SavePoints(points) if !points.is_empty() => {
            points.iter().map(|(seconds, changes)| format!("{seconds} {changes}").into_bytes()).collect()
        }
        // Each of the words is quoted where it needs to be; the others are one word or plain ones.
        Value::Words(words) if !words.is_empty() => {
            vec![words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&b' ')]
        }
        Value::Text(text) => vec![quoted(text)],
        Value::Addresses(list) if !list.is_empty() => vec![print(value)],
        Value::Percentiles(list) if !list.is_empty() => vec![print(value)],
        other => vec![quoted(&print(other))],
    }
}

/// What the kind accepts, for people.
pub fn range(kind: Kind) -> String {
    match kind {
        Kind::Integer { min, max } | Kind::Clamped { min, max } => format!("{min} to {max}"),
        Kind::Memory { min, max } => format!("{} to {}", short_memory(min), short_memory(max)),
        Kind::YesNo => "yes, no".into(),
        Kind::OneOf(words) => words.join(", "),
        Kind::Text => "text".into(),
        Kind::Words => "words".into(),
        Kind::Addresses => "IP addresses".into(),
        Kind::Cores => "CPU numbers and ranges".into(),
        Kind::OutputLimits => "class hard soft seconds, for normal, replica and pubsub".into(),
        Kind::SavePoints => "pairs of seconds and changes".into(),
        Kind::Percentiles => "numbers from 0 to 100".into(),
        Kind::Events => "letters of Ag$lshzxeKEtmdn".into(),
        Kind::Only { value: "", .. } => "empty".into(),
        Kind::Only { value, .. } => format!("only {value}"),
    }
}

/// A text as a word of a file: as it stands if it can, else between double quotes.
pub fn quoted(text: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#');
    if !text.is_empty() && text.iter().all(plain) {
        return text.to_vec();
    }
    let mut word = vec![b'"'];
    for &byte in text {
        match byte {
            b'"' | b'\\' => word.extend([b'\\', byte]),
            b' '..=b'~' => word.push(byte),
            _ => word.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    word.push(b'"');
    word
}

fn between(min: impl std::fmt::Display, max: impl std::fmt::Display) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

/// `100`, `100b`, `1k` (1000), `1kb` (1024) and so on, without regard to case.
fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let bytes: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    std::str::from_utf8(number).ok()?.parse::<u64>().ok()?.checked_mul(bytes)
}

fn short_memory(bytes: u64) -> String {
    if bytes == i64::MAX as u64 {
        return "no limit".into();
    }
    [(30, "gb"), (20, "mb"), (10, "kb")]
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn words(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = inline::split(text).ok_or("unbalanced quotes")?;
    words.retain(|word| !word.is_empty());
    Ok(words)
}

fn plain_words(text: &[u8]) -> Vec<&str> {
    // What is not UTF-8 is no number and no address either: it becomes a word that fits nothing.
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| std::str::from_utf8(word).unwrap_or("?"))
        .collect()
}

fn addresses(text: &[u8]) -> Result<Vec<BindAddress>, String> {
    let list: Vec<BindAddress> = plain_words(text).into_iter().map(address).collect::<Result<_, _>>()?;
    if list.is_empty() { Err("at least one address is needed".into()) } else { Ok(list) }
}

fn address(text: &str) -> Result<BindAddress, String> {
    let (optional, host) = text.strip_prefix('-').map_or((false, text), |host| (true, host));
    let ip = match host {
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => host.parse().map_err(|_| format!("'{text}' is not an IP address"))?,
    };
    Ok(BindAddress { ip, optional, text: text.into() })
}

fn cores(text: &[u8]) -> Result<Vec<usize>, String> {
    let fault = || format!("argument must be CPU numbers and ranges between 0 and {CPU_MAX}, as 0,2-5");
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu <= CPU_MAX).ok_or_else(fault);
    let text = std::str::from_utf8(text).map_err(|_| fault())?;
    let mut list = Vec::new();
    for part in text.split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(fault());
        }
        list.extend(first..=last);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn ranges(list: &[usize]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in list {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    ranges
}

fn output_limits(text: &[u8], before: &Value) -> Result<[OutputLimit; 3], String> {
    let mut limits = if let Value::OutputLimits(limits) = before { *limits } else { Default::default() };
    let words = plain_words(text);
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for line in words.chunks(4) {
        let class = match line[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        limits[class] =
            output_limit(line).ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
    }
    Ok(limits)
}

fn output_limit(line: &[&str]) -> Option<OutputLimit> {
    Some(OutputLimit {
        hard_bytes: parse_memory(line[1].as_bytes())?,
        soft_bytes: parse_memory(line[2].as_bytes())?,
        soft_seconds: line[3].parse().ok()?,
    })
}

fn output_limit_lines(limits: &[OutputLimit; 3]) -> Vec<String> {
    let line = |(class, limit): (&str, &OutputLimit)| {
        format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
    };
    CLASSES.into_iter().zip(limits).map(line).collect()
}

fn save_points(text: &[u8]) -> Result<Vec<(u32, u32)>, String> {
    let fault = || "Invalid save parameters".to_string();
    let words = plain_words(text);
    if !words.len().is_multiple_of(2) {
        return Err(fault());
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| fault());
    let point = |pair: &[&str]| match (number(pair[0])?, number(pair[1])?) {
        (0, _) => Err(fault()),
        point => Ok(point),
    };
    words.chunks(2).map(point).collect()
}

fn percentiles(text: &[u8]) -> Result<Vec<f64>, String> {
    let fault = || "Invalid latency-tracking-info-percentiles parameters".to_string();
    let list: Vec<f64> =
        plain_words(text).into_iter().map(|word| word.parse().map_err(|_| fault())).collect::<Result<_, _>>()?;
    if list.iter().all(|percentile| (0.0..=100.0).contains(percentile)) {
        Ok(list)
    } else {
        Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into())
    }
}

/// The flags in Redis' order, `A` in place of all it stands for.
fn events(text: &[u8]) -> Option<String> {
    let known = |byte: &u8| EVENTS_ALL.as_bytes().contains(byte) || b"AKEmn".contains(byte);
    if !text.iter().all(known) {
        return None;
    }
    let has = |flag: char| text.contains(&(flag as u8));
    let classes = if has('A') || EVENTS_ALL.chars().all(has) {
        "A".to_string()
    } else {
        EVENTS_ALL.chars().chain(['n']).filter(|&flag| has(flag)).collect()
    };
    Some(classes + &"KEm".chars().filter(|&flag| has(flag)).collect::<String>())
}

fn joined<T>(list: &[T], between: &str, text: impl Fn(&T) -> String) -> Vec<u8> {
    list.iter().map(text).collect::<Vec<_>>().join(between).into_bytes()
}

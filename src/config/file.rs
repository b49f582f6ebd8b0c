//! Files in the syntax of redis.conf: reading them into settings, and writing changed settings back.
//!
//! A line is a name and its words; `#` starts a comment line; words are quoted as in inline requests. Opening
//! files is left to the caller.

use super::table::{self, Kind, SETTINGS};
use super::values::{self, Value};
use super::{SettingError, Settings, default_value};
use crate::resp::inline;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// Files that include each other deeper than this include themselves.
pub const INCLUDE_DEPTH_MAX: usize = 16;

/// Why a file is refused, with the place.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}:{line}: cannot read the included {included}: {source}")]
    IncludeUnreadable { path: PathBuf, line: usize, included: PathBuf, source: io::Error },
    #[error("{path}:{line}: {reason}")]
    Line { path: PathBuf, line: usize, reason: String },
}

/// Opens and reads a whole file.
pub type ReadFile<'a> = &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>;

/// Applies the file at `path` to `settings`. A relative `include` is looked up beside the file that names it.
pub fn load(settings: &mut Settings, path: &Path, read: ReadFile) -> Result<(), FileError> {
    let text = read(path).map_err(|source| FileError::Unreadable { path: path.into(), source })?;
    apply(settings, path, &text, read, 0)
}

fn apply(settings: &mut Settings, path: &Path, text: &[u8], read: ReadFile, depth: usize) -> Result<(), FileError> {
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line_number = index + 1;
        let refused = |reason: String| FileError::Line { path: path.into(), line: line_number, reason };
        let Some(words) = split(line).map_err(refused)? else { continue };
        if !words[0].eq_ignore_ascii_case(b"include") {
            assign(settings, &words).map_err(|error| refused(error.to_string()))?;
            continue;
        }
        if depth == INCLUDE_DEPTH_MAX {
            return Err(refused(format!("include is nested deeper than {INCLUDE_DEPTH_MAX} files")));
        }
        let [_, name] = &words[..] else { return Err(refused("include takes one file".into())) };
        let included = path.parent().unwrap_or(Path::new("")).join(&*String::from_utf8_lossy(name));
        let text = read(&included).map_err(|source| FileError::IncludeUnreadable {
            path: path.into(),
            line: line_number,
            included: included.clone(),
            source,
        })?;
        apply(settings, &included, &text, read, depth + 1)?;
    }
    Ok(())
}

/// The words of a line; `None` for a comment or an empty line.
fn split(line: &[u8]) -> Result<Option<Vec<Vec<u8>>>, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let words = inline::split(line).ok_or("unbalanced quotes")?;
    Ok(Some(words).filter(|words| !words.is_empty()))
}

/// Applies one line. Lines of `save` add up, as in Redis, except that `save ""` forgets those before.
fn assign(settings: &mut Settings, words: &[Vec<u8>]) -> Result<(), SettingError> {
    let name = String::from_utf8_lossy(&words[0]).into_owned();
    let index = table::find(&words[0]).ok_or_else(|| SettingError::Unknown(name.clone()))?;
    let setting = &SETTINGS[index];
    let rest = &words[1..];
    let text = match setting.kind {
        Kind::Words => rest.iter().map(|word| values::quoted(word)).collect::<Vec<_>>().join(&b' '),
        _ => rest.join(&b' '),
    };
    if rest.is_empty() || (rest.len() > 1 && !takes_words(setting.kind)) {
        return Err(SettingError::BadValue {
            name: setting.name,
            value: String::from_utf8_lossy(&text).into_owned(),
            reason: "wrong number of arguments".into(),
            range: values::range(setting.kind),
        });
    }
    let before = settings.values[index].clone();
    settings.set(&name, &text)?;
    if let (Value::SavePoints(before), Value::SavePoints(points)) = (before, &mut settings.values[index])
        && !points.is_empty()
    {
        points.splice(0..0, before);
    }
    Ok(())
}

/// Whether a line may have several words after the name.
pub fn takes_words(kind: Kind) -> bool {
    match kind {
        Kind::Words | Kind::Addresses | Kind::OutputLimits | Kind::SavePoints | Kind::Percentiles => true,
        Kind::Only { .. } => true,
        Kind::Integer { .. } | Kind::Clamped { .. } | Kind::Memory { .. } | Kind::YesNo | Kind::OneOf(_) => false,
        Kind::Text | Kind::Cores | Kind::Events => false,
    }
}

/// The text of a file that gives `settings`, made from `text`: lines that still hold stay as they are, those
/// that do not are replaced where they stand, what is missing is appended. Comments and order are kept.
///
/// Included files are not looked into: a setting that an included file changes after its line wins.
pub fn rewrite(settings: &Settings, text: &[u8]) -> Vec<u8> {
    let stated = stated(text);
    let holds = |index: usize| stated.get(&index).is_some_and(|value| *value == settings.values[index]);
    let mut written = vec![false; SETTINGS.len()];
    let mut out = Vec::new();
    for line in text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n') {
        match named(line) {
            Some(index) if !holds(index) => {
                if !std::mem::replace(&mut written[index], true) {
                    write_setting(&mut out, settings, index);
                }
            }
            _ if text.is_empty() => {}
            _ => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
    }
    let missing = |&index: &usize| {
        !stated.contains_key(&index) && !written[index] && settings.values[index] != default_value(&SETTINGS[index])
    };
    let missing: Vec<usize> = (0..SETTINGS.len()).filter(missing).collect();
    if !missing.is_empty() && !text.windows(REWRITTEN.len()).any(|window| window == REWRITTEN) {
        out.extend_from_slice(REWRITTEN);
        out.push(b'\n');
    }
    missing.into_iter().for_each(|index| write_setting(&mut out, settings, index));
    out
}

const REWRITTEN: &[u8] = b"# Generated by CONFIG REWRITE";

/// What the lines of a file give, without its includes: the values of the settings it names.
fn stated(text: &[u8]) -> HashMap<usize, Value> {
    let mut settings = Settings::default();
    let mut stated = HashMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        if let (Some(index), Ok(Some(words))) = (named(line), split(line)) {
            // A line that someone broke since the start holds nothing, and is replaced.
            if assign(&mut settings, &words).is_ok() {
                stated.insert(index, settings.values[index].clone());
            }
        }
    }
    stated
}

/// The setting that a line names.
fn named(line: &[u8]) -> Option<usize> {
    split(line).ok().flatten().and_then(|words| table::find(&words[0]))
}

fn write_setting(out: &mut Vec<u8>, settings: &Settings, index: usize) {
    for line in values::lines(&settings.values[index]) {
        out.extend_from_slice(SETTINGS[index].name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(&line);
        out.push(b'\n');
    }
}

//! Configuration: the values of all settings, by name (`Settings`) and as the server reads them (`Config`).
//!
//! What a setting is stands in `table`; texts are read and printed in `values`, files in `file`. Nothing here
//! does I/O. The rule: a `Settings` only ever holds values that its table accepts.

pub mod file;
pub mod table;
mod typed;
pub mod values;

pub use typed::{Appendfsync, Config, LogFormat, LogLevel};
pub use values::BindAddress;

use shards::error::{CommandError, SYNTAX};
use std::fmt::Write;
use table::{Effect, Kind, SETTINGS, Setting, When};
use values::Value;

/// The value of every setting.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// In the order of the table.
    values: Vec<Value>,
}

/// Why a value is refused at start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingError {
    #[error("unknown setting '{0}'")]
    Unknown(String),
    #[error("bad value '{value}' for {name}: {reason} (accepted: {range})")]
    BadValue { name: &'static str, value: String, reason: String, range: String },
}

impl Default for Settings {
    fn default() -> Self {
        Settings { values: SETTINGS.iter().map(default_value).collect() }
    }
}

impl Settings {
    /// Sets a setting at start, whatever it is. `text` is the whole value.
    pub fn set(&mut self, name: &str, text: &[u8]) -> Result<(), SettingError> {
        let index = table::find(name.as_bytes()).ok_or_else(|| SettingError::Unknown(name.into()))?;
        let setting = &SETTINGS[index];
        let refused = |reason| SettingError::BadValue {
            name: setting.name,
            value: String::from_utf8_lossy(text).into_owned(),
            reason,
            range: values::range(setting.kind),
        };
        self.values[index] = values::parse(setting.kind, text, &self.values[index]).map_err(refused)?;
        Ok(())
    }

    /// CONFIG SET: names and values in turn. All of them are set or none. Returns the settings that changed.
    pub fn set_live(&mut self, pairs: &[&[u8]]) -> Result<Vec<&'static Setting>, CommandError> {
        if pairs.len() < 2 {
            return Err(CommandError::wrong_arity("config|set"));
        }
        if !pairs.len().is_multiple_of(2) {
            return Err(SYNTAX);
        }
        let rows = live_rows(pairs)?;
        let mut next = self.clone();
        for (&(index, name), pair) in rows.iter().zip(pairs.chunks(2)) {
            let setting = &SETTINGS[index];
            let before = &next.values[index];
            let value = values::parse(setting.kind, pair[1], before).map_err(|reason| refused(name, &reason))?;
            if setting.when == When::Unchanged && value != *before {
                return Err(refused(name, "the server must be restarted to change it"));
            }
            next.values[index] = value;
        }
        let changed = (0..SETTINGS.len()).filter(|&index| self.values[index] != next.values[index]);
        let changed = changed.map(|index| &SETTINGS[index]).collect();
        *self = next;
        Ok(changed)
    }

    /// CONFIG GET: names and values, no name twice. A plain name answers as it was written, also an alias;
    /// a glob answers with every name it matches. `matches` compares a lower-case pattern with a name.
    pub fn get(&self, patterns: &[&[u8]], matches: impl Fn(&[u8], &[u8]) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], index: usize| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), values::print(&self.values[index])));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                if let Some(index) = table::find(pattern) {
                    add(pattern, index);
                }
                continue;
            }
            let pattern = pattern.to_ascii_lowercase();
            for (index, setting) in SETTINGS.iter().enumerate() {
                for name in [setting.name].into_iter().chain(setting.aliases()) {
                    if matches(&pattern, name.as_bytes()) {
                        add(name.as_bytes(), index);
                    }
                }
            }
        }
        found
    }

    /// CONFIG REWRITE: the text of a file that gives these settings, from the text it has now.
    pub fn rewrite(&self, text: &[u8]) -> Vec<u8> {
        file::rewrite(self, text)
    }

    /// The settings as the server reads them.
    pub fn config(&self) -> Config {
        Config::new(self)
    }

    /// Remarks on settings that do not do what someone coming from Redis may expect; for the log at start.
    pub fn remarks(&self) -> Vec<String> {
        let changed = |setting: &&Setting| setting.doc.starts_with("Ignored") && !self.is_default(setting);
        SETTINGS.iter().filter(changed).map(|setting| format!("{}: {}", setting.name, setting.doc)).collect()
    }

    fn is_default(&self, setting: &Setting) -> bool {
        *self.value(setting.name) == default_value(setting)
    }

    /// The value of a setting of the table.
    pub(crate) fn value(&self, name: &'static str) -> &Value {
        &self.values[table::find(name.as_bytes()).expect("the table has every name used in the program")]
    }
}

/// The rows that the names of CONFIG SET stand for, if all of them may be set.
fn live_rows(pairs: &[&[u8]]) -> Result<Vec<(usize, &'static str)>, CommandError> {
    let mut rows: Vec<(usize, &'static str)> = Vec::new();
    for pair in pairs.chunks(2) {
        let Some(index) = table::find(pair[0]) else {
            let name = String::from_utf8_lossy(pair[0]);
            let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
            return Err(CommandError::owned(text));
        };
        let setting = &SETTINGS[index];
        // An error names what the client wrote, which may be an alias.
        let alias = setting.aliases().find(|alias| alias.as_bytes().eq_ignore_ascii_case(pair[0]));
        let name = alias.unwrap_or(setting.name);
        match setting.when {
            When::Start => return Err(refused(name, "can't set immutable config")),
            When::Protected => return Err(refused(name, "can't set protected config")),
            When::Live | When::Unchanged if rows.contains(&(index, name)) => {
                return Err(refused(name, "duplicate parameter"));
            }
            When::Live | When::Unchanged => rows.push((index, name)),
        }
    }
    Ok(rows)
}

fn refused(name: &str, reason: &str) -> CommandError {
    CommandError::owned(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
}

fn default_value(setting: &Setting) -> Value {
    let nothing = Value::Text(Vec::new());
    values::parse(setting.kind, setting.default.as_bytes(), &nothing).expect("the table's defaults are accepted")
}

/// The documentation page of all settings.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Settings\n");
    rows(&mut page, Effect::Used);
    page.push_str(
        "\n## Accepted for compatibility\n\nThese are checked, kept and reported by CONFIG GET, and change nothing.\n",
    );
    rows(&mut page, Effect::Stored);
    page.push_str("\n## Other names\n\n| name | stands for |\n|---|---|\n");
    for (alias, name) in table::ALIASES {
        writeln!(page, "| `{alias}` | `{name}` |").expect("a string takes every write");
    }
    page
}

const INTRODUCTION: &str = "\
# Configuration

This page is made from the table in `src/config/table.rs`; `UPDATE_DOCS=1 cargo test --lib config` writes it anew.

A setting can be given in four places. Later ones win:

1. its default;
2. a file in the syntax of redis.conf: `shardis FILE` or `shardis --config FILE`;
3. the environment: `SHARDIS_APPENDFSYNC=always`, the name in capitals, dashes as underscores;
4. flags: `--appendfsync always`.

Settings marked live can also be changed with CONFIG SET while the server runs, and CONFIG REWRITE writes them to the
file. Setting one marked \"same\" succeeds only with the value it has. Sizes take the units of Redis: `1k` is 1000
bytes, `1kb` is 1024, and so on with `m`, `mb`, `g`, `gb`. In a file, `include` reads another one in its place, `save`
and `client-output-buffer-limit` may be repeated, and words with spaces stand in quotes.
";

fn rows(page: &mut String, effect: Effect) {
    page.push_str("\n| name | default | accepted | live | |\n|---|---|---|---|---|\n");
    for setting in SETTINGS.iter().filter(|setting| setting.effect == effect) {
        let live = match setting.when {
            When::Live => "yes",
            When::Unchanged => "same",
            When::Start | When::Protected => "no",
        };
        let default = if setting.default.is_empty() { "(empty)".into() } else { format!("`{}`", setting.default) };
        let (name, range, doc) = (setting.name, accepted(setting.kind), setting.doc);
        writeln!(page, "| `{name}` | {default} | {range} | {live} | {doc} |").expect("a string takes every write");
    }
}

fn accepted(kind: Kind) -> String {
    values::range(kind).replace(&i64::MAX.to_string(), "2^63-1")
}

#[cfg(test)]
mod tests;

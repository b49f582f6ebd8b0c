//! The tree's own rules, checked on its text: what may be known where, how big a file may grow, how it opens.
//! A rule that can't be read off the text belongs to clippy or to a reviewer.

use std::path::{Path, PathBuf};

const RUST_LINES_MAX: usize = 1000;

/// Crates of the shard: all of them pure computation. A runtime, a logger or a source of entropy has no place here.
const SHARD_DEPENDENCIES: [&str; 9] =
    ["ahash", "bytes", "crc32fast", "fast-float2", "itoa", "smallvec", "thiserror", "hashbrown", "twox-hash"];

/// Where `unsafe` may stand: a file or a folder each.
const UNSAFE: [&str; 7] = [
    "src/runtime/",
    "shards/src/keyspace/table.rs",
    "shards/src/keyspace/packed.rs",
    "shards/src/keyspace/arena.rs",
    "shards/src/keyspace/segment.rs",
    "tests/support/server.rs",
    "tests/end_to_end.rs",
];

/// What a shard gets handed in, and so must not fetch for itself.
const AMBIENT: [&str; 13] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::io::std",
    "std::sync::Mutex",
    "Instant::now",
    "SystemTime",
    "std::time::Instant",
    "getrandom",
    "RandomState::new",
    "thread_local!",
];

/// Marks of unfinished work. Spelled in halves, so that this file doesn't find itself.
const UNFINISHED: [&str; 6] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("#[ig", "nore"),
    concat!("XX", "X:"),
];

#[test]
fn glommio_and_io_uring_are_known_in_the_runtime_folder_only() {
    let outside = |file: &Source| !file.path.starts_with("src/runtime/") && file.path != "tests/tree.rs";
    assert_nowhere(outside, &["glommio", "io_uring::", "use io_uring"], "belongs into src/runtime");
}

#[test]
fn a_shard_asks_the_world_for_nothing() {
    let in_shard = |file: &Source| file.path.starts_with("shards/src/");
    assert_nowhere(in_shard, &AMBIENT, "has no place in a shard");
    // Tests print their seeds.
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| in_shard(file) && !file.is_test()) {
        let shipped = file.code().take_while(|(_, line)| *line != "mod tests {");
        found.extend(shipped.filter(|(_, line)| line.contains("println!")).map(|(number, _)| file.at(number)));
    }
    assert_none(found, "prints: a shard says everything by what it returns");
}

#[test]
fn a_shard_depends_on_pure_computation_only() {
    let manifest = std::fs::read_to_string(root().join("shards/Cargo.toml")).expect("the shard is a crate");
    let dependencies = manifest.split_once("\n[dependencies]\n").expect("it has dependencies").1;
    let section = dependencies.lines().take_while(|line| !line.starts_with('['));
    let names = section.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let names = names.map(|name| name.trim_end_matches(".workspace")).collect::<Vec<_>>();
    assert!(!names.is_empty());
    for name in names {
        assert!(SHARD_DEPENDENCIES.contains(&name), "shards/Cargo.toml: {name} is not in the list of tests/tree.rs");
    }
    let tables = manifest.lines().filter(|line| line.starts_with('[') && line.contains("dependencies"));
    let allowed = ["[dependencies]", "[dev-dependencies]"];
    tables.for_each(|table| assert!(allowed.contains(&table), "shards/Cargo.toml: {table}"));
}

#[test]
fn every_file_says_what_it_owns() {
    let silent = sources().into_iter().filter(|file| !file.text.starts_with("//!")).map(|file| file.path);
    assert_none(silent.collect(), "does not open with //!");
}

#[test]
fn no_file_grows_without_end() {
    let long = sources().into_iter().filter(|file| !file.path.starts_with("tests/"));
    let long = long.filter(|file| file.text.lines().count() > RUST_LINES_MAX).map(|file| file.path);
    assert_none(long.collect(), "is over 1,000 lines: find the second subject in it");
}

#[test]
fn nothing_is_left_unfinished_and_no_test_is_switched_off() {
    assert_nowhere(|_| true, &UNFINISHED, "is not left in the tree");
}

#[test]
fn unsafe_stands_in_named_files_only() {
    let allowed = |path: &str| UNSAFE.iter().any(|place| path.starts_with(place));
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| !allowed(&file.path)) {
        found.extend(file.code().filter(|(_, line)| has_word(line, concat!("un", "safe"))).map(|(n, _)| file.at(n)));
    }
    assert_none(found, "is in no file that tests/tree.rs lists for such code");
}

#[test]
fn nothing_names_a_place_on_someones_machine() {
    // In halves, as above.
    let places = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    assert_nowhere(|_| true, &places, "is a path of one machine");
}

struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
    }
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the tree.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "shards", "tests", "benches", "examples", "fuzz"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 10, "the tree was not found");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("it was found below the root").to_string_lossy().into_owned();
        Source { path: name, text: std::fs::read_to_string(&path).expect("sources are UTF-8") }
    };
    found.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the tree can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[track_caller]
fn assert_nowhere(files: impl Fn(&Source) -> bool, words: &[&str], why: &str) {
    let mut found = Vec::new();
    for file in sources().iter().filter(|file| files(file)) {
        for (number, line) in file.code() {
            found.extend(words.iter().filter(|word| line.contains(*word)).map(|word| file.at(number) + ": " + word));
        }
    }
    assert_none(found, why);
}

#[track_caller]
fn assert_none(found: Vec<String>, why: &str) {
    let lines = found.iter().map(|place| format!("{place} {why}\n")).collect::<String>();
    assert!(found.is_empty(), "{lines}");
}

/// `word` as a word of its own: `unsafe_op_in_unsafe_fn` is no unsafe code.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

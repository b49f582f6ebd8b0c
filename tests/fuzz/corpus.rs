//! The files of tests/corpora: payloads as digits of bytes, commands as lines of scripts.

use crate::support::Command;
use crate::support::resp::command_line;
use crate::support::script::split_arguments;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(name)
}

/// What all files of a folder hold, in the order of their names.
fn texts(name: &str) -> Vec<(String, String)> {
    let Ok(files) = std::fs::read_dir(folder(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("the folder can be read").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("corpora are text");
        (path.file_name().expect("a file has a name").to_string_lossy().into_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// Whether what shows something new is to be kept.
pub fn keeps() -> bool {
    crate::support::from_env("SHARDIS_FUZZ_KEEP", 0) > 0
}

pub fn payloads() -> Vec<(String, Vec<u8>)> {
    texts("rdb").into_iter().map(|(name, text)| (name, bytes_of(text.trim()))).collect()
}

pub fn keep_payload(name: &str, payload: &[u8]) {
    let digits: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder("rdb").join(format!("{name}.hex")), digits + "\n").expect("the corpus can be written");
}

/// A file is run as a whole, each command where those before it led.
pub fn commands() -> Vec<(String, Vec<Command>)> {
    let parse = |line: &str| split_arguments(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let lines = |text: String| text.lines().filter(|line| !line.is_empty()).map(parse).collect();
    texts("commands").into_iter().map(|(name, text)| (name, lines(text))).collect()
}

/// In place of what is there.
pub fn keep_commands(name: &str, commands: &[Command]) {
    let lines: String = commands.iter().map(|args| command_line(args) + "\n").collect();
    std::fs::create_dir_all(folder("commands")).expect("the folder can be made");
    std::fs::write(folder("commands").join(format!("{name}.txt")), lines).expect("the corpus can be written");
}

fn bytes_of(digits: &str) -> Vec<u8> {
    let digit = |at: usize| digits.as_bytes().get(at).and_then(|digit| (*digit as char).to_digit(16)).expect("hex");
    (0..digits.len() / 2).map(|at| (digit(2 * at) << 4 | digit(2 * at + 1)) as u8).collect()
}

/// For names of files.
pub fn short_hash(bytes: &[u8]) -> String {
    format!("{:016x}", shards::rdb::Crc64::of(bytes))
}

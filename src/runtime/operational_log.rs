//! The operational log: lines for operators on standard error or in a file, as text or JSON. Never on a command's path.

use crate::config::{Config, LogFormat, LogLevel};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts logging where `logfile` says. The error is one line for the operator.
pub fn start(config: &Config) -> Result<(), String> {
    let to_stderr = config.logfile.as_os_str().is_empty();
    let writer = if to_stderr {
        BoxMakeWriter::new(std::io::stderr)
    } else {
        let open = OpenOptions::new().create(true).append(true).open(&config.logfile);
        let file = open.map_err(|error| format!("--logfile {}: {error}", config.logfile.display()))?;
        BoxMakeWriter::new(Mutex::new(file))
    };
    let (level, handle) = reload::Layer::new(filter(config.loglevel));
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(writer);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(to_stderr && std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(level).with(lines).init();
    // Only the first start of a process counts, and there is only one.
    let _ = LEVEL.set(handle);
    Ok(())
}

/// `CONFIG SET loglevel`.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only when the subscriber is gone, at the process' end.
        let _ = handle.modify(|current| *current = filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Verbose | LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    }
}

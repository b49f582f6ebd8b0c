//! The binary: reads its settings, then runs until told to stop.

use shardis::cli::{self, Launch};
use shardis::config::{Config, LogFormat, LogLevel};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let launched = cli::read(std::env::args_os(), std::env::vars_os(), &mut |path| std::fs::read(path));
    let start = match launched {
        Ok(Launch::Serve(start)) => start,
        Ok(Launch::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("shardis: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = start.settings.config();
    if let Err(error) = log_to(&config).and_then(|()| write_pid(&config)) {
        eprintln!("shardis: {error}");
        return ExitCode::FAILURE;
    }
    start.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    let outcome = shardis::runtime::run(start.settings, start.file);
    if !config.pidfile.as_os_str().is_empty() {
        // Gone already if somebody tidied up: no reason to end otherwise than well.
        let _ = std::fs::remove_file(&config.pidfile);
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardis: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the operational log goes: standard error, or the file that `logfile` names.
fn log_to(config: &Config) -> Result<(), String> {
    let level = match config.loglevel {
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Verbose | LogLevel::Notice => tracing::Level::INFO,
        LogLevel::Warning => tracing::Level::WARN,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    let writer = if config.logfile.as_os_str().is_empty() {
        BoxMakeWriter::new(std::io::stderr)
    } else {
        let open = OpenOptions::new().create(true).append(true).open(&config.logfile);
        let file = open.map_err(|error| format!("--logfile {}: {error}", config.logfile.display()))?;
        BoxMakeWriter::new(Mutex::new(file))
    };
    let to_terminal = config.logfile.as_os_str().is_empty() && std::io::stderr().is_terminal();
    let lines = lines.with_ansi(to_terminal).with_writer(writer);
    match config.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// The process id in the file that `pidfile` names, if it names one.
fn write_pid(config: &Config) -> Result<(), String> {
    if config.pidfile.as_os_str().is_empty() {
        return Ok(());
    }
    let text = format!("{}\n", std::process::id());
    std::fs::write(&config.pidfile, text).map_err(|error| format!("--pidfile {}: {error}", config.pidfile.display()))
}

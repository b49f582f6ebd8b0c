//! The binary: reads its settings, then runs until told to stop.

use shardis::cli::{self, Launch};
use shardis::config::{Config, LogFormat, LogLevel};
use std::process::ExitCode;

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
    log_to(&start.settings.config());
    start.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
    match shardis::runtime::run(start.settings, start.file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardis: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to(config: &Config) {
    let level = match config.loglevel {
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Verbose | LogLevel::Notice => tracing::Level::INFO,
        LogLevel::Warning => tracing::Level::WARN,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

//! The binary: reads its settings, then runs until told to stop.

use shardis::cli::{self, Launch, LaunchError};
use shardis::config::Config;
use shardis::offline::{self, Tool};
use shardis::runtime::operational_log;
use std::io::BufWriter;
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
        Ok(Launch::Tool(tool)) => return run_tool(&tool),
        Err(error @ LaunchError::ToolUsage(_)) => {
            eprintln!("shardis: {error}");
            return ExitCode::from(offline::UNEXAMINED);
        }
        Err(error) => {
            eprintln!("shardis: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = start.settings.config();
    if let Err(error) = operational_log::start(&config).and_then(|()| write_pid(&config)) {
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

fn run_tool(tool: &Tool) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match offline::run(tool, &mut out) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("shardis: {error}");
            ExitCode::from(offline::UNEXAMINED)
        }
    }
}

/// The process id in the file that `pidfile` names, if it names one.
fn write_pid(config: &Config) -> Result<(), String> {
    if config.pidfile.as_os_str().is_empty() {
        return Ok(());
    }
    let text = format!("{}\n", std::process::id());
    std::fs::write(&config.pidfile, text).map_err(|error| format!("--pidfile {}: {error}", config.pidfile.display()))
}

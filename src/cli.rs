//! The command line, and the order of sources: defaults, then the file, then the environment, then flags.
//!
//! Flags are made from the table of settings. Arguments, environment and files come in from the caller, so
//! that all of this can be tested; `main` prints and exits.

use crate::config::file::{self, FileError, ReadFile};
use crate::config::table::{ALIASES, Effect, SETTINGS, Setting};
use crate::config::{SettingError, Settings, values};
use crate::offline::{Export, Import, Selection, Tool};
use crate::runtime::restore::{Moment, Request};
use clap::builder::ValueRange;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch {
    Serve(Box<Start>),
    /// Run this on a data directory and exit.
    Tool(Tool),
    /// Print this and exit with 0 (`--help`, `--version`).
    Print(String),
}

/// What the server starts with.
#[derive(Debug)]
pub struct Start {
    pub settings: Settings,
    /// The file that CONFIG REWRITE writes to.
    pub file: Option<PathBuf>,
    /// For the log, once there is one.
    pub remarks: Vec<String>,
}

/// Why the server does not start: print it and exit with 1.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{0}")]
    Usage(clap::Error),
    /// The same for a tool, whose exit code 1 says something else.
    #[error("{0}")]
    ToolUsage(clap::Error),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("environment variable {variable}: {error}")]
    Environment { variable: String, error: SettingError },
    #[error("--{flag}: {error}")]
    Flag { flag: &'static str, error: SettingError },
}

/// Reads all sources. `args` includes the program's name.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    read_file: ReadFile,
) -> Result<Launch, LaunchError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let names_tool = args.get(1).is_some_and(|first| TOOLS.iter().any(|tool| first == tool));
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Launch::Print(error.to_string()));
        }
        Err(error) if names_tool => return Err(LaunchError::ToolUsage(error)),
        Err(error) => return Err(LaunchError::Usage(error)),
    };
    if let Some((name, matches)) = matches.subcommand() {
        return Ok(Launch::Tool(tool(name, matches)));
    }
    let environment = Environment::read(environment);
    let path = |name| matches.get_one::<PathBuf>(name).cloned();
    let file = path("config").or_else(|| path("file")).or(environment.config);

    let mut settings = Settings::default();
    if let Some(file) = &file {
        file::load(&mut settings, file, read_file)?;
    }
    for (variable, name, text) in environment.settings {
        settings.set(name, &text).map_err(|error| LaunchError::Environment { variable, error })?;
    }
    flags(&mut settings, &matches)?;

    let mut remarks = environment.remarks;
    remarks.extend(settings.remarks());
    Ok(Launch::Serve(Box::new(Start { settings, file, remarks })))
}

fn flags(settings: &mut Settings, matches: &ArgMatches) -> Result<(), LaunchError> {
    for setting in SETTINGS {
        let Some(given) = matches.get_many::<OsString>(setting.name) else { continue };
        let given: Vec<&[u8]> = given.map(|text| text.as_bytes()).collect();
        // Words may come one by one or together; of a single value the last one counts, as in redis-server.
        let text = if file::takes_words(setting.kind) {
            given.join(&b' ')
        } else {
            given.last().copied().unwrap_or_default().to_vec()
        };
        settings.set(setting.name, &text).map_err(|error| LaunchError::Flag { flag: setting.name, error })?;
    }
    Ok(())
}

const CHECK: &str = "check";
const DUMP: &str = "dump";
const RESTORE: &str = "restore";
const IMPORT: &str = "import";
const EXPORT: &str = "export";
/// They exit with 2 where a server exits with 1.
const TOOLS: [&str; 5] = [CHECK, DUMP, RESTORE, IMPORT, EXPORT];

fn tool(name: &str, matches: &ArgMatches) -> Tool {
    if name == RESTORE {
        return Tool::Restore(restore_request(matches));
    }
    if name == IMPORT {
        return Tool::Import(import_request(matches));
    }
    if name == EXPORT {
        return Tool::Export(export_request(matches));
    }
    let directory = matches.get_one::<PathBuf>("DIR").expect("clap asks for it").clone();
    if name == CHECK {
        return Tool::Check { directory, repair: matches.get_flag("repair") };
    }
    let selection = Selection {
        shard: matches.get_one("shard").copied(),
        from_offset: matches.get_one("from-offset").copied().unwrap_or(0),
        keys: matches.get_flag("keys"),
    };
    Tool::Dump { directory, selection }
}

fn restore_request(matches: &ArgMatches) -> Request {
    let defaults = Settings::default().config();
    let offsets = matches.get_many::<u64>("to-offset").map(|offsets| Moment::Offsets(offsets.copied().collect()));
    let time = matches.get_one::<u64>("to-time").map(|time_ms| Moment::Time(*time_ms));
    Request {
        sources: matches.get_many::<PathBuf>("from").expect("clap asks for it").cloned().collect(),
        target: matches.get_one::<PathBuf>("to").expect("clap asks for it").clone(),
        moment: offsets.or(time).unwrap_or(Moment::Latest),
        databases: matches.get_one("databases").copied().unwrap_or(defaults.databases),
        segment_bytes: defaults.wal_segment_bytes,
    }
}

fn import_request(matches: &ArgMatches) -> Import {
    let text = |name| matches.get_one::<String>(name).cloned();
    Import {
        file: matches.get_one::<PathBuf>("FILE").expect("clap asks for it").clone(),
        host: text("host").expect("it has a default"),
        port: *matches.get_one("port").expect("it has a default"),
        user: text("user"),
        password: text("password"),
        replace: matches.get_flag("replace"),
    }
}

fn export_request(matches: &ArgMatches) -> Export {
    let path = |name| matches.get_one::<PathBuf>(name).expect("clap asks for it").clone();
    let databases = matches.get_one("databases").copied();
    let databases = databases.unwrap_or(Settings::default().config().databases);
    let drops_field_deadlines = matches.get_flag("drop-field-ttl");
    Export { directory: path("DIR"), file: path("FILE"), databases, drops_field_deadlines }
}

fn transfer_commands() -> [Command; 2] {
    let file = || Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)).help("An RDB file");
    let option = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    let replace = Arg::new("replace").long("replace").action(ArgAction::SetTrue);
    let import = Command::new(IMPORT)
        .about("Puts the keys of an RDB file into a running server")
        .after_help("Exit code: 0 all keys, 1 some were there already, 2 it was broken off.")
        .arg(file())
        .arg(option("host", "HOST").default_value("127.0.0.1").help("The server"))
        .arg(option("port", "PORT").default_value("6379").value_parser(value_parser!(u16)).help("Its port"))
        .arg(option("user", "NAME").requires("password").help("Its user"))
        .arg(option("password", "PASSWORD").help("Its password"))
        .arg(replace.help("Replaces keys that are there; otherwise they stay"));
    let directory = Arg::new("DIR").required(true).value_parser(value_parser!(PathBuf));
    let export = Command::new(EXPORT)
        .about("Writes an RDB file that redis-server 7 loads")
        .after_help("Exit code: 0 all keys, 2 not done.")
        .arg(directory.help("A data directory (--dir) that no server uses, or a backup"))
        .arg(file())
        .arg(
            option("databases", "N")
                .value_parser(value_parser!(u16))
                .help("Number of databases, if it is not the default"),
        )
        .arg(
            Arg::new("drop-field-ttl")
                .long("drop-field-ttl")
                .action(ArgAction::SetTrue)
                .help("Leaves out times to live of fields of hashes, for which Redis 7.0 has no place"),
        );
    [import, export]
}

/// Seconds or milliseconds since 1970, or a date and time in UTC.
fn moment(text: &str) -> Result<u64, String> {
    const MILLISECONDS_FROM: u64 = 100_000_000_000;
    if let Ok(number) = text.parse::<u64>() {
        return Ok(if number < MILLISECONDS_FROM { number * 1_000 } else { number });
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| format!("{error} (as in 2026-01-31 23:59:59)"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| "before 1970".to_string())?;
    Ok(since.as_millis() as u64)
}

fn restore_command() -> Command {
    let path = |name: &'static str| Arg::new(name).long(name).required(true).value_parser(value_parser!(PathBuf));
    let from = path("from").value_name("DIR").action(ArgAction::Append);
    let to_time = Arg::new("to-time").long("to-time").value_name("TIME").value_parser(moment);
    let to_offset = Arg::new("to-offset").long("to-offset").value_name("N,N,...").value_delimiter(',');
    let databases = Arg::new("databases").long("databases").value_name("N").value_parser(value_parser!(u16));
    Command::new(RESTORE)
        .about("Writes a new data directory that holds what was there at some moment")
        .after_help("Exit code: 0 done, 2 not done.")
        .arg(from.help("A data directory or an archive (wal-archive-dir); give all that there are"))
        .arg(path("to").value_name("DIR").help("The new data directory; not there yet, or empty"))
        .arg(to_time.conflicts_with("to-offset").help(
            "Nothing written later: seconds or milliseconds since 1970, or a date and time in UTC. Without it, all there is",
        ))
        .arg(
            to_offset
                .value_parser(value_parser!(u64))
                .help("Nothing that ends behind these offsets, one per shard (INFO persistence tells them)"),
        )
        .arg(databases.help("Number of databases, if it is not the default"))
}

fn tool_commands() -> [Command; 3] {
    let directory =
        || Arg::new("DIR").required(true).value_parser(value_parser!(PathBuf)).help("A data directory (--dir)");
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let number = |name: &'static str| Arg::new(name).long(name).value_name("N");
    let repair = "Give up what is damaged and all that builds on it, so that a start works; what is cut off is kept";
    let check = Command::new(CHECK)
        .about("Says whether a start works on a data directory, and what is damaged where")
        .after_help("Exit code: 0 sound, 1 damaged, 2 it can't be examined (a server uses it, for example).")
        .arg(directory())
        .arg(switch("repair").help(repair));
    let dump = Command::new(DUMP)
        .about("Prints the records and edits of a data directory, one edit a line")
        .after_help("Exit code: 0 sound, 1 damaged (all that can be read is printed), 2 it can't be examined.")
        .arg(directory())
        .arg(number("shard").value_parser(value_parser!(u16)).help("Only this shard"))
        .arg(number("from-offset").value_parser(value_parser!(u64)).help("Only edits from this offset of a shard on"))
        .arg(switch("keys").help("Keys without their values"));
    [check, dump, restore_command()]
}

const SOURCES: &str = "\
Settings also come from FILE (redis.conf syntax) and from the environment (SHARDIS_APPENDFSYNC=always).
Flags win over the environment, the environment over the file.";

fn command() -> Command {
    let file = Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).conflicts_with("config");
    let config = Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
    Command::new("shardis")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis-compatible, thread-per-core, shared-nothing database server")
        .after_help(SOURCES)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands(tool_commands())
        .subcommands(transfer_commands())
        .arg(file.help("Configuration file, as --config"))
        .arg(config.help("Configuration file in the syntax of redis.conf"))
        .args(SETTINGS.iter().map(flag))
}

fn flag(setting: &'static Setting) -> Arg {
    let takes_words = file::takes_words(setting.kind);
    let (heading, hidden) = match setting.effect {
        Effect::Used => ("Settings", false),
        Effect::Stored => ("Accepted for compatibility, without effect", true),
    };
    let default = if setting.default.is_empty() { "empty" } else { setting.default };
    Arg::new(setting.name)
        .long(setting.name)
        .aliases(setting.aliases())
        .help(format!("{} Accepted: {}. Default: {default}", setting.doc, values::range(setting.kind)))
        .value_name("VALUE")
        .value_parser(value_parser!(OsString))
        .action(ArgAction::Append)
        // A value may start with a dash where exactly one is taken; elsewhere `--bind=-::1` is the way.
        .num_args(if takes_words { ValueRange::from(1..) } else { 1.into() })
        .allow_hyphen_values(!takes_words)
        .help_heading(heading)
        .hide_short_help(hidden)
}

/// The variables that concern the server.
#[derive(Default)]
struct Environment {
    config: Option<PathBuf>,
    /// Variable, setting, value.
    settings: Vec<(String, &'static str, Vec<u8>)>,
    remarks: Vec<String>,
}

impl Environment {
    fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Environment::default();
        for (variable, value) in variables {
            let Some(name) = variable.to_str().and_then(|variable| variable.strip_prefix("SHARDIS_")) else { continue };
            let value = value.into_vec();
            // Kubernetes sets these for a service that is called shardis.
            let of_kubernetes =
                name.starts_with("SERVICE_") || name.starts_with("PORT_") || value.starts_with(b"tcp://");
            if name == "CONFIG" {
                environment.config = Some(OsString::from_vec(value).into());
            } else if of_kubernetes {
                environment.remarks.push(format!("SHARDIS_{name}: ignored, it describes a Kubernetes service"));
            } else if let Some(setting) = setting_of(name) {
                environment.settings.push((format!("SHARDIS_{name}"), setting, value));
            } else {
                environment.remarks.push(format!("SHARDIS_{name}: ignored, there is no such setting"));
            }
        }
        // The order of the environment is anyone's; an alias and its name would otherwise win by chance.
        environment.settings.sort();
        environment
    }
}

fn setting_of(variable: &str) -> Option<&'static str> {
    let is = |name: &str| name.replace('-', "_").eq_ignore_ascii_case(variable);
    let alias = ALIASES.iter().find(|(alias, _)| is(alias)).map(|(_, name)| *name);
    alias.or_else(|| SETTINGS.iter().map(|setting| setting.name).find(|name| is(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    fn start(args: &[&str], environment: &[(&str, &str)], file: &str) -> Result<Start, String> {
        let args = ["shardis"].iter().chain(args).map(OsString::from);
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let mut read_file = |path: &Path| {
            if path == Path::new("test.conf") { Ok(file.into()) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        match read(args, environment, &mut read_file) {
            Ok(Launch::Serve(start)) => Ok(*start),
            Ok(Launch::Print(text)) => Err(text),
            Ok(Launch::Tool(tool)) => Err(format!("{tool:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = "maxclients 1\ntimeout 1\nhz 20\n";
        let environment = [("SHARDIS_MAXCLIENTS", "2"), ("SHARDIS_TIMEOUT", "2"), ("HOME", "/")];
        let start = start(&["test.conf", "--maxclients", "3"], &environment, file).unwrap();
        let config = start.settings.config();
        assert_eq!((config.maxclients, config.timeout_seconds, config.hz, config.port), (3, 2, 20, 6379));
        assert_eq!(start.file, Some("test.conf".into()));
        assert!(start.remarks.is_empty());
    }

    #[test]
    fn the_file_may_be_named_three_ways() {
        for (args, environment) in [
            (&["test.conf"][..], None),
            (&["--config", "test.conf"], None),
            (&[], Some(("SHARDIS_CONFIG", "test.conf"))),
        ] {
            let environment: Vec<_> = environment.into_iter().collect();
            assert_eq!(start(args, &environment, "port 7000").unwrap().settings.config().port, 7000);
        }
    }

    #[test]
    fn lists_come_in_one_word_or_several() {
        let several = start(&["--bind", "127.0.0.1", "::1", "--save", "900", "1", "--port", "7000"], &[], "").unwrap();
        let one = start(&["--bind", "127.0.0.1 ::1", "--save", "900 1", "--port", "7000"], &[], "").unwrap();
        assert_eq!(several.settings, one.settings);
        assert_eq!(one.settings.config().bind.len(), 2);
        assert!(start(&["--bind=-::1", "--save", ""], &[], "").unwrap().settings.config().bind[0].optional);
    }

    #[test]
    fn aliases_and_hyphen_values_work_as_flags() {
        let start = start(&["--slave-read-only", "no", "--slowlog-log-slower-than", "-1"], &[], "").unwrap();
        let config = start.settings.config();
        assert_eq!((config.replica_read_only, config.slowlog_log_slower_than_us), (false, -1));
    }

    #[test]
    fn a_bad_value_names_the_setting_the_value_and_the_range() {
        let expected =
            "bad value 'x' for maxclients: argument couldn't be parsed into an integer (accepted: 1 to 4294967295)";
        let flag = start(&["--maxclients", "x"], &[], "").unwrap_err();
        let environment = start(&[], &[("SHARDIS_MAXCLIENTS", "x")], "").unwrap_err();
        let file = start(&["test.conf"], &[], "\nmaxclients x").unwrap_err();
        assert_eq!(flag, format!("--maxclients: {expected}"));
        assert_eq!(environment, format!("environment variable SHARDIS_MAXCLIENTS: {expected}"));
        assert_eq!(file, format!("test.conf:2: {expected}"));
        assert!(start(&["--port", "0"], &[], "").unwrap_err().contains("between 1 and 65535"));
        assert!(start(&["--daemonize", "yes"], &[], "").unwrap_err().contains("foreground"));
    }

    #[test]
    fn help_shows_every_setting_with_its_default() {
        let help = start(&["--help"], &[], "").unwrap_err();
        for setting in SETTINGS {
            assert!(help.contains(&format!("--{}", setting.name)), "{}", setting.name);
        }
        assert!(help.contains("Default: 10000"));
        assert!(start(&["--version"], &[], "").unwrap_err().contains(env!("CARGO_PKG_VERSION")));
        assert!(start(&["--no-such-flag"], &[], "").unwrap_err().contains("--no-such-flag"));
    }

    #[test]
    fn variables_of_kubernetes_are_not_settings() {
        let environment = [("SHARDIS_PORT", "tcp://10.0.0.1:6379"), ("SHARDIS_SERVICE_HOST", "10.0.0.1")];
        let start = start(&[], &environment, "").unwrap();
        assert_eq!((start.settings.config().port, start.remarks.len()), (6379, 2));
    }

    #[test]
    fn settings_without_effect_are_remarked_on() {
        let start = start(&["--io-threads", "4"], &[("SHARDIS_NONSENSE", "1")], "").unwrap();
        assert!(start.remarks[0].contains("SHARDIS_NONSENSE"));
        assert!(start.remarks[1].starts_with("io-threads: Ignored"));
    }

    #[test]
    fn tools_are_told_from_files_and_have_an_exit_code_of_their_own() {
        let read =
            |args: &[&str]| read(["shardis"].iter().chain(args).map(OsString::from), [], &mut |_| Ok(Vec::new()));
        let check = |directory: &str, repair| Tool::Check { directory: directory.into(), repair };
        let selection = Selection { shard: Some(1), from_offset: 70, keys: true };
        let dump = Tool::Dump { directory: "data".into(), selection };
        for (args, tool) in [
            (&["check", "data"][..], check("data", false)),
            (&["check", "data", "--repair"], check("data", true)),
            (&["dump", "--shard", "1", "--from-offset", "70", "--keys", "data"], dump),
        ] {
            assert!(matches!(read(args), Ok(Launch::Tool(read)) if read == tool), "{args:?}");
        }
        for args in [&["check"][..], &["dump", "--shard", "many", "data"], &["check", "data", "--port", "7000"]] {
            assert!(matches!(read(args), Err(LaunchError::ToolUsage(_))), "{args:?}");
        }
        assert!(matches!(read(&["./check"]), Ok(Launch::Serve(_))), "a file");
        assert!(matches!(read(&["--save", "check"]), Err(LaunchError::Flag { .. })), "a value");
    }

    #[test]
    fn the_flags_are_well_formed() {
        command().debug_assert();
    }
}

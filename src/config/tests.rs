//! Tests of the settings by name: CONFIG GET, SET, REWRITE, files, and the documentation page.

use super::file::FileError;
use super::*;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Stands in for the glob matcher: `*` at the ends only.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [b'*'] => true,
        [b'*', rest @ ..] => name.ends_with(rest),
        [rest @ .., b'*'] => name.starts_with(rest),
        _ => pattern == name,
    }
}

fn get(settings: &Settings, name: &str) -> String {
    let found = settings.get(&[name.as_bytes()], matches);
    assert_eq!(found.len(), 1, "{name}");
    String::from_utf8(found[0].1.clone()).unwrap()
}

fn set(settings: &mut Settings, pairs: &[&str]) -> Result<Vec<&'static str>, String> {
    let pairs: Vec<&[u8]> = pairs.iter().map(|text| text.as_bytes()).collect();
    let changed = settings.set_live(&pairs).map_err(|error| error.0.into_owned())?;
    Ok(changed.into_iter().map(|setting| setting.name).collect())
}

fn load(files: &[(&str, &str)]) -> Result<Settings, FileError> {
    let files: HashMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
    let mut read = |path: &Path| match files.get(path) {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let mut settings = Settings::default();
    file::load(&mut settings, Path::new("a.conf"), &mut read)?;
    Ok(settings)
}

/// Requests and replies of redis-server 7.0.15, for the settings both have.
#[test]
fn config_set_refuses_with_redis_texts() {
    let failed =
        |name: &str, reason: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
    let integer = "argument couldn't be parsed into an integer";
    let memory = "argument must be a memory value";
    let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'x'".to_string();
    let arity = "ERR wrong number of arguments for 'config|set' command".to_string();
    let cases: Vec<(&[&str], String)> = vec![
        (&["x", "1"], unknown),
        (&["x"], arity.clone()),
        (&[], arity),
        (&["maxclients", "1", "hz"], "ERR syntax error".into()),
        (&["MAXCLIENTS", "abc"], failed("maxclients", integer)),
        (&["maxclients", "0"], failed("maxclients", "argument must be between 1 and 4294967295 inclusive")),
        (&["timeout", "-1"], failed("timeout", "argument must be between 0 and 2147483647 inclusive")),
        (&["maxmemory", "abc"], failed("maxmemory", memory)),
        (&["maxmemory", "-1"], failed("maxmemory", memory)),
        (&["maxmemory", "1.5gb"], failed("maxmemory", memory)),
        (&["replica-read-only", "maybe"], failed("replica-read-only", "argument must be 'yes' or 'no'")),
        (&["SLAVE-read-only", "maybe"], failed("slave-read-only", "argument must be 'yes' or 'no'")),
        (
            &["appendfsync", "foo"],
            failed("appendfsync", "argument(s) must be one of the following: everysec, always, no"),
        ),
        (&["port", "7000"], failed("port", "can't set immutable config")),
        (&["databases", "4"], failed("databases", "can't set immutable config")),
        (&["dir", "/tmp"], failed("dir", "can't set protected config")),
        (&["save", "900"], failed("save", "Invalid save parameters")),
        (&["save", "900 -1"], failed("save", "Invalid save parameters")),
        (&["maxclients", "5", "maxclients", "6"], failed("maxclients", "duplicate parameter")),
        (
            &["client-output-buffer-limit", "normal 0 0"],
            failed("client-output-buffer-limit", "Wrong number of arguments in buffer limit configuration."),
        ),
        (
            &["client-output-buffer-limit", "foo 0 0 0"],
            failed("client-output-buffer-limit", "Invalid client class specified in buffer limit configuration."),
        ),
        (
            &["client-output-buffer-limit", "normal 1mb 0 x"],
            failed(
                "client-output-buffer-limit",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
        ),
        (
            &["latency-tracking-info-percentiles", "50 a"],
            failed("latency-tracking-info-percentiles", "Invalid latency-tracking-info-percentiles parameters"),
        ),
        (
            &["latency-tracking-info-percentiles", "50 101"],
            failed(
                "latency-tracking-info-percentiles",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
        ),
    ];
    for (pairs, text) in cases {
        let mut settings = Settings::default();
        assert_eq!(set(&mut settings, pairs), Err(text), "{pairs:?}");
        assert_eq!(settings, Settings::default(), "{pairs:?}");
    }
}

#[test]
fn config_set_of_several_settings_is_all_or_nothing() {
    let mut settings = Settings::default();
    assert!(set(&mut settings, &["maxclients", "5", "timeout", "x"]).is_err());
    assert!(set(&mut settings, &["maxclients", "5", "nope", "1"]).is_err());
    assert!(set(&mut settings, &["maxclients", "5", "port", "1"]).is_err());
    assert_eq!(get(&settings, "maxclients"), "10000");
    assert_eq!(
        set(&mut settings, &["timeout", "7", "hz", "10", "maxclients", "5"]).unwrap(),
        ["maxclients", "timeout"]
    );
    let config = settings.config();
    assert_eq!((config.maxclients, config.timeout_seconds), (5, 7));
}

#[test]
fn values_print_as_in_redis() {
    let cases = [
        ("maxmemory", "100mb", "104857600"),
        ("maxmemory", "1k", "1000"),
        ("maxmemory", "1kB", "1024"),
        ("hz", "1000", "500"),
        ("save", "900 1 300 10", "900 1 300 10"),
        ("save", "", ""),
        ("loglevel", "WARNING", "warning"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "Kxe$lshzxgtdnm", "AKm"),
        ("notify-keyspace-events", "Ex", "xE"),
        ("latency-tracking-info-percentiles", "50 99.99", "50 99.99"),
        (
            "client-output-buffer-limit",
            "replica 1mb 0 0",
            "normal 1073741824 0 0 slave 1048576 0 0 pubsub 33554432 8388608 60",
        ),
        ("appendonly", "yes", "yes"),
        ("maxmemory-policy", "allkeys-LFU", "allkeys-lfu"),
    ];
    for (name, text, shown) in cases {
        let mut settings = Settings::default();
        set(&mut settings, &[name, text]).unwrap();
        assert_eq!(get(&settings, name), shown, "{name} {text}");
    }
}

#[test]
fn appendonly_is_live_only_in_name() {
    let mut settings = Settings::default();
    assert_eq!(set(&mut settings, &["appendonly", "yes"]), Ok(vec![]));
    assert!(set(&mut settings, &["appendonly", "no"]).unwrap_err().contains("restarted"));
}

#[test]
fn settings_that_frameworks_send_are_accepted() {
    let sent = [
        ("save", ""),
        ("appendonly", "yes"),
        ("maxmemory-policy", "noeviction"),
        ("notify-keyspace-events", "Egx"),
        ("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 0 0 0"),
        ("hash-max-ziplist-entries", "128"),
        ("stop-writes-on-bgsave-error", "no"),
        ("lazyfree-lazy-user-del", "yes"),
        ("latency-monitor-threshold", "100"),
        ("slowlog-max-len", "1000"),
        ("activedefrag", "no"),
        ("lua-time-limit", "10"),
        ("set-max-listpack-entries", "1"),
        ("io-threads", "4"),
    ];
    let mut settings = Settings::default();
    for (name, value) in sent {
        assert!(set(&mut settings, &[name, value]).is_ok(), "{name}");
    }
    assert_eq!(get(&settings, "hash-max-listpack-entries"), "128");
}

#[test]
fn config_get_answers_globs_several_patterns_and_aliases() {
    let settings = Settings::default();
    let names = |patterns: &[&str]| -> Vec<String> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|text| text.as_bytes()).collect();
        let found = settings.get(&patterns, matches);
        found.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
    };
    assert_eq!(names(&["slave-read-only", "replica-read-only", "nope"]), ["slave-read-only", "replica-read-only"]);
    assert_eq!(names(&["*READ-ONLY"]), ["replica-read-only", "slave-read-only"]);
    assert_eq!(names(&["MaxClients", "maxclients"]), ["MaxClients"]);
    assert_eq!(names(&["save", "appendonly"]), ["save", "appendonly"]);
    assert_eq!(names(&["*", "port"]).len(), SETTINGS.len() + table::ALIASES.len());
}

#[test]
fn a_file_has_comments_quotes_repeats_and_includes() {
    let main = "# comment\r\n\n  maxclients 5\r\nrequirepass \"a b\\x41\"\nsave 900 1\nsave 300 10 60 1\n\
                client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit pubsub 1mb 0 0\n\
                bind 127.0.0.1 -::1\ninclude sub/b.conf\nMAXMEMORY 1gb\nlogfile ''\n";
    let settings = load(&[("a.conf", main), ("sub/b.conf", "include c.conf"), ("sub/c.conf", "timeout 9")]).unwrap();
    let config = settings.config();
    assert_eq!((config.maxclients, config.timeout_seconds, config.maxmemory_bytes), (5, 9, 1 << 30));
    assert_eq!(config.requirepass, b"a bA");
    assert_eq!(get(&settings, "save"), "900 1 300 10 60 1");
    assert_eq!((config.output_normal.hard_bytes, config.output_pubsub.hard_bytes), (0, 1 << 20));
    assert_eq!(config.output_replica.hard_bytes, 256 << 20);
    assert_eq!(get(&settings, "bind"), "127.0.0.1 -::1");
    assert_eq!(get(&load(&[("a.conf", "save 1 1\nsave \"\"\nsave 2 2")]).unwrap(), "save"), "2 2");
}

#[test]
fn errors_in_files_name_the_file_and_the_line() {
    let error = |files: &[(&str, &str)]| load(files).unwrap_err().to_string();
    assert_eq!(error(&[("a.conf", "port 1\nnope 1")]), "a.conf:2: unknown setting 'nope'");
    assert!(error(&[("a.conf", "port 1 2")]).starts_with("a.conf:1: bad value '1 2' for port: wrong number"));
    assert!(error(&[("a.conf", "port")]).contains("wrong number of arguments"));
    assert!(error(&[("a.conf", "\n\nport \"1")]).starts_with("a.conf:3: unbalanced quotes"));
    assert!(error(&[("a.conf", "\ninclude b.conf")]).starts_with("a.conf:2: cannot read the included b.conf"));
    assert!(error(&[("a.conf", "include b.conf"), ("b.conf", "\nhz x")]).starts_with("b.conf:2: bad value 'x' for hz"));
    assert!(error(&[("a.conf", "include a.conf")]).contains("nested deeper than 16"));
    assert!(error(&[]).starts_with("cannot read a.conf"));
    assert!(error(&[("a.conf", "replicaof host 6379")]).contains("replication is not supported"));
}

#[test]
fn rewrite_keeps_comments_order_and_lines_that_still_hold() {
    let text = "# mine\nmaxmemory 100mb\n\ntimeout 5\nsave 900 1\nsave 300 10\n# end\nhz 20\n";
    let mut settings = load(&[("a.conf", text)]).unwrap();
    assert_eq!(settings.rewrite(text.as_bytes()), text.as_bytes());
    set(&mut settings, &["timeout", "6", "save", "60 1", "requirepass", "a \"b\n", "maxclients", "7"]).unwrap();
    let expected = "# mine\nmaxmemory 100mb\n\ntimeout 6\nsave 60 1\n# end\nhz 20\n\
                    # Generated by CONFIG REWRITE\nrequirepass \"a \\\"b\\x0a\"\nmaxclients 7\n";
    let rewritten = settings.rewrite(text.as_bytes());
    assert_eq!(rewritten.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    assert_eq!(load(&[("a.conf", expected)]).unwrap(), settings);
    assert_eq!(settings.rewrite(&rewritten), rewritten);
}

#[test]
fn a_rewritten_file_gives_the_same_settings() {
    let values = [
        ("bind", "* -::*"),
        ("cores", "5,0,2-4"),
        ("requirepass", "\u{e9}# '"),
        ("save", "1 2 3 4"),
        ("notify-keyspace-events", "KEA"),
        ("latency-tracking-info-percentiles", ""),
        ("ignore-warnings", "a b"),
        ("oom-score-adj-values", ""),
        ("client-output-buffer-limit", "pubsub 1 2 3"),
        ("proc-title-template", ""),
        ("appendonly", "no"),
    ];
    let mut settings = Settings::default();
    values.into_iter().for_each(|(name, text)| settings.set(name, text.as_bytes()).unwrap());
    let text = String::from_utf8(settings.rewrite(b"")).unwrap();
    assert_eq!(load(&[("a.conf", &text)]).unwrap(), settings, "{text}");
    assert_eq!(get(&settings, "cores"), "0,2-5");
    assert!(settings.set("bind", b"example.org").is_err() && settings.set("cores", b"3-1").is_err());
    assert!(settings.set("cores", b"5000").is_err() && settings.set("shards", b"-1").is_err());
}

#[test]
fn without_a_password_everyone_may_send_large_requests() {
    let mut settings = Settings::default();
    assert!(settings.config().request_limits(false).authenticated);
    set(&mut settings, &["requirepass", "x", "maxmemory-policy", "allkeys-lfu"]).unwrap();
    let config = settings.config();
    assert!(!config.request_limits(false).authenticated && config.request_limits(true).authenticated);
    assert!(config.shard_limits(1).lfu && Config::default().request_limits(true) == Default::default());
}

#[test]
fn the_documentation_page_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a folder")).unwrap();
        std::fs::write(&path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == markdown(), "docs/configuration.md is not up to date: run the tests with UPDATE_DOCS=1");
}

//! COMMAND: the catalogue as clients see it. Cluster clients find keys by it, redis-cli its hints.

use super::ServerHandler::Here;
use super::catalog::{Catalog, Command};
use super::{ServerCall, ServerHandler, describe, help};
use shards::call::Args;
use shards::error::{CommandError, CommandResult, SYNTAX};
use shards::glob::{self, Case};
use shards::reply::Reply;
use shards::row::{Keys, Row, Traits};

const BASE: Traits = Traits::CONNECTION.and(Traits::LOADING).and(Traits::STALE);

const fn row(
    name: &'static str,
    arity: i8,
    since: &'static str,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, BASE, handler).docs("server", since, "O(N) for N commands", summary)
}

pub const ROWS: &[Row<ServerHandler>] =
    &[row("command", -1, "2.8.13", "Describes all commands.", Here(all)).subcommands(SUBCOMMANDS)];

const SUBCOMMANDS: &[Row<ServerHandler>] = &[
    row("command|count", 2, "2.8.13", "Counts the commands.", Here(count)),
    row("command|info", -2, "2.8.13", "Describes some commands.", Here(info)),
    row("command|docs", -2, "7.0.0", "Documents commands.", Here(docs)),
    row("command|getkeys", -4, "2.8.13", "Finds the keys in a command.", Here(getkeys)),
    row(
        "command|getkeysandflags",
        -4,
        "7.0.0",
        "Finds the keys in a command, and what it does to them.",
        Here(getkeys_and_flags),
    ),
    row("command|list", -2, "7.0.0", "Names the commands.", Here(list)),
    row("command|help", 2, "5.0.0", "Lists the subcommands.", Here(usage)),
];

fn all(call: &mut ServerCall<'_>) -> CommandResult {
    let (catalog, mut reply) = call.catalog_and_reply();
    let commands: Vec<&Command> = whole_commands(catalog).collect();
    reply.array(commands.len());
    commands.into_iter().for_each(|command| describe(catalog, command, &mut reply));
    Ok(())
}

/// Without subcommands, which are listed with their parents.
fn whole_commands(catalog: &Catalog) -> impl Iterator<Item = &Command> {
    catalog.iter().filter(|command| command.parent.is_none())
}

fn count(call: &mut ServerCall<'_>) -> CommandResult {
    let count = whole_commands(&call.core.catalog).count();
    call.reply().integer(count as i64);
    Ok(())
}

fn info(call: &mut ServerCall<'_>) -> CommandResult {
    if call.args.len() == 2 {
        return all(call);
    }
    let names = call.args.from(2);
    let (catalog, mut reply) = call.catalog_and_reply();
    reply.array(names.len());
    for name in names.iter() {
        match named(catalog, name) {
            Some(command) => describe(catalog, command, &mut reply),
            None => reply.null(),
        }
    }
    Ok(())
}

/// `get`, or `config|get`.
fn named<'a>(catalog: &'a Catalog, name: &[u8]) -> Option<&'a Command> {
    catalog.by_full_name(&String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// The ten fields of COMMAND INFO.
fn describe(catalog: &Catalog, command: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(command.name().as_bytes());
    reply.integer(command.arity() as i64);
    let flags = describe::flags(command);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    let (first, last, step) = describe::key_range(command);
    [first, last, step].into_iter().for_each(|number| reply.integer(number as i64));
    let categories = describe::categories(command);
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(&format!("@{category}")));
    // Tips are for proxies that spread commands over nodes: this server does that itself.
    reply.set(0);
    let specs = describe::key_specs(command);
    reply.set(specs.len());
    specs.iter().for_each(|spec| key_spec(spec, reply));
    match command.subcommands.len() {
        // Redis' own shape for none.
        0 => reply.set(0),
        subcommands => reply.array(subcommands),
    }
    command.subcommands.iter().for_each(|(_, number)| describe(catalog, catalog.get(*number), reply));
}

fn key_spec(spec: &describe::KeySpec, reply: &mut Reply<'_>) {
    let flags = describe::key_flags(spec.usage);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len() + spec.range.is_none() as usize);
    flags.iter().for_each(|flag| reply.simple(flag));
    let Some(range) = spec.range else {
        reply.simple("incomplete");
        for step in ["begin_search", "find_keys"] {
            reply.bulk(step.as_bytes());
            kind(reply, "unknown", &[]);
        }
        return;
    };
    reply.bulk(b"begin_search");
    kind(reply, "index", &[("index", range.first)]);
    reply.bulk(b"find_keys");
    kind(reply, "range", &[("lastkey", range.last), ("keystep", range.step), ("limit", 0)]);
}

fn kind(reply: &mut Reply<'_>, name: &str, numbers: &[(&str, i8)]) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(name.as_bytes());
    reply.bulk(b"spec");
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(*number as i64);
    }
}

// ---- DOCS ----------------------------------------------------------------------------------------------

fn docs(call: &mut ServerCall<'_>) -> CommandResult {
    let names = call.args.from(2);
    let (catalog, mut reply) = call.catalog_and_reply();
    let commands: Vec<&Command> = if names.is_empty() {
        whole_commands(catalog).collect()
    } else {
        names.iter().filter_map(|name| named(catalog, name)).collect()
    };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| document(catalog, command, &mut reply));
    Ok(())
}

fn document(catalog: &Catalog, command: &Command, reply: &mut Reply<'_>) {
    let docs = command.docs();
    reply.bulk(command.name().as_bytes());
    reply.map(4 + !command.subcommands.is_empty() as usize);
    for (name, text) in
        [("summary", docs.summary), ("since", docs.since), ("group", docs.group), ("complexity", docs.complexity)]
    {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|(_, number)| document(catalog, catalog.get(*number), reply));
    }
}

// ---- keys ----------------------------------------------------------------------------------------------

fn getkeys(call: &mut ServerCall<'_>) -> CommandResult {
    let request = call.args.from(2);
    let (catalog, mut reply) = call.catalog_and_reply();
    let (_, positions) = keys(catalog, &request)?;
    reply.array(positions.len());
    positions.into_iter().for_each(|position| reply.bulk(request.at(position)));
    Ok(())
}

fn getkeys_and_flags(call: &mut ServerCall<'_>) -> CommandResult {
    let request = call.args.from(2);
    let (catalog, mut reply) = call.catalog_and_reply();
    let (command, positions) = keys(catalog, &request)?;
    reply.array(positions.len());
    for position in positions {
        reply.array(2);
        reply.bulk(request.at(position));
        let flags = describe::key_flags(describe::key_use(command, position));
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    Ok(())
}

/// The command that a request names, and where its keys are.
fn keys<'a>(catalog: &'a Catalog, request: &Args<'_>) -> Result<(&'a Command, Vec<usize>), CommandError> {
    let command =
        catalog.resolve(request.at(0), request.get(1)).ok_or(CommandError::new("ERR Invalid command specified"))?;
    if matches!(command.keys(), Keys::None) {
        return Err(CommandError::new("ERR The command has no key arguments"));
    }
    if !command.accepts(request.len()) {
        return Err(CommandError::new("ERR Invalid number of arguments specified for command"));
    }
    let mut positions = Vec::new();
    if !command.find_keys(request, &mut positions) {
        return Err(CommandError::new("ERR Invalid arguments specified for command"));
    }
    Ok((command, positions))
}

// ---- LIST ----------------------------------------------------------------------------------------------

fn list(call: &mut ServerCall<'_>) -> CommandResult {
    let args = call.args;
    let (catalog, mut reply) = call.catalog_and_reply();
    let names: Vec<&str> = match args.len() {
        2 => catalog.iter().map(Command::name).collect(),
        5 if args.is(2, "filterby") => filtered(catalog, args)?,
        _ => return Err(SYNTAX),
    };
    reply.array(names.len());
    names.into_iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

fn filtered<'a>(catalog: &'a Catalog, args: Args<'_>) -> Result<Vec<&'a str>, CommandError> {
    let wanted = args.at(4);
    let commands = catalog.iter();
    if args.is(3, "pattern") {
        let matches = |name: &&str| glob::matches(wanted, name.as_bytes(), Case::Ignored);
        Ok(commands.map(Command::name).filter(matches).collect())
    } else if args.is(3, "aclcat") {
        let category = String::from_utf8_lossy(wanted).to_ascii_lowercase();
        let has = |command: &&Command| describe::categories(command).contains(&category.as_str());
        Ok(commands.filter(has).map(Command::name).collect())
    } else if args.is(3, "module") {
        // There are no modules, whatever the name.
        Ok(Vec::new())
    } else {
        Err(SYNTAX)
    }
}

fn usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "(none)",
            "    Describe all commands.",
            "COUNT",
            "    How many commands there are.",
            "DOCS [<command> ...]",
            "    Document the commands, or all.",
            "GETKEYS <command> <arg> ...",
            "    The keys among the arguments of a command.",
            "GETKEYSANDFLAGS <command> <arg> ...",
            "    The same, with what the command does to each.",
            "INFO [<command> ...]",
            "    Describe the commands, or all.",
            "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
            "    Names of commands.",
        ],
    )
}

//! CLIENT: what is known of connections, on all cores, and what may be done to them.

use super::ServerHandler::{Everywhere, Here};
use super::connection::{client_name, plain};
use super::{ServerCall, ServerHandler, container, help};
use crate::core::{Core, End};
use crate::session::{Closing, ReplyMode, Session};
use shards::call::Args;
use shards::error::{CommandError, CommandResult, SYNTAX};
use shards::numbers::{integer, parse_integer};
use shards::reply::Protocol;
use shards::row::{Row, Traits};
use std::fmt::Write;

const BASE: Traits = Traits::CONNECTION.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE);
const ADMIN: Traits = BASE.and(Traits::ADMIN).and(Traits::DANGEROUS);

pub const ROWS: &[Row<ServerHandler>] = &[Row::new("client", -2, Traits::NONE, Here(container))
    .docs("connection", "2.4.0", "see the subcommands", "Looks after connections.")
    .subcommands(SUBCOMMANDS)];

const fn row(
    name: &'static str,
    arity: i8,
    traits: Traits,
    since: &'static str,
    summary: &'static str,
    handler: ServerHandler,
) -> Row<ServerHandler> {
    Row::new(name, arity, traits, handler).docs("connection", since, "O(1)", summary)
}

const LIST: ServerHandler = Everywhere { check: check_list, part: list, merge: merge_list };
const UNBLOCK: ServerHandler = Everywhere { check: check_unblock, part: unblock, merge: merge_unblock };
const KILL: ServerHandler = Everywhere { check: check_kill, part: kill, merge: merge_kill };

const SUBCOMMANDS: &[Row<ServerHandler>] = &[
    row("client|id", 2, BASE, "5.0.0", "The connection's number.", Here(id)),
    row("client|getname", 2, BASE, "2.6.9", "The connection's name.", Here(getname)),
    row("client|setname", 3, BASE, "2.6.9", "Names the connection.", Here(setname)),
    row("client|setinfo", 4, BASE, "7.2.0", "Notes which library the client uses.", Here(setinfo)),
    row("client|info", 2, BASE, "6.2.0", "What is known of this connection.", Here(info)),
    row("client|list", -2, ADMIN, "2.4.0", "What is known of all connections.", LIST),
    row("client|kill", -3, ADMIN, "2.4.0", "Closes connections.", KILL),
    row("client|no-evict", 3, ADMIN, "7.0.0", "Spares the connection when memory is short.", Here(no_evict)),
    row("client|no-touch", 3, BASE, "7.2.0", "Notes whether reads of this connection count as use.", Here(no_touch)),
    row("client|reply", 3, BASE, "3.2.0", "Chooses whether commands are replied to.", Here(reply)),
    row("client|unblock", -3, ADMIN, "5.0.0", "Ends the waiting of another connection.", UNBLOCK),
    row("client|getredir", 2, BASE, "6.0.0", "To which connection invalidations go.", Here(getredir)),
    row("client|trackinginfo", 2, BASE, "6.2.0", "How invalidations are tracked.", Here(trackinginfo)),
    row(
        "client|help",
        2,
        Traits::CONNECTION.and(Traits::LOADING).and(Traits::STALE),
        "5.0.0",
        "Lists the subcommands.",
        Here(usage),
    ),
];

fn id(call: &mut ServerCall<'_>) -> CommandResult {
    let id = call.session().id as i64;
    call.reply().integer(id);
    Ok(())
}

fn getname(call: &mut ServerCall<'_>) -> CommandResult {
    let name = call.session().name.clone();
    if name.is_empty() {
        call.reply().null();
    } else {
        call.reply().bulk(name.as_bytes());
    }
    Ok(())
}

fn setname(call: &mut ServerCall<'_>) -> CommandResult {
    call.session().name = client_name(call.args.at(2))?;
    call.reply().ok();
    Ok(())
}

fn setinfo(call: &mut ServerCall<'_>) -> CommandResult {
    let (option, value) = (call.args.at(2), call.args.at(3));
    let option = String::from_utf8_lossy(option).into_owned();
    let session = call.session();
    let field = match option.to_ascii_lowercase().as_str() {
        "lib-name" => &mut session.lib_name,
        "lib-ver" => &mut session.lib_version,
        _ => return Err(CommandError::owned(format!("ERR Unrecognized option '{option}'"))),
    };
    let error = || format!("ERR {option} cannot contain spaces, newlines or special characters.");
    *field = plain(value).ok_or_else(|| CommandError::owned(error()))?;
    call.reply().ok();
    Ok(())
}

fn on_or_off(args: Args<'_>) -> Result<bool, CommandError> {
    if args.is(2, "on") {
        Ok(true)
    } else if args.is(2, "off") {
        Ok(false)
    } else {
        Err(SYNTAX)
    }
}

fn no_evict(call: &mut ServerCall<'_>) -> CommandResult {
    call.session().no_evict = on_or_off(call.args)?;
    call.reply().ok();
    Ok(())
}

fn no_touch(call: &mut ServerCall<'_>) -> CommandResult {
    call.session().no_touch = on_or_off(call.args)?;
    call.reply().ok();
    Ok(())
}

/// Only ON is answered, being the only mode that answers.
fn reply(call: &mut ServerCall<'_>) -> CommandResult {
    let args = call.args;
    let session = call.session();
    if args.is(2, "on") {
        session.reply_mode = ReplyMode::On;
        call.reply().ok();
    } else if args.is(2, "off") {
        session.reply_mode = ReplyMode::Off;
    } else if args.is(2, "skip") {
        if session.reply_mode != ReplyMode::Off {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(SYNTAX);
    }
    Ok(())
}

fn check_unblock(call: &mut ServerCall<'_>) -> CommandResult {
    if call.args.len() > 4 {
        return Err(CommandError::wrong_arity(call.name));
    }
    if call.args.len() == 4 && !call.args.is(3, "timeout") && !call.args.is(3, "error") {
        return Err(CommandError::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    integer(call.args.at(2)).map(drop)
}

fn unblock(core: &mut Core, args: Args<'_>, out: &mut Vec<u8>) {
    let id = integer(args.at(2)).expect("checked where the command came in");
    let end = if args.len() == 4 && args.is(3, "error") { End::Unblocked } else { End::TimedOut };
    let waited = u64::try_from(id).is_ok_and(|id| core.unblock(id, end));
    out.push(waited as u8);
}

fn merge_unblock(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let waited = parts.iter().any(|part| part == &[1]);
    call.reply().integer(waited as i64);
    Ok(())
}

/// -1: tracking is off.
fn getredir(call: &mut ServerCall<'_>) -> CommandResult {
    call.reply().integer(-1);
    Ok(())
}

fn trackinginfo(call: &mut ServerCall<'_>) -> CommandResult {
    let mut reply = call.reply();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(())
}

fn usage(call: &mut ServerCall<'_>) -> CommandResult {
    help(
        call,
        &[
            "GETNAME",
            "    The name of this connection.",
            "GETREDIR",
            "    The connection that gets invalidations; -1 without tracking.",
            "ID",
            "    The number of this connection.",
            "INFO",
            "    One line about this connection.",
            "KILL <ip:port>",
            "    Close the connection from that address.",
            "KILL <option> <value> [<option> <value> ...]",
            "    Close all connections to which every option applies:",
            "    * ADDR <ip:port>, LADDR <ip:port>: the client's address, the server's",
            "    * ID <number>",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "    * USER <name>",
            "    * SKIPME (YES|NO): spare this connection, the default",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <number> ...]",
            "    A line about each connection.",
            "NO-EVICT (ON|OFF)",
            "    Spare this connection when memory is short.",
            "NO-TOUCH (ON|OFF)",
            "    Reads of this connection shall not count as use of a key.",
            "REPLY (ON|OFF|SKIP)",
            "    Reply to all commands, to none, or not to the next.",
            "SETINFO (LIB-NAME|LIB-VER) <text>",
            "    Note which library this client uses.",
            "SETNAME <name>",
            "    Name this connection.",
            "TRACKINGINFO",
            "    How invalidations are tracked for this connection.",
            "UNBLOCK <number> [TIMEOUT|ERROR]",
            "    End the waiting of a connection.",
        ],
    )
}

// ---- INFO and LIST -------------------------------------------------------------------------------------

fn info(call: &mut ServerCall<'_>) -> CommandResult {
    let now_ms = call.core.now.steady_ms;
    let line = line(call.session(), now_ms);
    call.reply().verbatim("txt", line.as_bytes());
    Ok(())
}

fn check_list(call: &mut ServerCall<'_>) -> CommandResult {
    Filter::of_list(call.args).map(drop)
}

fn list(core: &mut Core, args: Args<'_>, out: &mut Vec<u8>) {
    let filter = Filter::of_list(args).expect("checked where the command came in");
    let now_ms = core.now.steady_ms;
    let found = core.sessions().filter(|session| filter.matches(session, None));
    found.for_each(|session| out.extend_from_slice(line(session, now_ms).as_bytes()));
}

/// All lines in the order of ids, which is roughly that of connecting.
fn merge_list(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let text = sorted_by_id(parts);
    call.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

fn sorted_by_id(parts: &[Vec<u8>]) -> String {
    let parts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
    let mut lines: Vec<&str> = parts.iter().flat_map(|part| part.split_inclusive('\n')).collect();
    let id = |line: &&str| line["id=".len()..].split(' ').next().and_then(|id| id.parse::<u64>().ok());
    lines.sort_by_key(id);
    lines.concat()
}

/// A session as CLIENT LIST prints it. Redis' fields in Redis' order; what has no meaning here is 0.
fn line(session: &Session, now_ms: u64) -> String {
    let mut line = String::new();
    let protocol = match session.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let input_free = session.input.capacity() - session.input.len();
    let output = session.replies.bytes();
    let memory = size_of::<Session>() + session.input.capacity() + output;
    write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi=-1 qbuf={} \
         qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events=r cmd={} \
         user=default redir=-1 resp={} lib-name={} lib-ver={}",
        session.id,
        session.address,
        session.local_address,
        session.fd,
        session.name,
        now_ms.saturating_sub(session.created_ms) / 1000,
        now_ms.saturating_sub(session.active_ms) / 1000,
        flags(session),
        session.db.0,
        session.input.len(),
        input_free,
        session.replies.out.capacity(),
        session.replies.out.capacity(),
        session.replies.out.len(),
        session.replies.waiting(),
        output,
        memory,
        session.last_command,
        protocol,
        session.lib_name,
        session.lib_version,
    )
    .expect("a string takes every write");
    line.push('\n');
    line
}

fn flags(session: &Session) -> String {
    let closing = match session.closing {
        Closing::Open => "",
        Closing::AfterReplies => "c",
        Closing::Now => "A",
    };
    let blocked = if session.blocked.is_some() { "b" } else { "" };
    let no_evict = if session.no_evict { "e" } else { "" };
    let no_touch = if session.no_touch { "T" } else { "" };
    let flags = [closing, blocked, no_evict, no_touch].concat();
    if flags.is_empty() { "N".into() } else { flags }
}

// ---- KILL ----------------------------------------------------------------------------------------------

/// Which connections LIST and KILL are about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    /// Empty for any.
    ids: Vec<u64>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    /// There are only normal clients: another type matches none.
    other_type: bool,
    skip_caller: bool,
}

impl Filter {
    fn of_list(args: Args<'_>) -> Result<Self, CommandError> {
        let mut filter = Filter::default();
        match args.len() {
            2 => {}
            4 if args.is(2, "type") => filter.other_type = !is_normal_type(args.at(3))?,
            4.. if args.is(2, "id") => {
                for id in args.from(3).iter() {
                    let id = parse_integer(id).ok_or(CommandError::new("ERR Invalid client ID"))?;
                    filter.ids.push(id as u64);
                }
            }
            _ => return Err(SYNTAX),
        }
        Ok(filter)
    }

    fn of_kill(args: Args<'_>) -> Result<Self, CommandError> {
        if args.len() == 3 {
            return Ok(Filter { address: Some(args.at(2).to_vec()), ..Filter::default() });
        }
        let mut filter = Filter { skip_caller: true, ..Filter::default() };
        for at in (2..args.len()).step_by(2) {
            let value = args.get(at + 1).ok_or(SYNTAX)?;
            if args.is(at, "id") {
                let id = parse_integer(value).filter(|id| *id > 0);
                filter.ids = vec![id.ok_or(CommandError::new("ERR client-id should be greater than 0"))? as u64];
            } else if args.is(at, "type") {
                filter.other_type = !is_normal_type(value)?;
            } else if args.is(at, "addr") {
                filter.address = Some(value.to_vec());
            } else if args.is(at, "laddr") {
                filter.local_address = Some(value.to_vec());
            } else if args.is(at, "user") {
                if value != b"default" {
                    let name = String::from_utf8_lossy(value);
                    return Err(CommandError::owned(format!("ERR No such user '{name}'")));
                }
            } else if args.is(at, "skipme") {
                filter.skip_caller = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(SYNTAX),
                };
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(filter)
    }

    fn matches(&self, session: &Session, caller: Option<u64>) -> bool {
        let same = |wanted: &Option<Vec<u8>>, address: &str| wanted.as_ref().is_none_or(|w| w == address.as_bytes());
        !self.other_type
            && (self.ids.is_empty() || self.ids.contains(&session.id))
            && same(&self.address, &session.address)
            && same(&self.local_address, &session.local_address)
            && !(self.skip_caller && caller == Some(session.id))
    }
}

fn is_normal_type(name: &[u8]) -> Result<bool, CommandError> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"slave" | b"replica" | b"master" | b"pubsub" => Ok(false),
        _ => {
            let name = String::from_utf8_lossy(name);
            Err(CommandError::owned(format!("ERR Unknown client type '{name}'")))
        }
    }
}

fn check_kill(call: &mut ServerCall<'_>) -> CommandResult {
    Filter::of_kill(call.args).map(drop)
}

/// Closes this core's connections that match; the part is their number. Only the caller gets to read its reply first.
fn kill(core: &mut Core, args: Args<'_>, out: &mut Vec<u8>) {
    let filter = Filter::of_kill(args).expect("checked where the command came in");
    let caller = core.caller.and_then(|caller| core.session(caller)).map(|session| session.id);
    let found = |session: &&Session| session.closing == Closing::Open && filter.matches(session, caller);
    let killed: Vec<_> = core.sessions().filter(found).map(|session| session.connection).collect();
    for &connection in &killed {
        let how = if core.caller == Some(connection) { Closing::AfterReplies } else { Closing::Now };
        core.close(connection, how);
    }
    out.extend_from_slice(killed.len().to_string().as_bytes());
}

fn merge_kill(call: &mut ServerCall<'_>, parts: &[Vec<u8>]) -> CommandResult {
    let killed: i64 = parts.iter().map(|part| parse_integer(part).expect("a part is a number")).sum();
    let by_address_alone = call.args.len() == 3;
    match (by_address_alone, killed) {
        (true, 0) => return Err(CommandError::new("ERR No such client")),
        (true, _) => call.reply().ok(),
        (false, _) => call.reply().integer(killed),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shards::call::Span;

    fn with_args<T>(line: &str, then: impl FnOnce(Args<'_>) -> T) -> T {
        let mut spans = Vec::new();
        let mut start = 0;
        for word in line.split(' ') {
            spans.push(Span { start, len: word.len() as u32 });
            start += word.len() as u32 + 1;
        }
        then(Args::new(line.as_bytes(), &spans))
    }

    fn kill_filter(line: &str) -> Result<Filter, String> {
        with_args(line, Filter::of_kill).map_err(|error| error.0.into_owned())
    }

    #[test]
    fn lists_of_all_cores_are_put_in_order_of_ids() {
        let parts = [b"id=1 a\nid=11 c\n".to_vec(), b"id=2 b\n".to_vec(), Vec::new()];
        assert_eq!(sorted_by_id(&parts), "id=1 a\nid=2 b\nid=11 c\n");
    }

    #[test]
    fn the_old_form_of_kill_does_not_spare_the_caller() {
        let filter = kill_filter("CLIENT KILL 1.2.3.4:5").expect("valid");
        assert!(!filter.skip_caller);
        assert_eq!(filter.address.as_deref(), Some(&b"1.2.3.4:5"[..]));
        assert!(kill_filter("CLIENT KILL ID 3").expect("valid").skip_caller);
        assert!(!kill_filter("CLIENT KILL ID 3 skipme NO").expect("valid").skip_caller);
    }

    #[test]
    fn filters_are_refused_in_redis_words() {
        for (line, error) in [
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
            ("CLIENT KILL USER foo", "ERR No such user 'foo'"),
            ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
            ("CLIENT KILL ID 5 SKIPME", "ERR syntax error"),
            ("CLIENT KILL FOO bar", "ERR syntax error"),
        ] {
            assert_eq!(kill_filter(line).expect_err(line), error, "{line}");
        }
        assert!(with_args("CLIENT LIST ID x", Filter::of_list).is_err());
        assert!(with_args("CLIENT LIST ID", Filter::of_list).is_err());
        assert!(with_args("CLIENT LIST TYPE pubsub", Filter::of_list).expect("valid").other_type);
    }
}

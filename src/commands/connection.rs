//! Commands of the connection itself: who it is, which protocol it speaks, which database it looks at.
//!
//! Passwords are compared in constant time, and never quoted in a reply.

use super::ServerHandler::Here;
use super::{ServerCall, ServerHandler};
use crate::core::{Core, database};
use crate::session::Closing;
use shards::error::{CommandError, CommandResult, NOT_AN_INTEGER, SYNTAX};
use shards::numbers::parse_integer;
use shards::reply::Protocol;
use shards::row::{Row, Traits};
use subtle::ConstantTimeEq;

/// The Redis version that clients are told: libraries choose features by it.
pub const REDIS_VERSION: &str = "7.2.5";

const BASE: Traits = Traits::FAST.and(Traits::CONNECTION);
/// What also runs while data is loaded, and before AUTH.
const OPEN: Traits = BASE.and(Traits::NO_SCRIPT).and(Traits::LOADING).and(Traits::STALE).and(Traits::NO_AUTH);

pub const ROWS: &[Row<ServerHandler>] = &[
    Row::new("ping", -1, BASE, Here(ping)).docs("connection", "1.0.0", "O(1)", "Replies PONG, or the argument."),
    Row::new("echo", 2, BASE.and(Traits::LOADING).and(Traits::STALE), Here(echo)).docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Replies the argument.",
    ),
    Row::new("select", 2, BASE.and(Traits::LOADING).and(Traits::STALE), Here(select)).docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Chooses the connection's database.",
    ),
    Row::new("hello", -1, OPEN, Here(hello)).docs(
        "connection",
        "6.0.0",
        "O(1)",
        "Chooses the protocol and tells about the server; may authenticate and name the connection.",
    ),
    Row::new("auth", -2, OPEN, Here(auth)).docs(
        "connection",
        "1.0.0",
        "O(N) for a password of N bytes",
        "Authenticates the connection.",
    ),
    Row::new("quit", -1, OPEN, Here(quit)).docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Closes the connection once the reply is sent.",
    ),
    Row::new("reset", 1, OPEN, Here(reset)).docs(
        "connection",
        "6.2.0",
        "O(1)",
        "Makes the connection as it was when it was new.",
    ),
];

const WRONG_PASS: CommandError = CommandError::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD_SET: CommandError = CommandError::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
     configuration is correct?",
);
const HELLO_NO_AUTH: CommandError = CommandError::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
     <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const NO_PROTO: CommandError = CommandError::new("NOPROTO unsupported protocol version");
const PROTO_NOT_AN_INTEGER: CommandError = CommandError::new("ERR Protocol version is not an integer or out of range");
const BAD_NAME: CommandError =
    CommandError::new("ERR Client names cannot contain spaces, newlines or special characters.");
const DB_NOT_AN_INT: CommandError =
    CommandError::new("ERR value is out of range, value must between -2147483648 and 2147483647");

fn ping(call: &mut ServerCall<'_>) -> CommandResult {
    match call.args.len() {
        1 => call.reply().simple("PONG"),
        2 => {
            let text = call.args.at(1);
            call.reply().bulk(text);
        }
        _ => return Err(CommandError::wrong_arity(call.name)),
    }
    Ok(())
}

fn echo(call: &mut ServerCall<'_>) -> CommandResult {
    let text = call.args.at(1);
    call.reply().bulk(text);
    Ok(())
}

fn select(call: &mut ServerCall<'_>) -> CommandResult {
    let index = parse_integer(call.args.at(1)).ok_or(NOT_AN_INTEGER)?;
    i32::try_from(index).map_err(|_| DB_NOT_AN_INT)?;
    let db = database(call.core, call.args.at(1))?;
    call.session().db = db;
    call.reply().ok();
    Ok(())
}

fn quit(call: &mut ServerCall<'_>) -> CommandResult {
    call.reply().ok();
    call.core.close(call.connection, Closing::AfterReplies);
    Ok(())
}

fn reset(call: &mut ServerCall<'_>) -> CommandResult {
    let open = call.core.config.requirepass.is_empty();
    call.core.stop_watching(call.connection);
    call.session().reset(open);
    call.reply().simple("RESET");
    Ok(())
}

// ---- passwords -----------------------------------------------------------------------------------------

fn auth(call: &mut ServerCall<'_>) -> CommandResult {
    let (user, password): (&[u8], &[u8]) = match call.args.len() {
        2 if call.core.config.requirepass.is_empty() => return Err(NO_PASSWORD_SET),
        2 => (DEFAULT_USER, call.args.at(1)),
        3 => (call.args.at(1), call.args.at(2)),
        _ => return Err(SYNTAX),
    };
    if !is_known(call.core, user, password) {
        return Err(WRONG_PASS);
    }
    call.session().authenticated = true;
    call.reply().ok();
    Ok(())
}

/// The only user there is.
const DEFAULT_USER: &[u8] = b"default";

/// Without a password set, the default user may come with any.
fn is_known(core: &Core, user: &[u8], password: &[u8]) -> bool {
    let set = &core.config.requirepass;
    user == DEFAULT_USER && (set.is_empty() || bool::from(set.as_slice().ct_eq(password)))
}

// ---- HELLO ---------------------------------------------------------------------------------------------

fn hello(call: &mut ServerCall<'_>) -> CommandResult {
    let protocol = match call.args.get(1) {
        None => call.protocol(),
        Some(version) => match parse_integer(version).ok_or(PROTO_NOT_AN_INTEGER)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(NO_PROTO),
        },
    };
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < call.args.len() {
        let left = call.args.len() - at - 1;
        if call.args.is(at, "auth") && left >= 2 {
            login = Some((call.args.at(at + 1), call.args.at(at + 2)));
            at += 3;
        } else if call.args.is(at, "setname") && left >= 1 {
            name = Some(client_name(call.args.at(at + 1))?);
            at += 2;
        } else {
            let option = String::from_utf8_lossy(call.args.at(at)).into_owned();
            return Err(CommandError::owned(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, password)) = login {
        if !is_known(call.core, user, password) {
            return Err(WRONG_PASS);
        }
        call.session().authenticated = true;
    }
    let session = call.session();
    if !session.authenticated {
        return Err(HELLO_NO_AUTH);
    }
    session.protocol = protocol;
    if let Some(name) = name {
        session.name = name;
    }
    introduce(call);
    Ok(())
}

fn introduce(call: &mut ServerCall<'_>) {
    let (id, protocol) = (call.session().id, call.protocol());
    let mut reply = call.reply();
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    reply.bulk(b"id");
    reply.integer(id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// A name that CLIENT LIST can print on a line of fields.
pub(super) fn client_name(name: &[u8]) -> Result<String, CommandError> {
    plain(name).ok_or(BAD_NAME)
}

/// Text of printable ASCII without spaces.
pub(super) fn plain(text: &[u8]) -> Option<String> {
    let printable = text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    printable.then(|| String::from_utf8_lossy(text).into_owned())
}

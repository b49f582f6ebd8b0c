//! A shard by itself, as the target of scripts and models: looks a command up in the families' tables, checks what the
//! server's admission would check, executes. Owns its clock; nothing here sleeps.

use super::resp::Resp;
use super::script::{Subject, Target};
use shards::call::{Args, Span};
use shards::commands::FAMILIES;
use shards::owner::{Caller, Owner};
use shards::reply::Protocol;
use shards::row::Row;
use shards::units::{Db, Now};
use shards::waiting::{append_at_once, is_wait};

pub struct Shard {
    pub owner: Owner,
    pub now: Now,
    pub db: Db,
    pub protocol: Protocol,
}

const DATABASES: u16 = 16;

impl Shard {
    pub fn new(seed: u64) -> Shard {
        let now = Now::at(1_790_000_000_000);
        Shard { owner: Owner::new(DATABASES, seed), now, db: Db(0), protocol: Protocol::Resp2 }
    }

    pub fn execute<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Resp {
        let mut buffer = Vec::new();
        let mut spans = Vec::new();
        for arg in args {
            spans.push(Span { start: buffer.len() as u32, len: arg.as_ref().len() as u32 });
            buffer.extend_from_slice(arg.as_ref());
        }
        let args = Args::new(&buffer, &spans);
        let row = match find_row(&args) {
            Ok(row) => row,
            Err(text) => return Resp::Error(text.into_bytes()),
        };
        let caller = Caller { db: self.db, now: self.now, protocol: self.protocol };
        let mut out = Vec::new();
        self.owner.execute(row, args, caller, &mut out);
        if is_wait(&out) {
            // There is nobody to wait, as in MULTI.
            let wish = std::mem::take(&mut out);
            append_at_once(&wish, self.protocol, &mut out);
        }
        let mut rest = &out[..];
        let reply = Resp::read(&mut rest).unwrap_or_else(|error| panic!("{}: {error}: {out:?}", row.name));
        assert!(rest.is_empty(), "{} made more than one reply: {:?}", row.name, String::from_utf8_lossy(&out));
        reply
    }

    pub fn line(&mut self, line: &str) -> Resp {
        self.execute(&super::script::split_arguments(line).expect("a well-quoted command"))
    }

    /// SELECT is the connection's, but too many scripts need it to leave it to TCP.
    fn select(&mut self, args: &[Vec<u8>]) -> Resp {
        let index = match args {
            [_, index] => shards::numbers::parse_integer(index),
            _ => return Resp::Error(b"ERR wrong number of arguments for 'select' command".to_vec()),
        };
        match index {
            None => Resp::Error(b"ERR value is not an integer or out of range".to_vec()),
            Some(index) if (0..DATABASES as i64).contains(&index) => {
                self.db = Db(index as u16);
                Resp::ok()
            }
            Some(_) => Resp::Error(b"ERR DB index is out of range".to_vec()),
        }
    }
}

/// The row of a command or subcommand whose arity fits, or the text of Redis' error.
fn find_row(args: &Args<'_>) -> Result<&'static Row, String> {
    let name = String::from_utf8_lossy(args.at(0)).to_lowercase();
    let rows = FAMILIES.iter().flat_map(|rows| rows.iter());
    let row = rows.into_iter().find(|row| row.name == name).ok_or_else(|| {
        format!("(no shard command `{name}`: a command of the connection belongs between `! tcp` and `! end`)")
    })?;
    let arity = |row: &'static Row| {
        let wrong = || format!("ERR wrong number of arguments for '{}' command", row.name);
        if row.accepts(args.len()) { Ok(row) } else { Err(wrong()) }
    };
    let Some(second) = args.get(1).filter(|_| !row.subcommands.is_empty()) else { return arity(row) };
    let wanted = format!("{}|{}", row.name, String::from_utf8_lossy(second).to_lowercase());
    match row.subcommands.iter().find(|sub| sub.name == wanted) {
        Some(sub) => arity(sub),
        None => {
            let second = String::from_utf8_lossy(&second[..second.len().min(128)]).into_owned();
            Err(format!("ERR unknown subcommand '{second}'. Try {} HELP.", row.name.to_uppercase()))
        }
    }
}

impl Target for Shard {
    fn subject(&self) -> Subject {
        Subject::Shard
    }
    fn call(&mut self, args: &[Vec<u8>]) -> Result<Resp, String> {
        match args.first() {
            Some(name) if name.eq_ignore_ascii_case(b"SELECT") => Ok(self.select(args)),
            _ => Ok(self.execute(args)),
        }
    }
    fn send(&mut self, _args: &[Vec<u8>]) -> Result<(), String> {
        Err("only a connection can stay silent: put this between `! tcp` and `! end`".into())
    }
    fn closed(&mut self) -> Result<(), String> {
        Err("only a connection can be closed: put this between `! tcp` and `! end`".into())
    }
    fn set_protocol(&mut self, version: u8) {
        self.protocol = if version == 3 { Protocol::Resp3 } else { Protocol::Resp2 };
    }
    fn advance(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms;
        // As the tick of a running server would have done by then.
        while self.owner.keyspace.expire_due(self.now, 1000) > 0 {}
    }
    fn step_wall_clock(&mut self, ms: i64) {
        self.now.wall_ms = self.now.wall_ms.saturating_add_signed(ms);
    }
    fn fresh(&mut self) {
        self.owner.keyspace.flush_all();
        self.owner.keyspace.take_edits(Vec::new());
        self.db = Db(0);
        self.protocol = Protocol::Resp2;
    }
    fn switch(&mut self) {
        unreachable!("sections of another connection run over TCP only")
    }
}

//! A small blocking RESP client with timeouts: one connection, requests in, `Resp` values out.

use super::resp::Resp;
use super::script::split_arguments;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Arguments of one command, its name first.
pub type Command = Vec<Vec<u8>>;

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("connecting to port {port}: {error}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, super::HANG)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::HANG))?;
        stream.set_write_timeout(Some(super::HANG))?;
        Ok(Client { reader: BufReader::with_capacity(64 << 10, stream) })
    }

    pub fn set_timeout(&mut self, limit: Duration) {
        self.stream().set_read_timeout(Some(limit)).expect("a positive timeout can be set");
        self.stream().set_write_timeout(Some(limit)).expect("a positive timeout can be set");
    }

    /// Sends one command and reads its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Resp {
        self.try_call(args).unwrap_or_else(|error| {
            let name = args.first().map(|arg| String::from_utf8_lossy(arg.as_ref()).into_owned());
            panic!("{}: {error}", name.unwrap_or_default())
        })
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Resp> {
        let mut request = Vec::new();
        encode(args, &mut request);
        self.send_raw(&request)?;
        self.read()
    }

    /// As `call`, for a command written as in redis-cli.
    pub fn line(&mut self, line: &str) -> Resp {
        self.call(&split_arguments(line).expect("a well-quoted command"))
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    pub fn read(&mut self) -> io::Result<Resp> {
        Resp::read(&mut self.reader)
    }

    /// Sends all commands, then reads all replies. A writer thread keeps big batches from blocking both sides.
    pub fn pipeline(&mut self, commands: &[Command]) -> io::Result<Vec<Resp>> {
        let mut request = Vec::new();
        commands.iter().for_each(|args| encode(args, &mut request));
        let mut writer = self.stream().try_clone()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(&request));
            let replies = commands.iter().map(|_| self.read()).collect::<io::Result<Vec<_>>>();
            if replies.is_err() {
                // The writer may be blocked on a server that stopped reading.
                let _ = self.stream().shutdown(std::net::Shutdown::Both);
            }
            sent.join().expect("writing doesn't panic").and(replies)
        })
    }

    /// Whatever comes until the server closes the connection; fails when it stays open.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            // Closed with our bytes unread on the other side: still closed, and what came before it counts.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(rest),
            Err(error) => Err(error),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A command from words.
pub fn command(words: &[&str]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

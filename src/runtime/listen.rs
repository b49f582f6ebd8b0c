//! Listening sockets.

use super::clock;
use crate::config::BindAddress;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Listens on every address of `bind`; an optional one may be missing on this machine.
pub fn listen(bind: &[BindAddress], port: u16, backlog: i32) -> Result<Vec<OwnedFd>, String> {
    let mut sockets = Vec::new();
    for BindAddress { ip, optional, .. } in bind {
        let (ip, name) = (*ip, ip.to_string());
        let address = SocketAddr::new(ip, port);
        let opened = clock::patiently(|| match open(address, backlog) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            other => other.map(Some),
        });
        match opened {
            Ok(Some(socket)) => sockets.push(socket),
            Ok(None) => {
                return Err(format!(
                    "{name}:{port} is in use by another process; choose another --port or stop that one"
                ));
            }
            Err(error) if *optional && error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(format!(
                    "{name}:{port} is in use by another process; choose another --port or stop that one"
                ));
            }
            Err(error) => return Err(format!("can't listen on {name}:{port}: {error}")),
        }
    }
    if sockets.is_empty() { Err("no address to listen on; see --bind".into()) } else { Ok(sockets) }
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

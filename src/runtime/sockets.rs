//! The sockets of a core: multishot receives into provided buffers, one send at a time per connection.
//!
//! A socket leaves the table only when neither a receive nor a send of it is under way, so a completion always
//! finds the socket it belongs to.

use super::ring::Ring;
use super::token::{Operation, token};
use crate::router::batch::ConnectionId;
use crate::session::Peer;
use io_uring::{opcode, types};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

pub struct Socket {
    pub connection: ConnectionId,
    fd: OwnedFd,
    /// What the kernel is being given; stays in place until the send completes.
    sending: Vec<u8>,
    sent: usize,
    send_under_way: bool,
    send_started_ticks: u64,
    receiving: bool,
    shut: bool,
}

#[derive(Default)]
pub struct Sockets {
    table: Vec<Option<Socket>>,
}

/// A send buffer grown by one large reply is given back beyond this.
const SEND_BYTES_KEPT: usize = 64 << 10;

impl Sockets {
    pub fn add(&mut self, connection: ConnectionId, fd: OwnedFd, ring: &mut Ring) {
        let index = connection.index as usize;
        if self.table.len() <= index {
            self.table.resize_with(index + 1, || None);
        }
        assert!(self.table[index].is_none(), "a socket leaves the table before its session");
        self.table[index] = Some(Socket {
            connection,
            fd,
            sending: Vec::new(),
            sent: 0,
            send_under_way: false,
            send_started_ticks: 0,
            receiving: false,
            shut: false,
        });
        self.receive(connection.index, ring);
    }

    pub fn get(&self, index: u32) -> Option<&Socket> {
        self.table.get(index as usize)?.as_ref()
    }
    fn get_mut(&mut self, index: u32) -> Option<&mut Socket> {
        self.table.get_mut(index as usize)?.as_mut()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.table.iter().flatten()
    }

    /// Arms the multishot receive.
    pub fn receive(&mut self, index: u32, ring: &mut Ring) {
        let Some(socket) = self.get_mut(index).filter(|socket| !socket.receiving && !socket.shut) else { return };
        socket.receiving = true;
        let entry = opcode::RecvMulti::new(types::Fd(socket.fd.as_raw_fd()), ring.buffer_group())
            .build()
            .user_data(token(Operation::Receive, index as u64));
        // SAFETY: the request points to nothing of ours; the buffers belong to the ring.
        unsafe { ring.push(entry) };
    }
    /// The receive ended (it is no longer armed).
    pub fn receive_ended(&mut self, index: u32) {
        if let Some(socket) = self.get_mut(index) {
            socket.receiving = false;
        }
    }

    /// Sends all of `out`, unless a send is under way already. Leaves an empty buffer in its place.
    pub fn send(&mut self, index: u32, out: &mut Vec<u8>, now_ticks: u64, ring: &mut Ring) {
        let Some(socket) = self.get_mut(index) else { return };
        if socket.send_under_way || socket.shut || out.is_empty() {
            return;
        }
        std::mem::swap(&mut socket.sending, out);
        socket.sent = 0;
        socket.send_started_ticks = now_ticks;
        socket.submit_send(ring);
    }

    /// A send completed. Returns bytes sent, and when the whole buffer is out, for how long that took.
    pub fn sent(&mut self, index: u32, result: i32, now_ticks: u64, ring: &mut Ring) -> (u64, Option<u64>) {
        let Some(socket) = self.get_mut(index) else { return (0, None) };
        socket.send_under_way = false;
        if result < 0 {
            socket.shut();
            return (0, None);
        }
        socket.sent += result as usize;
        if socket.sent < socket.sending.len() && !socket.shut {
            socket.submit_send(ring);
            return (result as u64, None);
        }
        // Now rather than before the next send: an idle connection keeps no large buffer.
        socket.sending.clear();
        socket.sending.shrink_to(SEND_BYTES_KEPT);
        (result as u64, Some(now_ticks.saturating_sub(socket.send_started_ticks)))
    }

    /// Ends the connection; what is under way will complete soon.
    pub fn shut(&mut self, index: u32) {
        if let Some(socket) = self.get_mut(index) {
            socket.shut();
        }
    }

    pub fn is_idle_sending(&self, index: u32) -> bool {
        self.get(index).is_none_or(|socket| !socket.send_under_way)
    }

    /// Removes the socket if it was shut and nothing of it is under way; its connection, if so.
    pub fn reap(&mut self, index: u32) -> Option<ConnectionId> {
        let socket = self.get(index)?;
        if !socket.shut || socket.receiving || socket.send_under_way {
            return None;
        }
        self.table[index as usize].take().map(|socket| socket.connection)
    }
}

impl Socket {
    fn submit_send(&mut self, ring: &mut Ring) {
        self.send_under_way = true;
        let rest = &self.sending[self.sent..];
        let len = rest.len().min(u32::MAX as usize / 2) as u32;
        let entry = opcode::Send::new(types::Fd(self.fd.as_raw_fd()), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(token(Operation::Send, self.connection.index as u64));
        // SAFETY: `sending` is neither moved out, changed nor dropped while `send_under_way`: `send` refuses then, and
        // `reap` keeps the socket in the table.
        unsafe { ring.push(entry) };
    }

    fn shut(&mut self) {
        if !self.shut {
            self.shut = true;
            // SAFETY: the descriptor is open: we own it. (An error means that the peer was faster.)
            unsafe { libc::shutdown(self.fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }
}

/// Sets a fresh connection's options and says who it is.
pub fn prepare(fd: &OwnedFd, keepalive_seconds: u64) -> io::Result<Peer> {
    let socket = socket2::SockRef::from(fd);
    socket.set_tcp_nodelay(true)?;
    if keepalive_seconds > 0 {
        let idle = std::time::Duration::from_secs(keepalive_seconds);
        // As Redis: three probes, a third of the interval apart, so that a dead peer is noticed in twice the time.
        let interval = std::time::Duration::from_secs((keepalive_seconds / 3).max(1));
        let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    let address = |address: socket2::SockAddr| address.as_socket();
    let (peer, local) = (address(socket.peer_addr()?), address(socket.local_addr()?));
    let text = |address: Option<SocketAddr>| address.map_or_else(|| "?:0".to_string(), |address| address.to_string());
    Ok(Peer {
        local: peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback()),
        address: text(peer),
        local_address: text(local),
        fd: fd.as_raw_fd(),
    })
}

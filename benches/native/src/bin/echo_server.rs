//! A TCP echo server: one thread, level-triggered epoll, one `recv` and one `send` for what came.
//!
//! What a server costs that does nothing but make the system calls. Writes its port as a line of
//! JSON, and ends when its standard input does.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};

use greenloop_benches_native::arguments::Arguments;
use greenloop_benches_native::epoll::{Epoll, Interest, STDIN};
use greenloop_benches_native::{raise_descriptor_limit, receive, run_on, send};

/// What the listener is registered under. Connections have their index.
const LISTENER: u64 = STDIN - 1;

struct Connection {
    stream: TcpStream,
    /// Received and not sent back yet, for want of room.
    unsent: Vec<u8>,
}

struct Server {
    epoll: Epoll,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    next: u64,
    buffer: Vec<u8>,
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.epoll.add(&stream, self.next, Interest::Read)?;
            self.connections.insert(self.next, Connection { stream, unsent: Vec::new() });
            self.next += 1;
        }
    }

    /// Goes on with a connection. False if it is over.
    fn serve(&mut self, token: u64) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(true) };
        if !connection.unsent.is_empty() {
            let sent = send(&connection.stream, &connection.unsent)?.unwrap_or(0);
            connection.unsent.drain(..sent);
            if connection.unsent.is_empty() {
                self.epoll.modify(&connection.stream, token, Interest::Read)?;
            }
            return Ok(true);
        }
        let received = match receive(&connection.stream, &mut self.buffer)? {
            None => return Ok(true),
            Some(0) => return Ok(false),
            Some(received) => &self.buffer[..received],
        };
        let sent = send(&connection.stream, received)?.unwrap_or(0);
        if sent < received.len() {
            connection.unsent.extend_from_slice(&received[sent..]);
            self.epoll.modify(&connection.stream, token, Interest::ReadWrite)?;
        }
        Ok(true)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.epoll.wait(-1, &mut ready)?;
            for &token in &ready {
                match token {
                    STDIN => return Ok(()),
                    LISTENER => self.accept()?,
                    _ => {
                        if !self.serve(token).unwrap_or(false) {
                            self.connections.remove(&token);
                        }
                    }
                }
            }
        }
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse(&["bytes", "cpu"]);
    let buffer = vec![0; arguments.require("bytes") as usize];
    if let Some(cpu) = arguments.get("cpu") {
        run_on(cpu as usize)?;
    }
    raise_descriptor_limit();
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, Interest::Read)?;
    println!("{{\"port\": {}}}", listener.local_addr()?.port());
    Server { epoll, listener, connections: HashMap::new(), next: 0, buffer }.run()
}

/// The standard library's backlog is 128: too short for thousands of connections at once.
fn listen() -> io::Result<TcpListener> {
    use std::os::fd::AsRawFd;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    // SAFETY: plain numbers; listening again only changes the backlog.
    match unsafe { libc::listen(listener.as_raw_fd(), 4096) } {
        0 => Ok(listener),
        _ => Err(io::Error::last_os_error()),
    }
}

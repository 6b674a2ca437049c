//! A load generator for echo servers: each connection sends its message when the last came back.
//!
//! After a warm-up it counts messages for some seconds, and reads the server's CPU clock (user and
//! system time, all threads, in nanoseconds) at both ends of them. So servers need no code that
//! counts. Then it has the last echoes come in, closes, and writes one line of JSON. It ends early
//! when its standard input does.
//!
//! With `--datagrams 1` each connection is a UDP socket, and a message one datagram. None is sent a
//! second time: one that was lost is an error, once no other is under way.

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use greenloop_benches_native::arguments::Arguments;
use greenloop_benches_native::epoll::{Epoll, Interest, STDIN};
use greenloop_benches_native::{raise_descriptor_limit, receive, run_on, send};

/// No echo for so long means that the server has lost one.
const PATIENCE_MILLIS: i32 = 20_000;

struct Connection {
    socket: OwnedFd,
    /// Bytes of the message under way that are to be sent, and to come back.
    unsent: usize,
    missing: usize,
    wants_room: bool,
}

struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    /// Messages that came back.
    echoed: u64,
    /// Connections with a message under way.
    busy: usize,
    stopping: bool,
}

/// A nonblocking connection to the server.
fn connect(port: u16, datagrams: bool) -> io::Result<OwnedFd> {
    let server = ("127.0.0.1", port);
    if datagrams {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let stream = TcpStream::connect(server)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

impl Load {
    fn connect(port: u16, connections: usize, size: usize, datagrams: bool) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let connections = (0..connections)
            .map(|index| {
                let socket = connect(port, datagrams)?;
                epoll.add(&socket, index as u64, Interest::Read)?;
                Ok(Connection { socket, unsent: 0, missing: 0, wants_room: false })
            })
            .collect::<io::Result<_>>()?;
        let (message, buffer) = (vec![b'm'; size], vec![0; size.max(4096)]);
        Ok(Load { epoll, connections, message, buffer, echoed: 0, busy: 0, stopping: false })
    }

    /// Starts a message.
    fn begin(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.unsent = self.message.len();
        connection.missing = self.message.len();
        self.busy += 1;
        self.send_rest(index)
    }

    fn send_rest(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        while connection.unsent > 0 {
            let rest = &self.message[self.message.len() - connection.unsent..];
            let Some(sent) = send(&connection.socket, rest)? else { break };
            connection.unsent -= sent;
        }
        let wants_room = connection.unsent > 0;
        if wants_room != connection.wants_room {
            connection.wants_room = wants_room;
            let interest = if wants_room { Interest::ReadWrite } else { Interest::Read };
            self.epoll.modify(&connection.socket, index as u64, interest)?;
        }
        Ok(())
    }

    fn go_on(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.wants_room {
            self.send_rest(index)?;
        }
        let connection = &mut self.connections[index];
        match receive(&connection.socket, &mut self.buffer)? {
            None => return Ok(()),
            Some(0) => {
                return Err(io::Error::other("the server closed a connection"));
            }
            Some(received) if received > connection.missing => {
                return Err(io::Error::other("the server sent more than it got"));
            }
            Some(received) => connection.missing -= received,
        }
        if connection.missing == 0 {
            self.echoed += 1;
            self.busy -= 1;
            if !self.stopping {
                self.begin(index)?;
            }
        }
        Ok(())
    }

    /// Runs until `until`, or until nothing is under way. False if the program has to end.
    fn run(&mut self, until: Option<Instant>) -> io::Result<bool> {
        let mut ready = Vec::new();
        while self.busy > 0 && until.is_none_or(|until| Instant::now() < until) {
            self.epoll.wait(PATIENCE_MILLIS, &mut ready)?;
            if ready.is_empty() {
                return Err(io::Error::other("the server does not answer"));
            }
            for &token in &ready {
                if token == STDIN {
                    return Ok(false);
                }
                self.go_on(token as usize)?;
            }
        }
        Ok(true)
    }
}

/// The CPU clock of another process.
struct CpuClock(libc::clockid_t);

impl CpuClock {
    fn of(process: libc::pid_t) -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: the clock's number is written to a place of that type.
        match unsafe { libc::clock_getcpuclockid(process, &raw mut clock) } {
            0 => Ok(Self(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// What the process has used, in seconds.
    fn seconds(&self) -> io::Result<f64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is written to a place of that type.
        match unsafe { libc::clock_gettime(self.0, &raw mut time) } {
            0 => Ok(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse(&[
        "port",
        "pid",
        "connections",
        "bytes",
        "datagrams",
        "warm-up",
        "seconds",
        "cpu",
    ]);
    if let Some(cpu) = arguments.get("cpu") {
        run_on(cpu as usize)?;
    }
    raise_descriptor_limit();
    let clock = CpuClock::of(arguments.require("pid") as libc::pid_t)?;
    let connections = arguments.require("connections") as usize;
    let mut load = Load::connect(
        arguments.require("port") as u16,
        connections,
        arguments.require("bytes") as usize,
        arguments.get("datagrams").is_some_and(|datagrams| datagrams != 0.0),
    )?;
    for index in 0..connections {
        load.begin(index)?;
    }
    if !load.run(Some(Instant::now() + Duration::from_secs_f64(arguments.require("warm-up"))))? {
        return Ok(());
    }
    let (before, cpu, start) = (load.echoed, clock.seconds()?, Instant::now());
    if !load.run(Some(start + Duration::from_secs_f64(arguments.require("seconds"))))? {
        return Ok(());
    }
    let (messages, cpu) = (load.echoed - before, clock.seconds()? - cpu);
    let wall = start.elapsed().as_secs_f64();
    load.stopping = true;
    if !load.run(None)? {
        return Ok(());
    }
    drop(load);
    println!("{{\"messages\": {messages}, \"seconds\": {wall}, \"cpu\": {cpu}}}");
    Ok(())
}

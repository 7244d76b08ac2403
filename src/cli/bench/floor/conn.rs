//! Sockets of the floor, and the Linux calls it makes.

use std::{
    io::{self, Read},
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// One client.
pub struct Conn {
    stream: TcpStream,
    pub input: Vec<u8>,
    pub upgraded: bool,
    pub protobuf: bool,
    pub subscribed: bool,
    /// It has published once.
    pub publisher: bool,
    /// It has had its answer and goes.
    pub done: bool,
}

impl Conn {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            upgraded: false,
            protobuf: false,
            subscribed: false,
            publisher: false,
            done: false,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Appends what the socket holds, by way of `buffer`; false at its end.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }
}

/// Writes everything; waits where the socket is full. A client that is gone is no error here.
pub fn send_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are those of `bytes`.
        let count = unsafe {
            libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        match usize::try_from(count) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => wait_writable(fd)?,
                error if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Ok(()),
            },
        }
    }
    Ok(())
}

fn wait_writable(fd: RawFd) -> io::Result<()> {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is one entry and lives through the call.
    check(unsafe { libc::poll(&raw mut poll, 1, -1) })?;
    Ok(())
}

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked before it is owned.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just created, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: no event is needed to remove a descriptor.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) })?;
        Ok(())
    }

    pub fn events() -> Vec<libc::epoll_event> {
        vec![libc::epoll_event { events: 0, u64: 0 }; 1024]
    }

    /// The tokens of what is readable; waits for the first.
    pub fn wait(&self, events: &mut [libc::epoll_event]) -> io::Result<Vec<u64>> {
        self.poll(events, -1)
    }

    /// The tokens of what is readable after at most `timeout_ms`.
    pub fn poll(&self, events: &mut [libc::epoll_event], timeout_ms: i32) -> io::Result<Vec<u64>> {
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: the pointer is that of `events`, which has at least `room` entries.
        let count = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), room, timeout_ms) };
        match check(count) {
            Ok(count) => {
                let count = usize::try_from(count).unwrap_or_default();
                Ok(events[..count].iter().map(|event| event.u64).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

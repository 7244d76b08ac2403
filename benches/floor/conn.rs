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
}

impl Conn {
    pub fn new(stream: TcpStream) -> Self {
        let (upgraded, protobuf, subscribed, publisher) = (false, false, false, false);
        Self { stream, input: Vec::new(), upgraded, protobuf, subscribed, publisher }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Appends what the socket holds; false at its end.
    pub fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
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
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
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
        // SAFETY: pointer and length are those of `events`.
        let count =
            unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), events.len() as i32, timeout_ms) };
        match check(count) {
            Ok(count) => Ok(events[..count as usize].iter().map(|event| event.u64).collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

pub fn pin_to(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is the empty set; a CPU outside of it is ignored by `CPU_SET`'s bounds check.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: `set` has the size given and lives through the call.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

pub fn raise_file_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

//! The few Linux calls the load client needs and the standard library does not offer.
//!
//! The only `unsafe` of the command line. Everything handed out is an owned descriptor or a plain number.

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
    time::Duration,
};

/// An edge-triggered interest list: every descriptor is added once, for reading and writing.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What happened to the descriptor that was added with `token`.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub writable: bool,
    /// The peer closed, or the socket failed: read until the end, no further edge will come.
    pub hangup: bool,
}

impl Epoll {
    /// # Errors
    /// Those of `epoll_create1`: mostly too many open files.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked before it is owned.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just created and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call, the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits until something happens or `timeout` has passed (to the nanosecond); returns how many
    /// descriptors are ready, to be read with [`Self::ready`].
    ///
    /// # Errors
    /// Those of `epoll_pwait2` (Linux 5.11); an interruption counts as nothing ready.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let limit = libc::timespec {
            tv_sec: timeout.as_secs().min(3600).cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: `events` has room for as many entries as are named, `limit` lives through the call, and
        // no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len(),
                &raw const limit,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The `index`th descriptor of the last [`Self::wait`].
    #[must_use]
    pub fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let has = |flags: i32| event.events & flags.cast_unsigned() != 0;
        Ready {
            token: event.u64,
            writable: has(libc::EPOLLOUT),
            hangup: has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR),
        }
    }
}

/// Starts to connect, without waiting for it: the socket becomes writable when it has succeeded or failed.
/// `source` chooses the local address, of which each has its own 28 000 ports.
///
/// # Errors
/// Those of `socket`, `bind` and `connect`; `EMFILE` when the file limit is reached.
pub fn connect(to: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers; the result is checked before it is owned.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: `fd` was just created and belongs to nobody else.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    if let Some(source) = source {
        let one: libc::c_int = 1;
        // SAFETY: the option is an int and `one` lives through the call. Without it the kernel would
        // reserve a port for this address alone, for all destinations.
        check(unsafe {
            libc::setsockopt(
                fd,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const one).cast(),
                socklen::<libc::c_int>(),
            )
        })?;
        let address = ipv4(source, 0);
        // SAFETY: `address` is a `sockaddr_in` of the length given and lives through the call.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), socklen::<libc::sockaddr_in>()) })?;
    }
    let result = match to {
        SocketAddr::V4(to) => {
            let address = ipv4(*to.ip(), to.port());
            // SAFETY: as for `bind`.
            check(unsafe { libc::connect(fd, (&raw const address).cast(), socklen::<libc::sockaddr_in>()) })
        }
        SocketAddr::V6(to) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default(),
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            // SAFETY: as for `bind`, with a `sockaddr_in6`.
            check(unsafe { libc::connect(fd, (&raw const address).cast(), socklen::<libc::sockaddr_in6>()) })
        }
    };
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

fn ipv4(address: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or_default()
}

/// Makes the closing of this socket a reset: nothing waits, no port is kept.
///
/// # Errors
/// Those of `setsockopt`.
pub fn reset_on_close(fd: RawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option is a `linger` and `linger` lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            socklen::<libc::linger>(),
        )
    })?;
    Ok(())
}

/// Raises the soft limit of open files to the hard limit; returns what now holds.
///
/// # Errors
/// Those of `getrlimit` and `setrlimit`.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is written by the kernel and lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// `EINVAL` when this machine, or its cpuset, has no such CPU.
pub fn pin_to(core: usize) -> io::Result<()> {
    let set = cpu_set(&[core])?;
    // SAFETY: `set` lives through the call and has the size given.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// Lets the calling thread, and those it starts, run only when nobody else wants their CPU.
///
/// # Errors
/// Those of `sched_setscheduler`.
pub fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` lives through the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) })?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes the child of `command` run on `cores` only, where any are given, and end with the calling thread.
pub fn bind_child(command: &mut Command, cores: &[usize]) -> io::Result<()> {
    let set = cpu_set(cores)?;
    let pinned = !cores.is_empty();
    let bind = move || {
        // SAFETY: takes no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        if pinned {
            // SAFETY: `set` is owned by the closure and has the size given.
            check(unsafe { libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &raw const set) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls; it neither allocates nor locks.
    unsafe { command.pre_exec(bind) };
    Ok(())
}

fn cpu_set(cores: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &core in cores {
        if core >= mem::size_of::<libc::cpu_set_t>() * 8 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `core` is inside the set, as checked above.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    Ok(set)
}

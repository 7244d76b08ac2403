//! System calls that the standard library does not wrap. Nothing here decides anything.

use std::{
    io::{self, IoSlice},
    mem,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor returned is nobody else's.
    unsafe {
        let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Adds one to an eventfd. Never blocks in practice: the counter would have to reach 2^64 - 2.
pub(super) fn signal(fd: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer holds the eight bytes that are written.
    let written = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    debug_assert_eq!(written, 8, "an eventfd takes eight bytes");
}

/// Sets an eventfd back to zero.
pub(super) fn take_signals(fd: BorrowedFd<'_>) {
    let mut count = [0; 8];
    // SAFETY: the buffer is writable for the eight bytes that are read. Nothing to read is as good.
    let _ = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

/// A descriptor kept only to have one to give up when there are no others.
pub(super) fn reserve_fd() -> io::Result<OwnedFd> {
    eventfd()
}

/// Takes ownership of a descriptor that the kernel has just made for us.
///
/// # Safety
/// `fd` must be an open socket that nobody else owns.
pub(super) unsafe fn adopt_stream(fd: RawFd) -> TcpStream {
    // SAFETY: the caller's promise.
    unsafe { TcpStream::from_raw_fd(fd) }
}

/// A listening socket. With `share`, several sockets may listen on the same address.
pub(super) fn listen(address: SocketAddr, share: bool, backlog: u32) -> io::Result<TcpListener> {
    let socket = bind(address, share)?;
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(TcpListener::from(socket))
}

/// A bound TCP socket that does not listen. Unless `share` this fails if anybody listens on the address.
pub(super) fn bind(address: SocketAddr, share: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; the descriptor returned is nobody else's.
    let socket = unsafe {
        let fd = check(libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        OwnedFd::from_raw_fd(fd)
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    if share {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32)?;
    }
    if address.is_ipv6() {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &0i32)?;
    }
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all-zero is a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            bind_raw(&socket, &raw)?;
        }
        SocketAddr::V6(v6) => {
            // SAFETY: all-zero is a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            bind_raw(&socket, &raw)?;
        }
    }
    Ok(socket)
}

fn bind_raw<T>(socket: &OwnedFd, address: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `address` is a socket address structure of this length and outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const *address).cast(), length) }).map(drop)
}

fn set_option<T>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is plain data of this length and outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) })
        .map(drop)
}

/// Makes the coming close send a reset and throw away what is unsent.
pub(super) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(stream, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

pub(super) fn receive_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length during the call.
    check_len(unsafe {
        libc::recv(stream.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// Writes as much as the socket takes at once, at most `IOV_MAX` pieces.
pub(super) fn send_now(stream: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all-zero is a valid msghdr without pieces.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len().min(libc::UIO_MAXIOV as usize);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: IoSlice has the layout of iovec (std's promise); the pieces outlive the call, which only reads.
    check_len(unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, flags) })
}

/// A resource limit: soft, hard.
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is writable during the call.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the soft limit to the hard one; answers the soft limit that holds afterwards.
pub(super) fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let (soft, hard) = limit(resource)?;
    if soft < hard {
        let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        // SAFETY: the structure is readable during the call.
        // A refusal is not an error: the answer below says what holds.
        let _ = unsafe { libc::setrlimit(resource, &raw const raised) };
    }
    Ok(limit(resource)?.0)
}

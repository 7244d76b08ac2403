//! Opens the listening sockets of all cores, so that what can go wrong goes wrong before a core starts.

use super::{error::StartError, sys};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// For each core its listeners, in the order of `addresses`.
pub(super) type Listeners = Vec<Vec<TcpListener>>;

/// Every core gets its own listener on each address (SO_REUSEPORT). Answers the listeners and the
/// addresses as bound, with real ports.
pub(super) fn listen(
    addresses: &[SocketAddr],
    cores: usize,
    backlog: u32,
) -> Result<(Listeners, Vec<SocketAddr>), StartError> {
    let mut listeners: Listeners = (0..cores).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for &wanted in addresses {
        let mut address = wanted;
        let explain = |source| explain(wanted, source);
        if address.port() != 0 {
            // Sockets that share a port would silently share it with another server of this user too.
            sys::bind(address, false).map_err(explain)?;
        }
        for core in &mut listeners {
            let listener = sys::listen(address, true, backlog).map_err(explain)?;
            address = listener.local_addr().map_err(explain)?;
            core.push(listener);
        }
        bound.push(address);
    }
    Ok((listeners, bound))
}

fn explain(address: SocketAddr, source: io::Error) -> StartError {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => StartError::AddressInUse { address },
        Some(libc::EACCES | libc::EPERM) => StartError::AddressForbidden { address },
        _ => StartError::Address { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

    #[test]
    fn all_cores_get_the_port_that_was_chosen() {
        let (listeners, bound) = listen(&[ANY_PORT.into(), ANY_PORT.into()], 3, 16).expect("free ports");
        assert_ne!(bound[0].port(), 0);
        assert_ne!(bound[0], bound[1]);
        for core in listeners {
            let addresses: Vec<_> = core.iter().map(|it| it.local_addr().expect("bound")).collect();
            assert_eq!(addresses, bound);
        }
    }

    #[test]
    fn a_taken_port_is_said_so_even_when_it_could_be_shared() {
        let (_held, bound) = listen(&[ANY_PORT.into()], 1, 16).expect("a free port");
        let error = listen(&bound, 1, 16).expect_err("the port is taken");
        assert!(matches!(error, StartError::AddressInUse { address } if address == bound[0]), "{error}");
    }

    #[test]
    fn a_foreign_address_is_said_so() {
        // TEST-NET-1 (RFC 5737) is never ours.
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = listen(&[address], 1, 16).expect_err("not an address of this machine");
        assert!(matches!(error, StartError::Address { .. }), "{error}");
    }

    #[test]
    fn dual_stack() {
        let (listeners, bound) = listen(&[(std::net::Ipv6Addr::UNSPECIFIED, 0).into()], 1, 16).expect("IPv6");
        std::net::TcpStream::connect(("127.0.0.1", bound[0].port())).expect("IPv4 reaches it");
        let (_, peer) = listeners[0][0].accept().expect("a connection");
        assert!(peer.ip().to_canonical().is_ipv4());
    }
}

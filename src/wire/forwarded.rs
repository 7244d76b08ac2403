//! Who the client is when proxies stand between: `X-Forwarded-For`, believed as far as its authors are trusted.

use std::{net::IpAddr, str::FromStr};

/// An address with the bits of a prefix: `10.0.0.0/8`, `2001:db8::/32`, or one address without a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Not an address, nor an address with `/` and a number of bits it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or a network like 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
        };
        if prefix > bits { Err(NotANetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    /// Whether the address is in this network. IPv4 addresses inside IPv6 count as what they are.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // The bits are compared from the top of 128.
        let (net, address, bits) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(it)) => {
                (u128::from(net.to_bits()) << 96, u128::from(it.to_bits()) << 96, 32)
            }
            (IpAddr::V6(net), IpAddr::V6(it)) => (net.to_bits(), it.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        debug_assert!(self.prefix <= bits);
        // A prefix of 0 would shift by all bits.
        let differing = net ^ address;
        self.prefix == 0 || differing >> (128 - u32::from(self.prefix)) == 0
    }
}

/// The address of the client behind `peer`, from the values of its `X-Forwarded-For` headers in order.
///
/// Walks from the peer to the left as long as who speaks is trusted; the first who is not is the client. What
/// is no address ends the walk: then the last trusted speaker is all we know.
#[must_use]
pub fn client_address<'v>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'v str>,
    trusted: &[Network],
) -> IpAddr {
    let mut client = peer.to_canonical();
    for entry in values.rev().flat_map(|value| value.rsplit(',')) {
        if !trusted.iter().any(|network| network.contains(client)) {
            break;
        }
        match entry_address(entry.trim()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address, with or without a port.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|it| it.ip());
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(with_port).or_else(bracketed).map(|it| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        #[track_caller]
        fn check(network: &str, address: &str, want: bool) {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), want, "{network:?} {address}");
        }
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.2", false);
        check("0.0.0.0/0", "255.1.1.1", true);
        check("0.0.0.0/0", "::1", false);
        check("10.0.0.0/31", "10.0.0.1", true);
        check("10.0.0.0/31", "10.0.0.2", false);
        check("::/0", "::1", true);
        check("2001:db8::/33", "2001:db8:7fff::", true);
        check("2001:db8::/33", "2001:db8:8000::", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        for bad in
            ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0/8", "/8"]
        {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
        }
    }

    #[test]
    fn clients() {
        #[track_caller]
        fn check(peer: &str, values: &[&str], want: &str) {
            let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
            let got = client_address(peer.parse().unwrap(), values.iter().copied(), &trusted);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{peer} {values:?}");
        }
        check("192.0.2.9", &["192.0.2.1"], "192.0.2.9");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        // What a client invented stands further left.
        check("10.0.0.1", &["1.1.1.1, 192.0.2.1"], "192.0.2.1");
        check("10.0.0.1", &["1.1.1.1, 192.0.2.1 , 10.0.0.2"], "192.0.2.1");
        check("10.0.0.1", &["1.1.1.1, 192.0.2.1", "10.0.0.2"], "192.0.2.1");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.1, , 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["192.0.2.1:8080"], "192.0.2.1");
        check("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1");
        check("fd00::1", &["[2001:db8::1]"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1");
    }
}

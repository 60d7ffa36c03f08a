//! The PROXY header, which tells a server who the client is. Addresses to bytes, no sockets.
//!
//! As HAProxy's proxy-protocol.txt has it: [`v1`] is one line of text, [`v2`] is binary and
//! carries the session's identity and a checksum. What is common is here: room for the bytes,
//! and which family a header is in.

mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;

use crate::spec::ProxyVersion;

/// The longest header: a v1 line of two IPv6 addresses. v2 has 78 bytes at most, Postfix takes
/// up to 536.
const LONGEST: usize = 104;

/// The header for a connection from `source` to `destination`, to be sent before anything else;
/// empty for [`ProxyVersion::Off`].
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`, which is what a socket
/// for both families reports) goes out as IPv4. If only one of the two is IPv4, both go out as
/// IPv6: one header has one family, and Postfix takes no `UNKNOWN`.
///
/// `id` is the session's identity. v1 has no place for it.
pub(crate) fn header(
    version: ProxyVersion,
    source: SocketAddr,
    destination: SocketAddr,
    id: &[u8; 16],
) -> Header {
    let addresses = Addresses::new(source, destination);
    match version {
        ProxyVersion::Off => Header::EMPTY,
        ProxyVersion::V1 => v1::line(&addresses),
        ProxyVersion::V2 => v2::block(&addresses, id),
    }
}

/// A header's bytes, kept without a heap.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Header {
    const EMPTY: Self = Self {
        bytes: [0; LONGEST],
        length: 0,
    };

    /// Adds to the end. There is room for every header: `LONGEST` says how long one may be.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Write for Header {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Where a connection comes from and goes to, in one family.
enum Addresses {
    V4(AddressBlock<Ipv4Addr>),
    V6(AddressBlock<Ipv6Addr>),
}

struct AddressBlock<A> {
    source: A,
    destination: A,
    /// Of both, in that order.
    ports: [u16; 2],
}

impl Addresses {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = [source.port(), destination.port()];
        let canonical = (source.ip().to_canonical(), destination.ip().to_canonical());
        if let (IpAddr::V4(source), IpAddr::V4(destination)) = canonical {
            Self::V4(AddressBlock {
                source,
                destination,
                ports,
            })
        } else {
            Self::V6(AddressBlock {
                source: as_v6(source.ip()),
                destination: as_v6(destination.ip()),
                ports,
            })
        }
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use mailweir_testkit::proxy::{Accept, Header as Read, Parsed, parse};
    use proptest::prelude::*;

    use super::*;

    /// What a header for the two is expected to say: the rule, written down once more.
    fn unmapped(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
        let v4 = |one: SocketAddr| match one.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(ip) => ip.to_ipv4_mapped(),
        };
        let v6 = |one: SocketAddr| match one.ip() {
            IpAddr::V4(ip) => format!("::ffff:{ip}").parse().unwrap(),
            IpAddr::V6(ip) => ip,
        };
        match (v4(source), v4(destination)) {
            (Some(from), Some(to)) => (
                (from, source.port()).into(),
                (to, destination.port()).into(),
            ),
            _ => (
                (v6(source), source.port()).into(),
                (v6(destination), destination.port()).into(),
            ),
        }
    }

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        let v4 = any::<[u8; 4]>().prop_map(Ipv4Addr::from);
        let ip = prop_oneof![
            v4.clone().prop_map(IpAddr::V4),
            v4.clone().prop_map(|ip| ip.to_ipv6_mapped().into()),
            // The deprecated form, which is no IPv4 address: ::a.b.c.d
            v4.prop_map(|ip| Ipv6Addr::from(u128::from(ip.to_bits())).into()),
            any::<[u16; 8]>().prop_map(|groups| Ipv6Addr::from(groups).into()),
            // Many zeros, in which a place for the double colon must be found.
            prop::array::uniform8(prop_oneof![Just(0_u16), Just(0), Just(0xffff)])
                .prop_map(|groups| Ipv6Addr::from(groups).into()),
        ];
        (ip, any::<u16>()).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn an_independent_reader_finds_what_was_written(
            source in addresses(), destination in addresses(), id: [u8; 16],
        ) {
            for (proxy, accept, version) in
                [(ProxyVersion::V1, Accept::V1, 1), (ProxyVersion::V2, Accept::V2, 2)]
            {
                let header = header(proxy, source, destination, &id);
                let expected = Read { version, addresses: Some(unmapped(source, destination)) };
                let wire = [&header, b"EHLO client.test\r\n".as_slice()].concat();
                prop_assert_eq!(parse(&wire, accept), Parsed::Complete(expected, header.len()));
                for end in 0..header.len() {
                    prop_assert_eq!(parse(&wire[..end], accept), Parsed::Incomplete);
                }
            }
        }
    }

    #[test]
    fn a_server_that_wants_none_gets_none() {
        let one = SocketAddr::from(([192, 0, 2, 1], 25));
        assert!(header(ProxyVersion::Off, one, one, &[0; 16]).is_empty());
    }

    /// A scope is of use on one machine only; it must not get into the text.
    #[test]
    fn a_scope_is_left_out() {
        let scoped = SocketAddr::V6(std::net::SocketAddrV6::new(
            "fe80::1".parse().unwrap(),
            25,
            7,
            2,
        ));
        let line = header(ProxyVersion::V1, scoped, scoped, &[0; 16]);
        assert_eq!(&line[..], b"PROXY TCP6 fe80::1 fe80::1 25 25\r\n");
    }
}

//! Reads PROXY headers, versions 1 and 2, as a server behind the balancer does.
//!
//! Written apart from the balancer's own code on purpose: one mistake made twice is rarer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_LIMIT: usize = 107;

/// Which headers a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// The text form only.
    V1,
    /// The binary form only.
    V2,
    /// Either form.
    Any,
}

/// A header as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Source and destination; none for `UNKNOWN`, `LOCAL` and unspecified families.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The start of a header.
    Incomplete,
    /// A header and its length; what follows is the client's.
    Complete(Header, usize),
    /// No header, with the reason.
    Invalid(&'static str),
}

/// Reads the header at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8], accept: Accept) -> Parsed {
    let start = bytes.len().min(SIGNATURE.len());
    let binary = bytes[..start] == SIGNATURE[..start];
    let text = bytes[..bytes.len().min(6)] == b"PROXY "[..bytes.len().min(6)];
    match (binary && accept != Accept::V1, text && accept != Accept::V2) {
        (true, true) => Parsed::Incomplete,
        (true, false) => parse_v2(bytes),
        (false, true) => parse_v1(bytes),
        (false, false) => Parsed::Invalid("no such header"),
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let head = &bytes[..bytes.len().min(V1_LIMIT)];
    let Some(end) = memchr::memmem::find(head, b"\r\n") else {
        return if head.len() == V1_LIMIT {
            Parsed::Invalid("v1 line too long")
        } else {
            Parsed::Incomplete
        };
    };
    let Ok(line) = std::str::from_utf8(&head[..end]) else {
        return Parsed::Invalid("v1 line is not text");
    };
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            destination,
            from,
            to,
        ] => {
            let pair = (
                v1_address(family, source, from),
                v1_address(family, destination, to),
            );
            let (Some(source), Some(destination)) = pair else {
                return Parsed::Invalid("v1 address");
            };
            Some((source, destination))
        }
        _ => return Parsed::Invalid("v1 line"),
    };
    Parsed::Complete(
        Header {
            version: 1,
            addresses,
        },
        end + 2,
    )
}

fn v1_address(family: &str, ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = ip.parse().ok()?;
    let plain = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| plain)?;
    (ip.is_ipv4() == (family == "TCP4")).then(|| SocketAddr::new(ip, port))
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(&[command, family, high, low]) = bytes.get(12..16).and_then(<[u8]>::first_chunk)
    else {
        return Parsed::Incomplete;
    };
    let end = 16 + usize::from(u16::from_be_bytes([high, low]));
    let Some(block) = bytes.get(16..end) else {
        return Parsed::Incomplete;
    };
    let addresses = match (command, family) {
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11 | 0x21) => match v2_addresses(family, block) {
            Some(pair) => Some(pair),
            None => return Parsed::Invalid("v2 address block too short"),
        },
        (0x21, _) => return Parsed::Invalid("v2 family"),
        _ => return Parsed::Invalid("v2 version or command"),
    };
    Parsed::Complete(
        Header {
            version: 2,
            addresses,
        },
        end,
    )
}

fn v2_addresses(family: u8, block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(*block.get(at..)?.first_chunk()?));
    let ip = |at: usize| -> Option<IpAddr> {
        let rest = block.get(at..)?;
        Some(if family == 0x11 {
            Ipv4Addr::from(*rest.first_chunk::<4>()?).into()
        } else {
            Ipv6Addr::from(*rest.first_chunk::<16>()?).into()
        })
    };
    let width = if family == 0x11 { 4 } else { 16 };
    let source = SocketAddr::new(ip(0)?, port(2 * width)?);
    let destination = SocketAddr::new(ip(width)?, port(2 * width + 2)?);
    Some((source, destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> Header {
        for end in 0..bytes.len() {
            assert_eq!(
                parse(&bytes[..end], Accept::Any),
                Parsed::Incomplete,
                "{end} bytes"
            );
        }
        let with_more = [bytes, b"EHLO"].concat();
        match parse(&with_more, Accept::Any) {
            Parsed::Complete(header, length) if length == bytes.len() => header,
            other => panic!("{other:?}"),
        }
    }

    fn pair(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn version_1() {
        let header = complete(b"PROXY TCP4 192.0.2.1 192.0.2.2 1025 25\r\n");
        assert_eq!(
            (header.version, header.addresses),
            (1, pair("192.0.2.1:1025", "192.0.2.2:25"))
        );
        let header = complete(b"PROXY TCP6 2001:db8::1 ::1 65535 25\r\n");
        assert_eq!(header.addresses, pair("[2001:db8::1]:65535", "[::1]:25"));
        assert_eq!(complete(b"PROXY UNKNOWN\r\n").addresses, None);
    }

    #[test]
    fn version_2() {
        let mut wire = SIGNATURE.to_vec();
        wire.extend([
            0x21, 0x11, 0, 15, 192, 0, 2, 1, 192, 0, 2, 2, 4, 1, 0, 25, 4, 0, 0,
        ]);
        assert_eq!(
            complete(&wire).addresses,
            pair("192.0.2.1:1025", "192.0.2.2:25")
        );
        let mut wire = SIGNATURE.to_vec();
        wire.extend([0x20, 0, 0, 0]);
        assert_eq!(
            complete(&wire),
            Header {
                version: 2,
                addresses: None
            }
        );
    }

    #[test]
    fn what_is_no_header() {
        let bad: [&[u8]; 6] = [
            b"EHLO a\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            &[b'P'; 200],
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        ];
        for bytes in bad {
            assert!(
                matches!(parse(bytes, Accept::Any), Parsed::Invalid(_)),
                "{bytes:?}"
            );
        }
        let text = b"PROXY UNKNOWN\r\n";
        assert!(matches!(parse(text, Accept::V2), Parsed::Invalid(_)));
        assert!(matches!(
            parse(&SIGNATURE[..], Accept::V1),
            Parsed::Invalid(_)
        ));
    }
}

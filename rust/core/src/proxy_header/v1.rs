//! Version 1: a line of text (proxy-protocol.txt, 2.1).

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use super::{Addresses, Header};

/// `PROXY TCP4 <source> <destination> <source port> <destination port>`, or `TCP6`, with CRLF.
pub(super) fn line(addresses: &Addresses) -> Header {
    let mut line = Header::EMPTY;
    let written = match addresses {
        Addresses::V4(ends) => {
            let [from, to] = ends.ports;
            let (source, destination) = (ends.source, ends.destination);
            write!(line, "PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Addresses::V6(ends) => {
            let [from, to] = ends.ports;
            let (source, destination) = (Groups(ends.source), Groups(ends.destination));
            write!(line, "PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    debug_assert!(written.is_ok(), "a header takes all that fits");
    line
}

/// An IPv6 address as groups of hexadecimal digits, which is all that the protocol has.
struct Groups(Ipv6Addr);

impl fmt::Display for Groups {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.to_ipv4_mapped().is_none() {
            return self.0.fmt(to);
        }
        // The one kind that the standard library writes with dots.
        let [.., high, low] = self.0.segments();
        write!(to, "::ffff:{high:x}:{low:x}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use crate::proxy_header::{LONGEST, header};
    use crate::spec::ProxyVersion;

    fn text(source: &str, destination: &str) -> String {
        let addresses: [SocketAddr; 2] = [source, destination].map(|one| one.parse().unwrap());
        let line = header(ProxyVersion::V1, addresses[0], addresses[1], &[7; 16]);
        String::from_utf8(line.to_vec()).unwrap()
    }

    #[test]
    fn lines_of_either_family() {
        for (source, destination, expected) in [
            (
                "192.0.2.1:1025",
                "198.51.100.25:25",
                "TCP4 192.0.2.1 198.51.100.25 1025 25",
            ),
            ("0.0.0.0:0", "0.0.0.0:0", "TCP4 0.0.0.0 0.0.0.0 0 0"),
            (
                "[2001:db8::1]:65535",
                "[::1]:25",
                "TCP6 2001:db8::1 ::1 65535 25",
            ),
            // Both are IPv4, whatever the socket calls them.
            (
                "[::ffff:192.0.2.1]:1025",
                "[::FFFF:192.0.2.2]:25",
                "TCP4 192.0.2.1 192.0.2.2 1025 25",
            ),
            (
                "[::ffff:192.0.2.1]:1025",
                "192.0.2.2:25",
                "TCP4 192.0.2.1 192.0.2.2 1025 25",
            ),
            // One of them is: without dots then.
            (
                "192.0.2.1:1025",
                "[2001:db8::25]:25",
                "TCP6 ::ffff:c000:201 2001:db8::25 1025 25",
            ),
            (
                "[2001:db8::1]:1025",
                "[::ffff:10.0.0.1]:25",
                "TCP6 2001:db8::1 ::ffff:a00:1 1025 25",
            ),
            (
                "0.0.0.0:1025",
                "[2001:db8::25]:25",
                "TCP6 ::ffff:0:0 2001:db8::25 1025 25",
            ),
            // Looks like IPv4 and isn't.
            (
                "[::192.0.2.1]:1025",
                "[64:ff9b::192.0.2.1]:25",
                "TCP6 ::c000:201 64:ff9b::c000:201 1025 25",
            ),
        ] {
            let line = text(source, destination);
            assert_eq!(
                line,
                format!("PROXY {expected}\r\n"),
                "{source} {destination}"
            );
        }
    }

    /// 56 and 104 bytes are the specification's own figures. A receiver looks at 107.
    #[test]
    fn the_longest_lines() {
        let longest = text("255.255.255.255:65535", "255.255.255.255:65535");
        assert_eq!(longest.len(), 56);
        let full = format!("[{}]:65535", ["ffff"; 8].join(":"));
        assert_eq!(text(&full, &full).len(), 104);
        assert_eq!(LONGEST, 104);
    }

    /// Every length of every group, beside an IPv4 address: nothing has dots or is too long.
    #[test]
    fn no_line_of_ipv6_has_dots() {
        for width in 0..16 {
            let group = 1_u16.checked_shl(width).unwrap();
            let v6 = SocketAddr::from(([group; 8], 65535));
            let v4 = SocketAddr::from(([255, 255, group as u8, 255], 65535));
            for (source, destination) in [(v6, v4), (v4, v6), (v6, v6)] {
                let line = text(&source.to_string(), &destination.to_string());
                assert!(line.starts_with("PROXY TCP6 "), "{line}");
                assert!(!line.contains('.') && line.len() <= 107, "{line}");
            }
        }
    }
}

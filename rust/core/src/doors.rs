//! Where this process listens, so that it doesn't dial itself: a session that comes back as a
//! client begins another one, and that another one, as fast as the machine goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

/// For so long what was seen of an address is taken for granted: it may become the machine's at
/// any time, a virtual one say.
const LASTS: Duration = Duration::from_secs(2);

/// Addresses of all listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Doors(ArcSwap<Vec<SocketAddr>>);

impl Doors {
    /// Clients are accepted at these from now on.
    pub(crate) fn set(&self, bound: Vec<SocketAddr>) {
        self.0.store(bound.into());
    }

    /// Whether connecting to `address` would lead to one of them. `seen` is what was seen of its
    /// IP address before; `now` is in nanoseconds.
    pub(crate) fn lead_from(&self, address: SocketAddr, seen: &Whose, now: u64) -> bool {
        let at = |door: &SocketAddr| {
            let everywhere = door.ip().is_unspecified() && door.is_ipv4() == address.is_ipv4();
            door.port() == address.port() && (everywhere || door.ip() == address.ip())
        };
        self.0.load().iter().any(at) && seen.is_own(address.ip(), now)
    }
}

/// Whether an address is the machine's: when that is looked at again, and in the lowest bit
/// whether it was.
#[derive(Debug, Default)]
pub(crate) struct Whose(AtomicU64);

impl Whose {
    fn is_own(&self, address: IpAddr, now: u64) -> bool {
        let seen = self.0.load(Relaxed);
        if now < seen {
            return seen & 1 == 1;
        }
        let own = is_own(address);
        let until = now + LASTS.as_nanos() as u64;
        self.0.store(until & !1 | u64::from(own), Relaxed);
        own
    }
}

/// Whether the system would connect to itself there: from that very address, then. Nothing is
/// sent. An address that can be bound needn't be the machine's (ip_nonlocal_bind).
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    address.is_loopback() || from().is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn leads(bound: &str, address: &str) -> bool {
        let doors = Doors::default();
        doors.set(vec![bound.parse().unwrap()]);
        doors.lead_from(address.parse().unwrap(), &Whose::default(), 1)
    }

    #[test]
    fn only_where_somebody_listens_and_the_machine_is_meant() {
        for (bound, address, expected) in [
            ("0.0.0.0:25", "127.0.0.1:25", true),
            ("0.0.0.0:25", "127.9.9.9:25", true),
            ("127.0.0.1:25", "127.0.0.1:25", true),
            ("[::]:25", "[::1]:25", true),
            ("0.0.0.0:25", "127.0.0.1:26", false),
            ("127.0.0.1:25", "127.0.0.2:25", false),
            ("[::]:25", "127.0.0.1:25", false),
            ("0.0.0.0:25", "192.0.2.1:25", false),
            // Bound before it is ours (IP_FREEBIND): until then it is somebody else's.
            ("192.0.2.1:25", "192.0.2.1:25", false),
        ] {
            assert_eq!(leads(bound, address), expected, "{bound} {address}");
        }
    }

    #[test]
    fn what_was_seen_is_looked_at_again() {
        let seen = Whose::default();
        let lasts = LASTS.as_nanos() as u64;
        assert!(seen.is_own(Ipv4Addr::LOCALHOST.into(), 1));
        assert!(
            seen.is_own(OTHERS.into(), lasts - 2),
            "of another one, not asked for"
        );
        assert!(!seen.is_own(OTHERS.into(), lasts + 2));
    }
}

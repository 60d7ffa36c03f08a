//! Which interface leads to each peer: looked up again whenever routes may have changed, as a
//! socket would. For flows, which have none.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddrV4;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use mailweir_flow::Key;

use crate::metrics::Counter;

use super::flow_table::FlowTable;
use super::netlink::{Netlink, attribute, attributes, number};
use super::{KernelPath, lock};

/// linux/rtnetlink.h.
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
/// rtmsg: family, lengths of two prefixes, five more bytes, a word of flags.
const ROUTE: usize = 12;
/// Bits of an IPv4 address.
const ALL_BITS: u8 = 32;

/// Looking takes no more than this part of the time, however often routes change.
const PART: u32 = 10;

/// What is known of changes.
#[derive(Debug)]
pub(super) struct Ways {
    route: Mutex<Netlink>,
    /// Times that routes may have changed.
    changes: AtomicU64,
    /// Up to where flows go by them.
    looked: AtomicU64,
    /// Not again before.
    rests: Mutex<Instant>,
    /// Times that a peer was found behind another interface than before.
    pub(super) moved: Counter,
}

/// From one of our addresses to a peer. Rules may go by the port of the service, not by those
/// that differ with each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Way {
    ours: SocketAddrV4,
    peer: SocketAddrV4,
}

impl Way {
    /// To the client of a flow, then to its server.
    fn both([client, server]: [Key; 2]) -> [Self; 2] {
        let any = |address: SocketAddrV4| SocketAddrV4::new(*address.ip(), 0);
        [
            Self {
                ours: client.to,
                peer: any(client.from),
            },
            Self {
                ours: any(server.to),
                peer: server.from,
            },
        ]
    }

    fn question(self) -> Vec<u8> {
        let mut body = vec![libc::AF_INET as u8, ALL_BITS, ALL_BITS];
        body.resize(ROUTE, 0);
        body.extend(attribute(RTA_DST, &self.peer.ip().octets()));
        body.extend(attribute(RTA_SRC, &self.ours.ip().octets()));
        body.extend(attribute(RTA_IP_PROTO, &[libc::IPPROTO_TCP as u8]));
        for (kind, port) in [(RTA_SPORT, self.ours.port()), (RTA_DPORT, self.peer.port())] {
            if port != 0 {
                body.extend(attribute(kind, &port.to_be_bytes()));
            }
        }
        body
    }
}

impl Ways {
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            route: Mutex::new(Netlink::open(libc::NETLINK_ROUTE)?),
            // Nobody has looked while no process was there.
            changes: AtomicU64::new(1),
            looked: AtomicU64::new(0),
            rests: Mutex::new(now),
            moved: Counter::default(),
        })
    }

    /// Routes may have changed.
    pub(super) fn change(&self) {
        self.changes.fetch_add(1, SeqCst);
    }

    /// How often they may have.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// The interface that leads to the peer of a leg, by the key of what that says.
    ///
    /// # Errors
    /// What the kernel says: no route, or the address isn't ours any more.
    pub(super) fn of_leg(&self, leg: Key) -> io::Result<u32> {
        self.look_up(Way {
            ours: leg.to,
            peer: leg.from,
        })
    }

    fn look_up(&self, way: Way) -> io::Result<u32> {
        let answer = lock(&self.route).ask(RTM_GETROUTE, &way.question())?;
        let mut found = attributes(answer.get(ROUTE..).unwrap_or_default());
        let out = found.find_map(|(kind, value)| (kind == RTA_OIF).then(|| number(value)));
        out.flatten()
            .ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }
}

impl KernelPath {
    /// Has flows go by the routes that there are now, if these changed. Where there is none, or
    /// one that the program isn't at, they go on as they are.
    pub(super) fn look_for_ways<S, C>(&self, now: Instant, flows: &FlowTable<S, C>) {
        let ways = &self.ways;
        let changes = ways.changes();
        if ways.looked.load(SeqCst) == changes || now < *lock(&ways.rests) {
            return;
        }
        let wanted = flows.sessions().flat_map(|(keys, ..)| Way::both(keys));
        let wanted: HashSet<Way> = wanted.collect();
        let found = wanted.into_iter().filter_map(|way| {
            let out = ways.look_up(way).ok()?;
            self.interfaces.has(out).then_some((way, out))
        });
        let found: HashMap<Way, u32> = found.collect();
        let moved = flows.sessions().map(|(keys, number, _)| {
            let ways = Way::both(keys).map(|way| found.get(&way).copied());
            self.gates.of(number).lead(ways)
        });
        ways.moved.add(moved.sum());
        ways.looked.store(changes, SeqCst);
        let took: Duration = now.elapsed();
        *lock(&ways.rests) = now + took * PART;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn leg(from: Ipv4Addr, to: Ipv4Addr) -> Key {
        Key {
            from: SocketAddrV4::new(from, 25),
            to: SocketAddrV4::new(to, 25),
        }
    }

    #[test]
    fn the_loopback_leads_to_itself() {
        let ways = Ways::new(Instant::now()).unwrap();
        let own = Ipv4Addr::LOCALHOST;
        assert_eq!(ways.of_leg(leg(own, own)).unwrap(), 1);
        // An address of RFC 5737, which nobody has.
        let not_ours = ways.of_leg(leg(own, Ipv4Addr::new(192, 0, 2, 1)));
        assert!(not_ours.is_err());
        assert_eq!(ways.of_leg(leg(own, own)).unwrap(), 1, "after an error");
    }

    #[test]
    fn sessions_of_a_client_go_one_way() {
        let at = |last, port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
        let of = |client, source| {
            Way::both([
                Key {
                    from: at(1, client),
                    to: at(2, 25),
                },
                Key {
                    from: at(4, 2525),
                    to: at(3, source),
                },
            ])
        };
        assert_eq!(of(40_000, 10_000), of(40_001, 10_001));
        let [client, server] = of(40_000, 10_000);
        assert_eq!((client.ours, client.peer), (at(2, 25), at(1, 0)));
        assert_eq!((server.ours, server.peer), (at(3, 0), at(4, 2525)));
    }
}

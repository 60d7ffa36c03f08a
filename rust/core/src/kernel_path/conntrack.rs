//! Has the system's connection tracking forget sessions that it will see no end of: segments of
//! flows pass it by, and it would keep each for five days.

use std::fs;
use std::io;
use std::net::SocketAddrV4;

use mailweir_flow::Key;

use super::netlink::{Netlink, attribute, request};

/// How many connections are tracked in this network; not there where none can be.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// linux/netlink.h and linux/netfilter/nfnetlink_conntrack.h.
const NETLINK_NETFILTER: i32 = 12;
/// IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK.
const DELETE: u16 = 1 << 8 | 2;
const NESTED: u16 = 0x8000;
const TUPLE_ORIG: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE: u16 = 2;
const PROTO_DESTINATION: u16 = 3;

/// A way to tell it.
#[derive(Debug)]
pub(super) struct Conntrack(Netlink);

impl Conntrack {
    /// # Errors
    /// What the kernel says: without CAP_NET_ADMIN, or where there is none, for one.
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_NETFILTER).map(Self)
    }

    /// Connections that were begun so are forgotten, if they are known.
    pub(super) fn forget(&self, begun: &[Key]) {
        // Mostly nothing is tracked: then two messages a session would be a good part of its cost.
        match fs::read(TRACKED) {
            Ok(number) if number == b"0\n" => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            _ => {}
        }
        // Of a size that one message to the kernel may have.
        for some in begun.chunks(128) {
            let messages: Vec<u8> = some.iter().flat_map(|key| delete(*key)).collect();
            // The answers say no more than what wasn't known.
            self.0.tell(&messages);
        }
    }
}

/// A message that deletes a connection, by who began it.
fn delete(begun: Key) -> Vec<u8> {
    let tuple = tuple(begun.from, begun.to);
    // nfgenmsg: the family, a version, no resource.
    let body = [
        &[libc::AF_INET as u8, 0, 0, 0][..],
        &attribute(TUPLE_ORIG | NESTED, &tuple),
    ];
    request(DELETE, &body.concat())
}

fn tuple(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let ip = [
        attribute(IP_SOURCE, &from.ip().octets()),
        attribute(IP_DESTINATION, &to.ip().octets()),
    ];
    let proto = [
        attribute(PROTO_NUMBER, &[libc::IPPROTO_TCP as u8]),
        attribute(PROTO_SOURCE, &from.port().to_be_bytes()),
        attribute(PROTO_DESTINATION, &to.port().to_be_bytes()),
    ];
    [
        attribute(TUPLE_IP | NESTED, &ip.concat()),
        attribute(TUPLE_PROTO | NESTED, &proto.concat()),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let address = |last, port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
        let message = delete(Key {
            from: address(1, 40_000),
            to: address(2, 25),
        });
        let size = message
            .first_chunk()
            .map(|bytes| u32::from_ne_bytes(*bytes));
        assert_eq!(size, Some(message.len() as u32));
        assert_eq!(message.len(), 16 + 4 + 4 + (4 + 16) + (4 + 24));
    }
}

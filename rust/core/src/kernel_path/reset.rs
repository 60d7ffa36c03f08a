//! Resets to both peers of a flow: nobody else can say them any more.

use std::io;
use std::net::SocketAddrV4;

use mailweir_flow::Flow;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// As tables.h has it: the guard lets these out.
const MARK: u32 = 0x6d77;
const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const RST_ACK: u8 = 0x14;
const TTL: u8 = 64;

/// Says resets.
#[derive(Debug)]
pub(super) struct Resets(Socket);

impl Resets {
    /// # Errors
    /// What the kernel says: without CAP_NET_RAW, for one.
    pub(super) fn open() -> io::Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(
            Domain::IPV4,
            Type::from(libc::SOCK_RAW).cloexec(),
            Some(raw),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_mark(MARK)?;
        Ok(Self(socket))
    }

    /// Ends a flow that is held and whose client may not have heard of its greeting.
    pub(super) fn end_early(&self, flow: &Flow) {
        self.end(flow);
        let [client, server] = &flow.sides;
        let segment = segment(
            server.told.from,
            server.told.to,
            flow.greeting[0],
            client.next,
        );
        let _ = self.0.send_to(&segment, &SockAddr::from(server.told.to));
    }

    /// Ends a flow that is held: a reset to each peer, with the number that it waits for. Where
    /// it hasn't heard everything yet, that is an earlier one, which it is told as well.
    pub(super) fn end(&self, flow: &Flow) {
        let [client, server] = &flow.sides;
        for (speaker, hearer) in [(client, server), (server, client)] {
            for number in [speaker.acked, speaker.next] {
                let seq = number.wrapping_add(speaker.seq_add);
                let segment = segment(speaker.told.from, speaker.told.to, seq, hearer.next);
                // One that is lost is like any: the peer hears of it when it says something.
                let _ = self.0.send_to(&segment, &SockAddr::from(speaker.told.to));
            }
        }
    }
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, seq: u32, ack: u32) -> Vec<u8> {
    let mut packet = vec![0; IP_HEADER + TCP_HEADER];
    let (ip, tcp) = packet.split_at_mut(IP_HEADER);
    // The kernel fills in length, number and checksum of the IP header (raw(7)).
    ip[0] = 0x45;
    ip[8] = TTL;
    ip[9] = libc::IPPROTO_TCP as u8;
    ip[12..16].copy_from_slice(&from.ip().octets());
    ip[16..20].copy_from_slice(&to.ip().octets());
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = (TCP_HEADER as u8 / 4) << 4;
    tcp[13] = RST_ACK;
    let sum = checksum(&ip[12..20], tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 9293, 3.1: over the segment and a pseudo header.
fn checksum(addresses: &[u8], tcp: &[u8]) -> u16 {
    let words = addresses.chunks_exact(2).chain(tcp.chunks_exact(2));
    let words = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + libc::IPPROTO_TCP as u32 + TCP_HEADER as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_reset_has_a_right_checksum() {
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 25);
        let to = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 40_000);
        let packet = segment(from, to, 0xdead_beef, 0x0102_0304);
        assert_eq!(packet.len(), 40);
        // Over a whole segment, its own checksum included, the sum is 0.
        assert_eq!(checksum(&packet[12..20], &packet[20..]), 0);
        assert_eq!(packet[24..28], 0xdead_beef_u32.to_be_bytes());
    }
}

//! A TCP segment of IPv4 as bytes: what is said in a peer's name, and what the self-test shows the
//! program.

use crate::layout::Key;

/// TCP's flags (RFC 9293, 3.1).
pub const FIN: u8 = 0x01;
/// The connection is no more.
pub const RST: u8 = 0x04;
/// The number of what is waited for is valid.
pub const ACK: u8 = 0x10;

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const TTL: u8 = 64;
const TCP: u8 = 6;

/// What a segment says.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// By whom, and to whom.
    pub key: Key,
    /// Its sequence number.
    pub seq: u32,
    /// What is waited for.
    pub ack: u32,
    /// [`ACK`] and others.
    pub flags: u8,
    /// As it is announced, not scaled.
    pub window: u16,
    /// Of a length that is a multiple of 4, 40 at most.
    pub options: &'a [u8],
    /// What follows the headers.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// The packet, with both checksums.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let head = TCP_HEADER + self.options.len();
        let length = head + self.payload.len();
        let mut packet = vec![0; IP_HEADER + TCP_HEADER];
        packet.extend(self.options);
        packet.extend(self.payload);
        let (ip, tcp) = packet.split_at_mut(IP_HEADER);
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((IP_HEADER + length) as u16).to_be_bytes());
        ip[8] = TTL;
        ip[9] = TCP;
        ip[12..16].copy_from_slice(&self.key.from.ip().octets());
        ip[16..20].copy_from_slice(&self.key.to.ip().octets());
        let sum = checksum(&[ip], 0);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        tcp[0..2].copy_from_slice(&self.key.from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.key.to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.to_be_bytes());
        tcp[12] = (head as u8 / 4) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        let sum = checksum(&[&ip[12..20], tcp], u32::from(TCP) + length as u32);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

/// Of parts that follow each other, and of what else is added (RFC 1071); all parts but the last
/// have even lengths.
fn checksum(parts: &[&[u8]], more: u32) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let words = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |b| (*b).into()));
    let mut sum = words.sum::<u32>() + more;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    #[test]
    fn checksums_are_right() {
        let segment = Segment {
            key: Key {
                from: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 25),
                to: SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 40_000),
            },
            seq: 0xdead_beef,
            ack: 0x0102_0304,
            flags: RST | ACK,
            window: 0,
            options: &[1, 1, 1, 0],
            payload: b"odd",
        };
        let packet = segment.packet();
        assert_eq!(packet.len(), 47);
        // Over all, its own checksum included, the sum is 0.
        assert_eq!(checksum(&[&packet[..20]], 0), 0);
        assert_eq!(checksum(&[&packet[12..20], &packet[20..]], 6 + 27), 0);
        assert_eq!(packet[24..28], 0xdead_beef_u32.to_be_bytes());
    }
}

//! A TCP segment of IPv4 in an Ethernet frame, written and read by RFC 791 and RFC 9293, and not
//! by what the program does.

use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;
/// In [`Segment::reserved`].
pub(crate) const AE: u8 = 0x01;

const ETHERNET: usize = 14;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    /// The four bits beside the offset.
    pub(crate) reserved: u8,
    pub(crate) window: u16,
    /// Of the TCP header; a multiple of 4.
    pub(crate) options: Vec<u8>,
    /// Of the IP header; a multiple of 4.
    pub(crate) ip_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl: u8,
    /// Flags and offset of a fragment.
    pub(crate) fragment: u16,
}

impl Segment {
    pub(crate) fn new(from: SocketAddrV4, to: SocketAddrV4) -> Self {
        Self {
            from,
            to,
            seq: 1,
            ack: 1,
            flags: ACK,
            reserved: 0,
            window: 1000,
            options: vec![],
            ip_options: vec![],
            payload: vec![],
            ttl: 63,
            fragment: 0,
        }
    }

    /// A whole frame, padded as short ones are.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut tcp = vec![];
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.push((((20 + self.options.len()) / 4) << 4) as u8 | self.reserved);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let sum = checksum(&[&self.pseudo(tcp.len()), &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());

        let head = 20 + self.ip_options.len();
        let mut ip = vec![0x40 | (head / 4) as u8, 0];
        ip.extend(((head + tcp.len()) as u16).to_be_bytes());
        ip.extend([0x12, 0x34]);
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 6, 0, 0]);
        ip.extend(self.from.ip().octets());
        ip.extend(self.to.ip().octets());
        ip.extend(&self.ip_options);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        // For the loopback, where BPF_PROG_TEST_RUN has it come in, which has no address.
        let mut frame = [[0; 6], [2; 6]].concat();
        frame.extend([0x08, 0x00]);
        frame.extend(ip);
        frame.extend(tcp);
        frame.resize(frame.len().max(60), 0);
        frame
    }

    /// What a frame holds. Both checksums have to be right.
    pub(crate) fn parse(frame: &[u8]) -> Self {
        assert_eq!(frame[12..14], [0x08, 0x00]);
        let ip = &frame[ETHERNET..];
        let head = usize::from(ip[0] & 15) * 4;
        assert_eq!(checksum(&[&ip[..head]]), 0, "the checksum of the IP header");
        let all = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let tcp = &ip[head..all];
        let two = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let four = |at: usize| u32::from(two(at)) << 16 | u32::from(two(at + 2));
        let start = usize::from(tcp[12] >> 4) * 4;
        let segment = Self {
            from: SocketAddrV4::new(address(12), two(0)),
            to: SocketAddrV4::new(address(16), two(2)),
            seq: four(4),
            ack: four(8),
            flags: tcp[13],
            reserved: tcp[12] & 15,
            window: two(14),
            options: tcp[20..start].to_vec(),
            ip_options: ip[20..head].to_vec(),
            payload: tcp[start..].to_vec(),
            ttl: ip[8],
            fragment: u16::from_be_bytes([ip[6], ip[7]]),
        };
        let sum = checksum(&[&segment.pseudo(tcp.len()), tcp]);
        assert_eq!(sum, 0, "the checksum of the segment");
        segment
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let mut pseudo = vec![];
        pseudo.extend(self.from.ip().octets());
        pseudo.extend(self.to.ip().octets());
        pseudo.extend([0, 6]);
        pseudo.extend((length as u16).to_be_bytes());
        pseudo
    }
}

/// RFC 1071.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Time stamps behind two NOPs, as stacks write them.
pub(crate) fn timestamps(tsval: u32, tsecr: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(tsval.to_be_bytes());
    options.extend(tsecr.to_be_bytes());
    options
}

/// SACK blocks behind two NOPs.
pub(crate) fn sack(edges: &[u32]) -> Vec<u8> {
    let mut options = vec![1, 1, 5, 2 + 4 * edges.len() as u8];
    options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
    options
}

//! A frame with a TCP segment, taken apart so that it can be changed.

use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet,
    TcpPacket, TcpSeqNumber,
};

const IP_LEN: usize = 20;
const TCP_LEN: usize = 20;

/// A TCP segment of IPv4 without IP options.
#[derive(Clone)]
pub(crate) struct Segment {
    /// The whole frame; its checksums are whoever's last set them.
    frame: Vec<u8>,
}

impl Segment {
    /// None where the frame holds something else, or its checksums are wrong.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        let is_tcp = ethernet.ethertype() == EthernetProtocol::Ipv4
            && ip.next_header() == IpProtocol::Tcp
            && usize::from(ip.header_len()) == IP_LEN;
        if !is_tcp || !ip.verify_checksum() {
            return None;
        }
        let whole = ETHERNET_HEADER_LEN + usize::from(ip.total_len());
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        if !tcp.verify_checksum(&from, &to) {
            return None;
        }
        // Without what pads it.
        Some(Self {
            frame: frame[..whole].to_vec(),
        })
    }

    pub(crate) fn tcp(&mut self) -> TcpPacket<&mut [u8]> {
        TcpPacket::new_unchecked(&mut self.frame[ETHERNET_HEADER_LEN + IP_LEN..])
    }

    pub(crate) fn ip(&mut self) -> Ipv4Packet<&mut [u8]> {
        Ipv4Packet::new_unchecked(&mut self.frame[ETHERNET_HEADER_LEN..])
    }

    /// Whose it is, from here.
    pub(crate) fn ports(&mut self) -> (u16, u16) {
        let tcp = self.tcp();
        (tcp.src_port(), tcp.dst_port())
    }

    pub(crate) fn payload(&mut self) -> Vec<u8> {
        self.tcp().payload_mut().to_vec()
    }

    /// Another one with these bytes of its payload; its end is in the last one.
    pub(crate) fn part(&mut self, from: usize, to: usize) -> Self {
        let mut part = self.clone();
        let all = self.payload();
        let head = usize::from(self.tcp().header_len());
        part.frame.truncate(ETHERNET_HEADER_LEN + IP_LEN + head);
        part.frame.extend(&all[from..to]);
        let length = part.frame.len() - ETHERNET_HEADER_LEN;
        part.ip()
            .set_total_len(u16::try_from(length).unwrap_or(u16::MAX));
        let mut tcp = part.tcp();
        let seq = tcp.seq_number() + from;
        tcp.set_seq_number(seq);
        if to < all.len() {
            tcp.set_fin(false);
            tcp.set_psh(false);
        }
        part
    }

    /// Moves numbers of what this end says, or of what it hears.
    pub(crate) fn move_seq(&mut self, by: u32) {
        let mut tcp = self.tcp();
        let TcpSeqNumber(seq) = tcp.seq_number();
        tcp.set_seq_number(TcpSeqNumber(seq.wrapping_add(by.cast_signed())));
    }

    /// As `move_seq`, of what was heard: SACK blocks too.
    pub(crate) fn move_ack(&mut self, by: u32) {
        let mut tcp = self.tcp();
        if !tcp.ack() {
            return;
        }
        let TcpSeqNumber(ack) = tcp.ack_number();
        tcp.set_ack_number(TcpSeqNumber(ack.wrapping_add(by.cast_signed())));
        each_option(tcp.options_mut(), |kind, value| {
            if kind == 5 {
                for edge in value.chunks_exact_mut(4) {
                    let old = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
                    edge.copy_from_slice(&old.wrapping_add(by).to_be_bytes());
                }
            }
        });
    }

    /// Replaces its options.
    pub(crate) fn set_options(&mut self, options: &[u8]) {
        let payload = self.payload();
        self.frame.truncate(ETHERNET_HEADER_LEN + IP_LEN + TCP_LEN);
        self.frame.extend(options);
        let padding = options.len().next_multiple_of(4) - options.len();
        self.frame.extend(vec![0; padding]);
        let head = self.frame.len() - ETHERNET_HEADER_LEN - IP_LEN;
        self.frame.extend(payload);
        let length = self.frame.len() - ETHERNET_HEADER_LEN;
        self.ip()
            .set_total_len(u16::try_from(length).unwrap_or(u16::MAX));
        self.tcp()
            .set_header_len(u8::try_from(head).unwrap_or(u8::MAX));
    }

    pub(crate) fn options(&mut self) -> Vec<u8> {
        self.tcp().options_mut().to_vec()
    }

    /// The frame, with right checksums.
    pub(crate) fn into_frame(mut self) -> Vec<u8> {
        let mut ip = self.ip();
        ip.fill_checksum();
        let (from, to): (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
        self.tcp().fill_checksum(&from, &to);
        self.frame
    }
}

/// Calls `look` with each option's kind and value.
pub(crate) fn each_option(options: &mut [u8], mut look: impl FnMut(u8, &mut [u8])) {
    let mut rest = options;
    while let [kind, more @ ..] = rest {
        rest = match *kind {
            0 => return,
            1 => more,
            kind => {
                let Some(size) = more.first().map(|size| usize::from(*size)) else {
                    return;
                };
                if size < 2 || size > more.len() + 1 {
                    return;
                }
                let (value, behind) = more.split_at_mut(size - 1);
                look(kind, &mut value[1..]);
                behind
            }
        };
    }
}

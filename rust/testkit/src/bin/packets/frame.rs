//! Segments as frames hold them: TCP over IPv4 over Ethernet, with the options that Linux has, in its
//! order.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame, EthernetProtocol, IPV4_HEADER_LEN,
    IpAddress, IpProtocol, Ipv4Packet, TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber,
    TcpTimestampRepr,
};

/// The largest segment that is taken.
const MSS: u16 = 1460;
const SCALE: u8 = 7;
/// In a SYN as it is, else scaled.
const WINDOW: u16 = 64_240;
const TCP_LEN: usize = 20;

/// A segment, by whom and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) control: TcpControl,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) stamps: Option<Stamps>,
    pub(crate) payload: &'a [u8],
}

/// Time stamps (RFC 7323).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// What the sender's clock says.
    pub(crate) own: u32,
    /// What it heard last of the other's.
    pub(crate) heard: u32,
}

impl Segment<'_> {
    /// How far it moves the numbers of who says it (RFC 9293, 3.4: SEG.LEN).
    pub(crate) fn length(&self) -> u32 {
        self.payload.len() as u32 + self.control.len() as u32
    }
}

/// Why a frame holds no segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoSegment {
    /// It is about something else.
    Other,
    /// A checksum is wrong, or it ends in the middle.
    Broken,
}

/// The segment in a frame, and the Ethernet address that it came from.
///
/// # Errors
/// There is none that could be read.
pub(crate) fn read(frame: &[u8]) -> Result<(EthernetAddress, Segment<'_>), NoSegment> {
    let broken = |_| NoSegment::Broken;
    let ethernet = EthernetFrame::new_checked(frame).map_err(broken)?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return Err(NoSegment::Other);
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).map_err(broken)?;
    if !ip.verify_checksum() {
        return Err(NoSegment::Broken);
    }
    if ip.next_header() != IpProtocol::Tcp || ip.more_frags() || ip.frag_offset() != 0 {
        return Err(NoSegment::Other);
    }
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    let packet = TcpPacket::new_checked(ip.payload()).map_err(broken)?;
    let ends: (IpAddress, IpAddress) = (from.into(), to.into());
    let tcp = TcpRepr::parse(&packet, &ends.0, &ends.1, &ChecksumCapabilities::default());
    let tcp = tcp.map_err(broken)?;
    let segment = Segment {
        from: SocketAddrV4::new(from, tcp.src_port),
        to: SocketAddrV4::new(to, tcp.dst_port),
        control: tcp.control,
        seq: number(tcp.seq_number),
        ack: tcp.ack_number.map(number),
        stamps: tcp.timestamp.map(|stamps| Stamps {
            own: stamps.tsval,
            heard: stamps.tsecr,
        }),
        payload: tcp.payload,
    };
    Ok((ethernet.src_addr(), segment))
}

/// Makes `frame` hold nothing but this segment.
pub(crate) fn write(frame: &mut Vec<u8>, [own, next]: [EthernetAddress; 2], segment: &Segment<'_>) {
    let options = options(segment);
    let options = &options.bytes[..options.length];
    let head = TCP_LEN + options.len();
    let packet = IPV4_HEADER_LEN + head + segment.payload.len();
    frame.clear();
    frame.resize(ETHERNET_HEADER_LEN + packet, 0);
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(own);
    ethernet.set_dst_addr(next);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.set_version(4);
    ip.set_header_len(IPV4_HEADER_LEN as u8);
    ip.set_total_len(packet as u16);
    ip.set_dont_frag(true);
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Tcp);
    ip.set_src_addr(*segment.from.ip());
    ip.set_dst_addr(*segment.to.ip());
    ip.fill_checksum();
    let ends: (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
    let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
    tcp.set_src_port(segment.from.port());
    tcp.set_dst_port(segment.to.port());
    tcp.set_seq_number(TcpSeqNumber(segment.seq.cast_signed()));
    tcp.set_ack_number(TcpSeqNumber(segment.ack.unwrap_or_default().cast_signed()));
    tcp.set_header_len(head as u8);
    tcp.set_window_len(WINDOW);
    tcp.set_ack(segment.ack.is_some());
    tcp.set_psh(!segment.payload.is_empty());
    tcp.set_syn(segment.control == TcpControl::Syn);
    tcp.set_fin(segment.control == TcpControl::Fin);
    tcp.set_rst(segment.control == TcpControl::Rst);
    tcp.options_mut().copy_from_slice(options);
    tcp.payload_mut().copy_from_slice(segment.payload);
    tcp.fill_checksum(&ends.0, &ends.1);
}

#[derive(Default)]
struct Options {
    bytes: [u8; 20],
    length: usize,
}

impl Options {
    fn add(&mut self, option: &TcpOption<'_>) {
        option.emit(&mut self.bytes[self.length..]);
        self.length += option.buffer_len();
    }
}

fn options(segment: &Segment<'_>) -> Options {
    let is_syn = segment.control == TcpControl::Syn;
    let mut options = Options::default();
    if is_syn {
        options.add(&TcpOption::MaxSegmentSize(MSS));
        options.add(&TcpOption::SackPermitted);
    }
    if let Some(Stamps { own, heard }) = segment.stamps {
        let TcpTimestampRepr { tsval, tsecr } = TcpTimestampRepr::new(own, heard);
        if !is_syn {
            options.add(&TcpOption::NoOperation);
            options.add(&TcpOption::NoOperation);
        }
        options.add(&TcpOption::TimeStamp { tsval, tsecr });
    }
    if is_syn {
        options.add(&TcpOption::NoOperation);
        options.add(&TcpOption::WindowScale(SCALE));
        while !options.length.is_multiple_of(4) {
            options.add(&TcpOption::NoOperation);
        }
    }
    options
}

fn number(TcpSeqNumber(number): TcpSeqNumber) -> u32 {
    number.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use mailweir_testkit::frames::MOST;

    const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x25, 1]);
    const NEXT: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x25, 2]);

    fn segments() -> Vec<Segment<'static>> {
        let at = |last, port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
        let plain = Segment {
            from: at(1, 40_000),
            to: at(2, 25),
            control: TcpControl::Psh,
            seq: u32::MAX,
            ack: Some(1 << 31),
            stamps: Some(Stamps { own: 7, heard: 8 }),
            payload: b"NOOP\r\n",
        };
        let of = |control, ack, stamps| Segment {
            control,
            ack,
            stamps,
            payload: b"",
            ..plain.clone()
        };
        vec![
            of(TcpControl::Syn, None, plain.stamps),
            of(TcpControl::Syn, Some(5), None),
            of(TcpControl::None, plain.ack, plain.stamps),
            of(TcpControl::Fin, plain.ack, plain.stamps),
            of(TcpControl::Rst, None, None),
            plain,
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let mut frame = vec![];
        for segment in segments() {
            write(&mut frame, [OWN, NEXT], &segment);
            assert_eq!(read(&frame), Ok((OWN, segment)));
            assert!(frame.len() <= MOST);
        }
    }

    #[test]
    fn a_bit_that_is_wrong_shows() {
        let mut frame = vec![];
        for segment in segments() {
            write(&mut frame, [OWN, NEXT], &segment);
            for at in ETHERNET_HEADER_LEN..frame.len() {
                frame[at] ^= 4;
                assert!(read(&frame).is_err(), "byte {at} of {segment:?}");
                frame[at] ^= 4;
            }
            for length in 0..frame.len() {
                assert!(read(&frame[..length]).is_err(), "{length} of {segment:?}");
            }
        }
    }
}

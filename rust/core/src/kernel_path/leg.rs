//! One of a session's two connections, as its socket knows it: what the hand-over needs of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::sys;
use mailweir_flow::{Key, Without};

use super::refusal::Refusal;

/// linux/tcp.h; the libc crate lacks some of them.
const TCP_REPAIR_QUEUE: i32 = 20;
const TCP_QUEUE_SEQ: i32 = 21;
const TCP_TIMESTAMP: i32 = 24;
const TCP_SAVED_SYN: i32 = 28;
const RECEIVE_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
const REPAIR_ON: i32 = 1;
/// Off, without a window probe.
const REPAIR_OFF: i32 = -1;

/// TCP_INFO's options.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const ECN: u8 = 8;
const MICROSECONDS: u8 = 64;
/// TCP_INFO's state of a connection that neither side has closed.
const ESTABLISHED: u8 = 1;
const INFO_SIZE: usize = 232;
/// Of IPv4 and TCP, without options.
const HEADERS: u32 = 40;
/// In each segment that has them, with what makes it a multiple of 4.
const TIMESTAMPS_SIZE: u32 = 12;
/// What a peer takes that says nothing (RFC 9293, 3.7.1).
const LEAST_TAKEN: u16 = 536;

/// What the kernel can be told to announce (TCP_MIN_MSS, MAX_TCP_WINDOW).
const LEAST_SEGMENT: u16 = 88;
pub(super) const MOST_SEGMENT: u16 = 32_767;

/// More than the clock can be behind by: its lowest bit isn't to be had.
const LATER: u32 = 2;

/// What TCP_INFO says of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info([u8; INFO_SIZE]);

impl Info {
    /// # Errors
    /// What the kernel says.
    pub(super) fn read(socket: impl AsFd) -> io::Result<Self> {
        let mut info = [0; INFO_SIZE];
        sys::option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
        Ok(Self(info))
    }

    pub(super) fn is_established(&self) -> bool {
        self.0[0] == ESTABLISHED
    }

    /// The options that neither peer uses.
    pub(super) fn lacking(&self) -> Without {
        Without {
            timestamps: !self.has(TIMESTAMPS),
            sack: !self.has(SACK),
        }
    }

    fn has(&self, option: u8) -> bool {
        self.0[5] & option != 0
    }

    /// Whether its options can be translated to those of another leg that has the same.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.has(ECN) {
            Err(Refusal::Ecn)
        } else if self.has(MICROSECONDS) {
            Err(Refusal::Clock)
        } else {
            Ok(())
        }
    }

    /// The peer's.
    pub(super) fn peer_scale(&self) -> u8 {
        self.0[6] & 15
    }

    pub(super) fn our_scale(&self) -> u8 {
        self.0[6] >> 4
    }

    /// Segments to the peer that it hasn't acknowledged.
    pub(super) fn unacknowledged(&self) -> u32 {
        self.word(24)
    }

    /// How long a segment and its acknowledgement take, as far as the handshake tells.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.word(68).into())
    }

    /// The largest segment that the peer was told we take, options included (RFC 6691). The kernel
    /// takes those off that each segment has.
    pub(super) fn announced(&self) -> u32 {
        let options = if self.has(TIMESTAMPS) {
            TIMESTAMPS_SIZE
        } else {
            0
        };
        self.word(84) + options
    }

    /// The largest segment to the peer that the way takes, as far as it is known.
    pub(super) fn way_takes(&self) -> u32 {
        self.word(60).saturating_sub(HEADERS)
    }

    /// How far the peer may have been told to speak at once.
    pub(super) fn told_window(&self) -> u32 {
        self.word(64) | ((1 << self.our_scale()) - 1)
    }

    /// What the peer takes at once, as it said last.
    pub(super) fn peer_window(&self) -> u32 {
        self.word(228)
    }

    /// Bytes that weren't sent yet, the window being shut.
    pub(super) fn unsent(&self) -> u32 {
        self.word(144)
    }

    /// Segments that came while what stands before them was missing.
    pub(super) fn out_of_order(&self) -> u32 {
        self.word(224)
    }

    /// Bytes that came in their order, read or not.
    pub(super) fn received(&self) -> u64 {
        let bytes = self.0[128..].first_chunk();
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.0[at..].first_chunk();
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// A connection's numbers: sequence numbers behind what was sent and heard, and our clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) snd_nxt: u32,
    pub(super) rcv_nxt: u32,
    pub(super) clock: u32,
}

/// Our clock on a connection.
///
/// # Errors
/// What the kernel says.
pub(super) fn clock(socket: impl AsFd) -> io::Result<u32> {
    Ok(number(socket, TCP_TIMESTAMP)?.wrapping_add(LATER))
}

/// A socket in repair mode: it sends nothing, also when it is closed. Dropped, it is one like any
/// other again.
#[derive(Debug)]
pub(super) struct Repaired<'a>(BorrowedFd<'a>);

impl<'a> Repaired<'a> {
    /// # Errors
    /// What the kernel says: without CAP_NET_ADMIN, for one.
    pub(super) fn begin(socket: &'a impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        set(socket, sys::TCP_REPAIR, REPAIR_ON)?;
        Ok(Self(socket))
    }

    /// Behind what was sent.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn snd_nxt(&self) -> io::Result<u32> {
        self.end_of(SEND_QUEUE)
    }

    /// Behind what came, as far as nothing is missing before it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn rcv_nxt(&self) -> io::Result<u32> {
        self.end_of(RECEIVE_QUEUE)
    }

    fn end_of(&self, queue: i32) -> io::Result<u32> {
        set(self.0, TCP_REPAIR_QUEUE, queue)?;
        number(self.0, TCP_QUEUE_SEQ)
    }
}

impl Drop for Repaired<'_> {
    fn drop(&mut self) {
        // Refused, it breaks: nothing more can be done for it.
        let _ = set(self.0, sys::TCP_REPAIR, REPAIR_OFF);
        // Which took this from it: while it closes, nobody could bind its port, not even to
        // listen there.
        let _ = sys::set_option(self.0, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
}

/// Has a socket say nothing any more, not even at its close. Refused, the program holds that back.
pub(super) fn silence(socket: impl AsFd) {
    let _ = set(socket, sys::TCP_REPAIR, REPAIR_ON);
}

/// What the client's SYN said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syn {
    /// Who sent it, and where to.
    pub(super) key: Key,
    pub(super) isn: u32,
    pub(super) mss: Option<u16>,
    /// Bytes that it takes at once; never scaled here.
    pub(super) window: u16,
    pub(super) tsval: Option<u32>,
    /// It takes selective acknowledgements.
    pub(super) sack: bool,
    /// None where its windows are never scaled.
    pub(super) scale: Option<u8>,
    /// Nobody on the way may cut what it says into fragments (DF).
    pub(super) whole: bool,
}

/// The largest segment that a peer takes, options included, by its SYN.
pub(super) fn takes(said: Option<u16>) -> u16 {
    said.filter(|mss| *mss > 0).unwrap_or(LEAST_TAKEN)
}

impl Syn {
    /// Of an accepted connection whose listener saves SYNs; once.
    ///
    /// # Errors
    /// It wasn't saved.
    pub(super) fn of(client: impl AsFd) -> Result<Self, Refusal> {
        let mut headers = [0; 128];
        let size = sys::option(client, libc::IPPROTO_TCP, TCP_SAVED_SYN, &mut headers);
        match size {
            Ok(size) => Self::parse(&headers[..size]).ok_or(Refusal::NoSyn),
            Err(_) => Err(Refusal::NoSyn),
        }
    }

    /// The largest segment that the client takes, options included. One that its window has no
    /// room for is none: a server that was told of a larger window than that holds back what
    /// doesn't fit, until it asks for more (Linux: 200 ms for each).
    pub(super) fn takes(&self) -> u16 {
        takes(self.mss).min(self.window)
    }

    /// The options that its connection is without.
    pub(super) fn lacking(&self) -> Without {
        Without {
            timestamps: self.tsval.is_none(),
            sack: !self.sack,
        }
    }

    /// Whether a server can be told what it says.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if !self.whole {
            Err(Refusal::Fragments)
        } else if self.takes() < LEAST_SEGMENT {
            Err(Refusal::SegmentSize)
        } else {
            Ok(())
        }
    }

    /// From an IPv4 header and a TCP header; none of anything else.
    fn parse(headers: &[u8]) -> Option<Self> {
        let (ip, tcp) = headers.split_at_checked(usize::from(headers.first()? & 15) * 4)?;
        let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
        let short = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
        let mut found = Self {
            key: Key {
                from: SocketAddrV4::new(address(12)?, short(0)?),
                to: SocketAddrV4::new(address(16)?, short(2)?),
            },
            isn: u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?),
            mss: None,
            window: short(14)?,
            tsval: None,
            sack: false,
            scale: None,
            whole: ip.get(6)? & 0x40 != 0,
        };
        let end = usize::from(*tcp.get(12)? >> 4) * 4;
        let mut rest = tcp.get(20..end)?;
        while let [kind, more @ ..] = rest {
            rest = match (kind, more) {
                (0, _) => break,
                (1, _) => more,
                (_, [size, ..]) if *size >= 2 && usize::from(*size) <= rest.len() => {
                    match rest[..usize::from(*size)] {
                        [3, 3, scale] => found.scale = Some(scale),
                        [4, 2] => found.sack = true,
                        [2, 4, a, b] => found.mss = Some(u16::from_be_bytes([a, b])),
                        [8, 10, a, b, c, d, ..] => {
                            found.tsval = Some(u32::from_be_bytes([a, b, c, d]));
                        }
                        _ => {}
                    }
                    &rest[usize::from(*size)..]
                }
                _ => break,
            };
        }
        Some(found)
    }
}

/// The interface that a connection came in by, if its listener keeps note of that (IP_PKTINFO).
pub(super) fn interface(client: impl AsFd) -> Option<u32> {
    let mut control = [0; 64];
    let size = sys::option(client, libc::IPPROTO_IP, libc::IP_PKTOPTIONS, &mut control);
    pktinfo(&control[..size.ok()?])
}

/// The interface of the first IP_PKTINFO among control messages (cmsg(3)).
fn pktinfo(control: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        control
            .get(at..)?
            .first_chunk()
            .map(|b| i32::from_ne_bytes(*b))
    };
    // A length, a level, a type; then the interface before two addresses.
    const LEVEL: usize = size_of::<usize>();
    let is_info = word(LEVEL)? == libc::IPPROTO_IP && word(LEVEL + 4)? == libc::IP_PKTINFO;
    let index = is_info.then(|| word(LEVEL + 8)).flatten()?;
    u32::try_from(index).ok().filter(|index| *index > 0)
}

fn set(socket: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    sys::set_option(socket, libc::IPPROTO_TCP, option, value)
}

fn number(socket: impl AsFd, option: i32) -> io::Result<u32> {
    let mut value = [0; 4];
    sys::option(socket, libc::IPPROTO_TCP, option, &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0; 20];
        tcp[..4].copy_from_slice(&[0x30, 0x39, 0, 25]);
        tcp[4..8].copy_from_slice(&7_u32.to_be_bytes());
        tcp[14..16].copy_from_slice(&64_240_u16.to_be_bytes());
        tcp.extend(options);
        tcp[12] = ((tcp.len() / 4) << 4) as u8;
        let mut ip = vec![0; 20];
        (ip[0], ip[6]) = (0x45, 0x40);
        ip[12..].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        [ip, tcp].concat()
    }

    #[test]
    fn a_syn_says_where_it_went_its_segment_size_and_its_time() {
        let usual = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        let expected = Syn {
            key: Key {
                from: SocketAddrV4::new([192, 0, 2, 1].into(), 12345),
                to: SocketAddrV4::new([192, 0, 2, 2].into(), 25),
            },
            isn: 7,
            mss: Some(1460),
            window: 64_240,
            tsval: Some(0x1234_5678),
            sack: true,
            scale: Some(7),
            whole: true,
        };
        assert_eq!(Syn::parse(&syn(&usual)), Some(expected));
        let silent = Syn {
            mss: None,
            tsval: None,
            sack: false,
            scale: None,
            ..expected
        };
        assert_eq!(Syn::parse(&syn(&[])), Some(silent));
        assert_eq!(Syn::parse(&syn(&[2, 40, 0, 0])), Some(silent));
        let mut in_fragments = syn(&[]);
        in_fragments[6] = 0;
        assert!(Syn::parse(&in_fragments).is_some_and(|syn| !syn.whole));
        assert_eq!(Syn::parse(&[]), None);
        assert_eq!(Syn::parse(&syn(&[])[..39]), None);
    }

    #[test]
    fn what_cannot_be_told_to_a_server_has_its_reason() {
        let of = |options: &[u8], df: u8| {
            let mut syn = syn(options);
            syn[6] = df;
            Syn::parse(&syn).map(|syn| syn.check())
        };
        assert_eq!(of(&[2, 4, 0, 88], 0x40), Some(Ok(())));
        assert_eq!(of(&[2, 4, 0xff, 0xff], 0x40), Some(Ok(())));
        assert_eq!(of(&[], 0x40), Some(Ok(())));
        let small = Some(Err(Refusal::SegmentSize));
        assert_eq!(of(&[2, 4, 0, 1], 0x40), small);
        assert_eq!(of(&[2, 4, 0, 87], 0x40), small);
        assert_eq!(of(&[2, 4, 5, 0xb4], 0), Some(Err(Refusal::Fragments)));
    }

    #[test]
    fn no_segment_is_larger_than_the_window() {
        let of = |window: u16| {
            let mut syn = syn(&[2, 4, 5, 0xb4]);
            syn[34..36].copy_from_slice(&window.to_be_bytes());
            Syn::parse(&syn).map(|syn| (syn.takes(), syn.check()))
        };
        assert_eq!(of(1460), Some((1460, Ok(()))));
        assert_eq!(of(500), Some((500, Ok(()))));
        for window in [0, 87] {
            let expected = (window, Err(Refusal::SegmentSize));
            assert_eq!(of(window), Some(expected));
        }
    }

    #[test]
    fn control_messages_say_the_interface() {
        let mut control = 28_usize.to_ne_bytes().to_vec();
        for word in [libc::IPPROTO_IP, libc::IP_PKTINFO, 7, 0, 0] {
            control.extend(word.to_ne_bytes());
        }
        assert_eq!(pktinfo(&control), Some(7));
        assert_eq!(pktinfo(&control[..16]), None);
        assert_eq!(pktinfo(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            Syn::parse(&bytes);
            pktinfo(&bytes);
        }
    }
}

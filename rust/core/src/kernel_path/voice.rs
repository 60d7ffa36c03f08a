//! What is said to the peers of a flow in each other's name, since there is no socket that would:
//! resets, and keepalives.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use mailweir_flow::layout::MARK;
use mailweir_flow::segment::{ACK, RST, Segment};
use mailweir_flow::{Direction, Flow, Key};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::record::Side;

/// Says segments.
#[derive(Debug)]
pub(super) struct Voice(Socket);

impl Voice {
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
        // The guard lets these out.
        socket.set_mark(MARK)?;
        Ok(Self(socket))
    }

    /// Ends a flow that is held and whose client may not have heard of its greeting.
    pub(super) fn end_early(&self, flow: &Flow) {
        self.end(flow);
        let [client, server] = &flow.sides;
        let told = server.told_as.told;
        self.say(&reset(told, flow.greeting_begin, client.snd_nxt));
    }

    /// Ends a flow that is held: a reset to each peer, with the number that it waits for. Where
    /// it hasn't heard everything yet, that is an earlier one, which it is told as well. Whether there
    /// was room for all: a link that is busy has some for later.
    pub(super) fn end(&self, flow: &Flow) -> bool {
        let [client, server] = &flow.sides;
        let mut has_room = true;
        for (speaker, hearer) in [(client, server), (server, client)] {
            for number in [speaker.snd_una, speaker.snd_nxt] {
                let seq = number.wrapping_add(speaker.told_as.seq_add);
                has_room &= self.say(&reset(speaker.told_as.told, seq, hearer.snd_nxt));
            }
        }
        has_room
    }

    /// Asks a peer whether it is there: by whom it is asked, if there was room for that. `clocks` are the time stamps
    /// that client and server said last.
    pub(super) fn ask(&self, flow: &Flow, whom: Side, clocks: [u32; 2]) -> Option<Key> {
        let [client, server] = &flow.sides;
        let [of_client, of_server] = clocks;
        let (speaker, hearer, said, heard) = match whom {
            Side::Client => (server, client, of_server, of_client),
            Side::Server => (client, server, of_client, of_server),
        };
        let options = time_stamps(speaker, said, heard);
        let has_room = self.say(&Segment {
            options: options.as_ref().map_or(&[], |options| options),
            ..keepalive(speaker, hearer)
        });
        has_room.then_some(speaker.told_as.told)
    }

    /// Whether there was room for it. One that is lost otherwise is like any: the peer is asked again, or
    /// hears of its end when it says something.
    fn say(&self, segment: &Segment<'_>) -> bool {
        let Key { from, to } = segment.key;
        // Its route is the one of this address: rules may go by that, and aren't asked of the packet.
        let source = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: from.ip().to_bits().to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let sent = sendmsg(
            self.0.as_raw_fd(),
            &[IoSlice::new(&segment.packet())],
            &[ControlMessage::Ipv4PacketInfo(&source)],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(to)),
        );
        !matches!(sent, Err(Errno::EAGAIN | Errno::ENOBUFS))
    }
}

fn reset(key: Key, seq: u32, ack: u32) -> Segment<'static> {
    Segment {
        key,
        seq,
        ack,
        flags: RST | ACK,
        window: 0,
        options: &[],
        payload: &[],
    }
}

/// Nothing that the hearer hasn't heard: the number before the one that it waits for, which has to be
/// answered (RFC 9293, 3.8.4).
fn keepalive(speaker: &Direction, hearer: &Direction) -> Segment<'static> {
    let heard = speaker.snd_una.wrapping_add(speaker.told_as.seq_add);
    Segment {
        key: speaker.told_as.told,
        seq: heard.wrapping_sub(1),
        ack: hearer.snd_una,
        flags: ACK,
        window: window(speaker, hearer),
        options: &[],
        payload: &[],
    }
}

/// What the speaker has said that it takes: some hear that also of a segment that is outside their
/// own window. As the program tells windows.
fn window(speaker: &Direction, hearer: &Direction) -> u16 {
    let told = &speaker.told_as;
    let ahead = hearer.wnd_end.wrapping_sub(hearer.snd_una);
    let is_shut = ahead > i32::MAX as u32;
    let units = if is_shut { 0 } else { ahead >> told.scale };
    let units = units.min(speaker.max_window.into()) << told.left >> told.right;
    u16::try_from(units).unwrap_or(u16::MAX)
}

/// The last that the speaker said, as the hearer knows it: an earlier one isn't answered by all (FreeBSD
/// says nothing to an empty segment that fails PAWS; RFC 7323, 5.3). None where the connections have
/// none. That of somebody who forges segments is harmless: outside of its window, no peer goes by it.
fn time_stamps(speaker: &Direction, said: u32, heard: u32) -> Option<[u8; 12]> {
    if said == 0 || heard == 0 {
        return None;
    }
    let mut options = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    let said = said.wrapping_add(speaker.told_as.tsval_add);
    options[4..8].copy_from_slice(&said.to_be_bytes());
    options[8..].copy_from_slice(&heard.to_be_bytes());
    Some(options)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use mailweir_flow::Translation;

    use super::*;

    fn side(last: u8) -> Direction {
        let at = |last| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 25);
        let told = Translation::to(Key {
            from: at(last),
            to: at(last + 1),
        });
        Direction::begin(told, 0)
    }

    /// Numbers begin again from 0 in the middle of it.
    #[test]
    fn a_keepalive_is_what_the_peer_has_heard() {
        let (mut speaker, mut hearer) = (side(1), side(3));
        (speaker.snd_una, speaker.snd_nxt) = (0xffff_fff0, 5);
        speaker.told_as.seq_add = 0x10;
        (hearer.snd_una, hearer.snd_nxt) = (77, 99);
        let said = keepalive(&speaker, &hearer);
        assert_eq!((said.seq, said.ack, said.flags), (0xffff_ffff, 77, ACK));
        assert_eq!(said.key, speaker.told_as.told);
        assert!(said.payload.is_empty() && said.options.is_empty());
    }

    #[test]
    fn a_window_is_the_one_that_was_announced() {
        // How far, of the speaker's scale and its largest, told in ours.
        for (ahead, scale, most, [left, right], expected) in [
            (1000_u32, 0, 65_535, [0, 0], 1000),
            (64_000, 7, 512, [0, 0], 500),
            (64_000, 7, 512, [4, 0], 8000),
            (64_000, 7, 512, [0, 2], 125),
            (64_000, 0, 65_535, [1, 0], 65_535),
            // It was taken to be larger before it said so.
            (65_535, 0, 4000, [0, 0], 4000),
            (0, 7, 512, [0, 0], 0),
            (0_u32.wrapping_sub(5), 7, 512, [0, 0], 0),
        ] {
            let (mut speaker, mut hearer) = (side(1), side(3));
            let told = &mut speaker.told_as;
            (told.scale, told.left, told.right) = (scale, left, right);
            speaker.max_window = most;
            hearer.snd_una = 0xffff_fff0;
            hearer.wnd_end = hearer.snd_una.wrapping_add(ahead);
            let case = (ahead, scale, left, right);
            assert_eq!(window(&speaker, &hearer), expected, "{case:?}");
        }
    }

    #[test]
    fn time_stamps_are_the_last_that_each_said() {
        let mut speaker = side(1);
        speaker.told_as.tsval_add = 3;
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(time_stamps(&speaker, 0xffff_fffe, 9), Some(options));
        assert_eq!(time_stamps(&speaker, 0, 9), None);
        assert_eq!(time_stamps(&speaker, 9, 0), None);
    }
}

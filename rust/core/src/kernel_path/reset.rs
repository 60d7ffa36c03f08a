//! Resets to both peers of a flow: nobody else can say them any more.

use std::io;

use mailweir_flow::layout::MARK;
use mailweir_flow::segment::{ACK, RST, Segment};
use mailweir_flow::{Flow, Key};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

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
        // The guard lets these out.
        socket.set_mark(MARK)?;
        Ok(Self(socket))
    }

    /// Ends a flow that is held and whose client may not have heard of its greeting.
    pub(super) fn end_early(&self, flow: &Flow) {
        self.end(flow);
        let [client, server] = &flow.sides;
        let segment = reset(server.told_as.told, flow.greeting_begin, client.snd_nxt);
        let _ = self
            .0
            .send_to(&segment, &SockAddr::from(server.told_as.told.to));
    }

    /// Ends a flow that is held: a reset to each peer, with the number that it waits for. Where
    /// it hasn't heard everything yet, that is an earlier one, which it is told as well.
    pub(super) fn end(&self, flow: &Flow) {
        let [client, server] = &flow.sides;
        for (speaker, hearer) in [(client, server), (server, client)] {
            for number in [speaker.snd_una, speaker.snd_nxt] {
                let seq = number.wrapping_add(speaker.told_as.seq_add);
                let segment = reset(speaker.told_as.told, seq, hearer.snd_nxt);
                // One that is lost is like any: the peer hears of it when it says something.
                let _ = self
                    .0
                    .send_to(&segment, &SockAddr::from(speaker.told_as.told.to));
            }
        }
    }
}

fn reset(key: Key, seq: u32, ack: u32) -> Vec<u8> {
    let segment = Segment {
        key,
        seq,
        ack,
        flags: RST | ACK,
        window: 0,
        options: &[],
        payload: &[],
    };
    segment.packet()
}

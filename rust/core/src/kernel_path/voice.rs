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
        self.say(server.told_as.told, flow.greeting_begin, client.snd_nxt);
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
                has_room &= self.say(speaker.told_as.told, seq, hearer.snd_nxt);
            }
        }
        has_room
    }

    /// Whether there was room for it. One that is lost otherwise is like any: the peer hears of it when
    /// it says something.
    fn say(&self, key: Key, seq: u32, ack: u32) -> bool {
        let sent = self
            .0
            .send_to(&reset(key, seq, ack), &SockAddr::from(key.to));
        let code = sent.err().and_then(|error| error.raw_os_error());
        !matches!(code, Some(libc::EAGAIN | libc::ENOBUFS))
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

//! Servers that keep nothing: what comes in says by itself what is to be answered, so what comes twice
//! is answered twice.

use std::io;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use smoltcp::wire::TcpControl;

use super::args::ServeArgs;
use super::frame::{Segment, Stamps};
use super::say;
use super::stop::Stop;
use super::wire::Wire;
use super::words::{GREETING, Line, WHAT};

/// TERM is looked for so often.
const LOOK: Duration = Duration::from_millis(50);

/// Serves until TERM.
///
/// # Errors
/// What the system says.
pub(crate) fn run(args: &ServeArgs) -> io::Result<ExitCode> {
    let stop = Stop::by_signal()?;
    let mut wire = Wire::open(&args.interface, None)?;
    let mut server = Server::default();
    say(&json!({"listening": args.address}))?;
    let began = Instant::now();
    while !stop.has_come() {
        let clock = clock(began.elapsed());
        let heard = wire.hear(|segment| {
            let is_ours = segment.to.port() == args.port && args.address.contains(segment.to.ip());
            is_ours.then(|| server.answer(segment, clock)).flatten()
        })?;
        if !heard {
            wire.wait(LOOK)?;
        }
    }
    say(&json!({
        "calls": server.calls,
        "lines": server.lines,
        "mails": server.mails,
        "not_as_sent": server.not_as_sent,
        "closed": server.closed,
        "reset": server.reset,
        "frames": wire.report(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds, from a number on that no clock of microseconds has.
pub(crate) fn clock(since: Duration) -> u32 {
    1_000_000 + since.as_millis() as u32
}

/// What was heard, copies included.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// SYNs.
    pub(crate) calls: u64,
    pub(crate) lines: u64,
    pub(crate) mails: u64,
    pub(crate) not_as_sent: u64,
    /// FINs.
    pub(crate) closed: u64,
    reset: u64,
}

impl Server {
    pub(crate) fn answer(&mut self, heard: &Segment<'_>, clock: u32) -> Option<Segment<'static>> {
        let first = first_number(heard.from, heard.to);
        let says = |control, seq, payload| Segment {
            from: heard.to,
            to: heard.from,
            control,
            seq,
            ack: Some(heard.seq.wrapping_add(heard.length())),
            stamps: heard.stamps.map(|stamps| Stamps {
                own: clock,
                heard: stamps.own,
            }),
            payload,
        };
        let is_first = |ack| heard.payload.is_empty() && ack == first.wrapping_add(1);
        match (heard.control, heard.ack) {
            (TcpControl::Rst, _) => {
                self.reset += 1;
                None
            }
            (TcpControl::Syn, None) => {
                self.calls += 1;
                Some(says(TcpControl::Syn, first, b""))
            }
            (TcpControl::Syn, Some(_)) | (_, None) => None,
            (TcpControl::Fin, Some(ack)) => {
                self.closed += 1;
                Some(says(TcpControl::Fin, ack, b""))
            }
            // That behind the SYN-ACK...
            (TcpControl::None | TcpControl::Psh, Some(ack)) if is_first(ack) => {
                Some(says(TcpControl::Psh, ack, GREETING))
            }
            // ...or another one, which may ask whether anybody is there (RFC 9293, 3.8.4).
            (TcpControl::None | TcpControl::Psh, Some(ack)) if heard.payload.is_empty() => {
                Some(says(TcpControl::None, ack, b""))
            }
            (TcpControl::None | TcpControl::Psh, Some(ack)) => {
                Some(says(TcpControl::Psh, ack, self.reply(heard.payload)))
            }
        }
    }

    fn reply(&mut self, heard: &[u8]) -> &'static [u8] {
        let Some(line) = Line::heard(heard) else {
            self.not_as_sent += 1;
            return WHAT;
        };
        self.lines += 1;
        self.mails += u64::from(line == Line::Text);
        line.reply()
    }
}

/// The first sequence number of a server's connection: the same for the same ends, another one for
/// others.
fn first_number(client: SocketAddrV4, server: SocketAddrV4) -> u32 {
    let end = |end: SocketAddrV4| u64::from(u32::from(*end.ip())) << 16 | u64::from(end.port());
    let mixed = end(client).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ end(server);
    (mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

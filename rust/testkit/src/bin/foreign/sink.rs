//! Servers that take every mail.

use std::io;
use std::process::ExitCode;

use serde_json::json;
use sha2::{Digest, Sha256};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::args::{Habits, Place, SinkArgs};
use super::client::hex;
use super::say;
use super::stack::{self, Stack};

/// Takes sessions until it is ended from outside.
///
/// # Errors
/// What the kernel says of the interface.
pub(crate) fn run(place: &Place, args: &SinkArgs) -> io::Result<ExitCode> {
    let mut stack = Stack::new(place)?;
    let mut seats: Vec<Seat> = (0..args.places).map(|_| Seat::new(&mut stack)).collect();
    say(&json!({ "listening": args.port }))?;
    loop {
        stack.turn()?;
        for seat in &mut seats {
            let socket = stack.sockets.get_mut::<Socket>(seat.handle);
            seat.go_on(socket, args, &place.habits)?;
        }
    }
}

/// One session after the other.
struct Seat {
    handle: SocketHandle,
    session: Option<SinkSession>,
}

#[derive(Default)]
struct SinkSession {
    line: Vec<u8>,
    in_mail: bool,
    leaves: bool,
    owed: Vec<u8>,
    said: Sha256,
    heard: Sha256,
}

impl Seat {
    fn new(stack: &mut Stack) -> Self {
        let socket = stack.socket();
        Self {
            handle: stack.sockets.add(socket),
            session: None,
        }
    }

    fn go_on(
        &mut self,
        socket: &mut Socket<'static>,
        args: &SinkArgs,
        habits: &Habits,
    ) -> io::Result<()> {
        let has_peer = socket.may_send() || socket.may_recv();
        if let Some(session) = &mut self.session {
            session.go_on(socket, args);
            if matches!(
                socket.state(),
                State::Closed | State::TimeWait | State::Listen
            ) {
                say(&json!({ "said": hex(&session.said), "heard": hex(&session.heard) }))?;
                self.session = None;
                socket.abort();
            }
        } else if has_peer {
            self.session = Some(SinkSession {
                owed: b"220 foreign.test ESMTP\r\n".to_vec(),
                ..SinkSession::default()
            });
        } else if !socket.is_open() {
            *socket = stack::socket(habits);
            let listens = socket.listen(args.port);
            listens.map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        Ok(())
    }
}

impl SinkSession {
    fn go_on(&mut self, socket: &mut Socket<'_>, args: &SinkArgs) {
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            for byte in taken.unwrap_or_default() {
                self.hear(byte, args);
            }
        }
        let taken = socket.send_slice(&self.owed).unwrap_or(0);
        self.said.update(&self.owed[..taken]);
        self.owed.drain(..taken);
        let is_over = self.leaves || (socket.state() == State::CloseWait && !socket.may_recv());
        if is_over && self.owed.is_empty() {
            socket.close();
        }
    }

    fn hear(&mut self, byte: u8, args: &SinkArgs) {
        self.heard.update([byte]);
        self.line.push(byte);
        if byte != b'\n' {
            return;
        }
        let line = std::mem::take(&mut self.line);
        if self.in_mail {
            if line == b".\r\n" {
                self.in_mail = false;
                self.owed.extend(b"250 taken\r\n");
            }
            return;
        }
        match line.get(..4).unwrap_or_default() {
            b"DATA" => {
                self.in_mail = true;
                self.owed.extend(b"354 go\r\n");
            }
            b"QUIT" => {
                self.leaves = true;
                self.owed.extend(b"221 bye\r\n");
            }
            b"EHLO" => {
                let more = b"250-X-WORDS ";
                for _ in 0..args.reply / 62 {
                    self.owed.extend(more);
                    self.owed.extend([b'x'; 48]);
                    self.owed.extend(b"\r\n");
                }
                self.owed.extend(b"250 fine\r\n");
            }
            _ => self.owed.extend(b"250 fine\r\n"),
        }
    }
}

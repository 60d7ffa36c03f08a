//! Servers that take every mail.

use std::io;
use std::process::ExitCode;

use serde_json::json;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::args::{Habits, Place, SinkArgs};
use super::say;
use super::speech::{Speech, lines};
use super::stack::{self, Stack};

/// Takes sessions until it is ended from outside.
///
/// # Errors
/// What the kernel says of the interface.
pub(crate) fn run(place: &Place, args: &SinkArgs) -> io::Result<ExitCode> {
    let mut stack = Stack::new(place)?;
    let mut seats: Vec<Seat> = (0..args.places).map(|_| Seat::new(&mut stack)).collect();
    say(&json!({ "listening": args.port }))?;
    let mut had_sessions = false;
    loop {
        stack.turn()?;
        for seat in &mut seats {
            let socket = stack.sockets.get_mut::<Socket>(seat.handle);
            seat.go_on(socket, args, &place.habits)?;
        }
        let has_sessions = seats.iter().any(|seat| seat.session.is_some());
        if had_sessions && !has_sessions {
            say(&stack.wire_report())?;
        }
        had_sessions = has_sessions;
    }
}

/// One session after the other.
struct Seat {
    handle: SocketHandle,
    session: Option<SinkSession>,
}

#[derive(Default)]
struct SinkSession {
    in_mail: bool,
    leaves: bool,
    speech: Speech,
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
                let [said, heard] = session.speech.hashes();
                say(&json!({ "said": said, "heard": heard }))?;
                self.session = None;
                socket.abort();
            }
        } else if has_peer {
            let mut session = SinkSession::default();
            session.speech.say(b"220 foreign.test ESMTP\r\n");
            self.session = Some(session);
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
        for line in self.speech.read(socket) {
            self.hear(&line, args);
        }
        self.speech.write(socket);
        let is_over = self.leaves || (socket.state() == State::CloseWait && !socket.may_recv());
        if is_over && self.speech.is_silent() {
            socket.close();
        }
    }

    fn hear(&mut self, line: &[u8], args: &SinkArgs) {
        if self.in_mail {
            if line == b".\r\n" {
                self.in_mail = false;
                self.speech.say(b"250 taken\r\n");
            }
            return;
        }
        match line.get(..4).unwrap_or_default() {
            b"DATA" => {
                self.in_mail = true;
                self.speech.say(b"354 go\r\n");
            }
            b"QUIT" => {
                self.leaves = true;
                self.speech.say(b"221 bye\r\n");
            }
            b"EHLO" => {
                self.speech.say_all(lines(1, args.reply, "250-X-WORDS "));
                self.speech.say(b"250 fine\r\n");
            }
            _ => self.speech.say(b"250 fine\r\n"),
        }
    }
}

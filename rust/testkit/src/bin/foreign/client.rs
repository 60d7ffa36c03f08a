//! Sessions that send a mail each.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::args::{ClientArgs, Ending, Place};
use super::say;
use super::stack::Stack;

const FIRST_PORT: u16 = 20_000;

/// Runs all sessions to their ends.
///
/// # Errors
/// What the kernel says of the interface.
pub(crate) fn run(place: &Place, args: &ClientArgs) -> io::Result<ExitCode> {
    let mut stack = Stack::new(place)?;
    let mut sessions = vec![];
    for number in 0..args.sessions {
        let socket = stack.socket();
        let handle = stack.sockets.add(socket);
        let (interface, sockets) = stack.context();
        let socket = sockets.get_mut::<Socket>(handle);
        socket
            .connect(interface.context(), args.connect, FIRST_PORT + number)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        sessions.push(ClientSession::new(handle, number, args));
    }
    while sessions.iter().any(|session| session.outcome.is_none()) {
        stack.turn()?;
        for session in &mut sessions {
            session.go_on(stack.sockets.get_mut::<Socket>(session.handle), args);
        }
    }
    // What is still to be said: an end, or a reset.
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        stack.turn()?;
    }
    for session in &sessions {
        say(&session.report())?;
    }
    let is_fine = |session: &ClientSession| session.outcome == Some("fine");
    Ok(ExitCode::from(u8::from(!sessions.iter().all(is_fine))))
}

struct ClientSession {
    handle: SocketHandle,
    /// What it says, each behind a reply that begins so.
    script: Vec<(&'static str, Vec<u8>)>,
    step: usize,
    /// What it is about to say.
    owed: Vec<u8>,
    line: Vec<u8>,
    said: Sha256,
    heard: Sha256,
    until: Instant,
    pauses_until: Option<Instant>,
    outcome: Option<&'static str>,
}

impl ClientSession {
    fn new(handle: SocketHandle, number: u16, args: &ClientArgs) -> Self {
        let mut script = script(number, args);
        let owed = if args.early {
            std::mem::take(&mut script[0].1)
        } else {
            vec![]
        };
        Self {
            handle,
            script,
            step: 0,
            owed,
            line: vec![],
            said: Sha256::new(),
            heard: Sha256::new(),
            until: Instant::now() + Duration::from_secs(args.limit),
            pauses_until: None,
            outcome: None,
        }
    }

    fn go_on(&mut self, socket: &mut Socket<'_>, args: &ClientArgs) {
        if self.outcome.is_some() {
            return;
        }
        if Instant::now() >= self.until {
            self.outcome = Some("hangs");
            socket.abort();
            return;
        }
        self.read(socket, args);
        self.write(socket);
        if self.outcome.is_none() && self.is_done() && self.owed.is_empty() {
            self.end(socket, args.end);
        }
        // Its end stands behind QUIT already.
        let says_quit = args.end == Ending::Half && self.step + 1 == self.script.len();
        if says_quit && self.owed.is_empty() {
            socket.close();
        }
        if self.outcome.is_none() && socket.state() == State::Closed {
            self.outcome = Some("reset");
        }
    }

    fn read(&mut self, socket: &mut Socket<'_>, args: &ClientArgs) {
        let is_full = socket.recv_queue() == socket.recv_capacity();
        let pause = Duration::from_millis(args.pause);
        if is_full && !pause.is_zero() && self.pauses_until.is_none() {
            self.pauses_until = Some(Instant::now() + pause);
        }
        if self
            .pauses_until
            .is_some_and(|until| Instant::now() < until)
        {
            return;
        }
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            for byte in taken.unwrap_or_default() {
                self.hear(byte);
            }
        }
        // The server's end, whoever's was first.
        let is_over = matches!(
            socket.state(),
            State::CloseWait | State::Closing | State::TimeWait
        );
        if self.outcome.is_none() && is_over && !socket.can_recv() {
            self.outcome = Some(if self.is_done() { "fine" } else { "closed" });
            socket.close();
        }
    }

    fn hear(&mut self, byte: u8) {
        self.heard.update([byte]);
        self.line.push(byte);
        if byte != b'\n' {
            return;
        }
        let line = std::mem::take(&mut self.line);
        if line.get(3) == Some(&b'-') {
            return;
        }
        match self.script.get_mut(self.step) {
            Some((expected, words)) if line.starts_with(expected.as_bytes()) => {
                self.owed.append(words);
                self.step += 1;
            }
            _ => self.outcome = Some("otherwise"),
        }
    }

    fn write(&mut self, socket: &mut Socket<'_>) {
        let taken = socket.send_slice(&self.owed).unwrap_or(0);
        self.said.update(&self.owed[..taken]);
        self.owed.drain(..taken);
    }

    /// It has had all replies, and has nothing more to say.
    fn end(&mut self, socket: &mut Socket<'_>, end: Ending) {
        match end {
            // The server's end is waited for.
            Ending::Half => return,
            Ending::Close | Ending::Leave => socket.close(),
            Ending::Reset => socket.abort(),
            // Once it is heard.
            Ending::Cut if socket.send_queue() > 0 => return,
            Ending::Cut => socket.abort(),
        }
        self.outcome = Some("fine");
    }

    fn is_done(&self) -> bool {
        self.step == self.script.len()
    }

    fn report(&self) -> serde_json::Value {
        json!({
            "outcome": self.outcome,
            "said": hex(&self.said),
            "heard": hex(&self.heard),
        })
    }
}

pub(crate) fn hex(hash: &Sha256) -> String {
    let bytes = hash.clone().finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn script(number: u16, args: &ClientArgs) -> Vec<(&'static str, Vec<u8>)> {
    let mut mail = mail(number, args.size);
    if args.end == Ending::Cut {
        mail.truncate(mail.len() / 2);
    }
    let mut script = vec![
        ("220", b"EHLO foreign.test\r\n".to_vec()),
        ("250", b"MAIL FROM:<a@foreign.test>\r\n".to_vec()),
        ("250", b"RCPT TO:<b@server.test>\r\n".to_vec()),
        ("250", b"DATA\r\n".to_vec()),
        ("354", mail),
    ];
    match args.end {
        Ending::Cut => {}
        Ending::Leave => script.push(("250", vec![])),
        Ending::Close | Ending::Half | Ending::Reset => {
            script.push(("250", b"QUIT\r\n".to_vec()));
            script.push(("221", vec![]));
        }
    }
    if args.hasty {
        let all = script
            .iter_mut()
            .flat_map(|(_, words)| std::mem::take(words));
        script[0].1 = all.collect();
    }
    script
}

/// Another one for each session, with its dot.
fn mail(number: u16, size: usize) -> Vec<u8> {
    let mut mail = format!("Subject: {number}\r\n\r\n").into_bytes();
    let mut state = u32::from(number) + 1;
    while mail.len() < size {
        for _ in 0..60 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            mail.push(b'a' + (state >> 24) as u8 % 26);
        }
        mail.extend(b"\r\n");
    }
    mail.extend(b".\r\n");
    mail
}

//! Sessions that send mails.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::args::{ClientArgs, Ending, Place};
use super::say;
use super::speech::{Speech, Words, lines};
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
    let until = Instant::now() + Duration::from_millis(300 + 2 * place.habits.longest_delay());
    while Instant::now() < until {
        stack.turn()?;
    }
    for session in &sessions {
        say(&session.report())?;
    }
    say(&stack.wire_report())?;
    let is_fine = |session: &ClientSession| session.outcome == Some("fine");
    Ok(ExitCode::from(u8::from(!sessions.iter().all(is_fine))))
}

struct ClientSession {
    handle: SocketHandle,
    /// What it says yet, each behind a reply that begins so.
    script: VecDeque<(&'static str, Vec<Words>)>,
    speech: Speech,
    until: Instant,
    pauses_until: Option<Instant>,
    outcome: Option<&'static str>,
}

impl ClientSession {
    fn new(handle: SocketHandle, number: u16, args: &ClientArgs) -> Self {
        let mut session = Self {
            handle,
            script: script(number, args),
            speech: Speech::default(),
            until: Instant::now() + Duration::from_secs(args.limit),
            pauses_until: None,
            outcome: None,
        };
        if args.early
            && let Some((_, words)) = session.script.front_mut()
        {
            std::mem::take(words)
                .into_iter()
                .for_each(|words| session.speech.say_all(words));
        }
        session
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
        self.speech.write(socket);
        if self.outcome.is_none() && self.is_done() && self.speech.is_silent() {
            self.end(socket, args.end);
        }
        // Its end stands behind QUIT already.
        let says_quit = args.end == Ending::Half && self.script.len() == 1;
        if says_quit && self.speech.is_silent() {
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
        for line in self.speech.read(socket) {
            self.hear(&line);
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

    fn hear(&mut self, line: &[u8]) {
        if line.get(3) == Some(&b'-') {
            return;
        }
        match self.script.pop_front() {
            Some((expected, words)) if line.starts_with(expected.as_bytes()) => {
                words
                    .into_iter()
                    .for_each(|words| self.speech.say_all(words));
            }
            _ => self.outcome = Some("otherwise"),
        }
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
        self.script.is_empty()
    }

    fn report(&self) -> serde_json::Value {
        let [said, heard] = self.speech.hashes();
        json!({ "outcome": self.outcome, "said": said, "heard": heard })
    }
}

fn script(number: u16, args: &ClientArgs) -> VecDeque<(&'static str, Vec<Words>)> {
    let line = |words: &str| vec![once(words)];
    let mut script = VecDeque::from([("220", line("EHLO foreign.test\r\n"))]);
    for message in 0..args.messages {
        script.push_back(("250", line("MAIL FROM:<a@foreign.test>\r\n")));
        script.push_back(("250", line("RCPT TO:<b@server.test>\r\n")));
        script.push_back(("250", line("DATA\r\n")));
        script.push_back(("354", mail(number, message, args)));
    }
    match args.end {
        Ending::Cut => {}
        Ending::Leave => script.push_back(("250", vec![])),
        Ending::Close | Ending::Half | Ending::Reset => {
            script.push_back(("250", line("QUIT\r\n")));
            script.push_back(("221", vec![]));
        }
    }
    if args.hasty {
        let all = script
            .iter_mut()
            .flat_map(|(_, words)| std::mem::take(words));
        let all = all.collect();
        if let Some((_, words)) = script.front_mut() {
            *words = all;
        }
    }
    script
}

/// Another one for each session and message, with its dot; half of it where it is to be cut.
fn mail(number: u16, message: u16, args: &ClientArgs) -> Vec<Words> {
    let head = format!("Subject: {number}.{message}\r\n\r\n");
    let seed = u32::from(number) << 16 | u32::from(message);
    if args.end == Ending::Cut {
        return vec![once(&head), lines(seed, args.size / 2, "")];
    }
    vec![once(&head), lines(seed, args.size, ""), once(".\r\n")]
}

fn once(words: &str) -> Words {
    Box::new(std::iter::once(words.as_bytes().to_vec()))
}

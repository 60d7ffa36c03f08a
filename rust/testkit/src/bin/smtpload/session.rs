//! One session of the source, from connect to the server's end of stream.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailweir_testkit::message::Messages;
use mailweir_testkit::reply::{Reply, ReplyReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::record::Record;

const WRITE_SIZE: usize = 64 * 1024;
const MAIL: &str = "MAIL FROM:<source@load.test>\r\n";
const RCPT: &str = "RCPT TO:<sink@load.test>\r\n";
const DATA: &str = "DATA\r\n";

/// Where and how a session failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: &'static str,
    pub(crate) kind: &'static str,
}

/// What all sessions have in common.
pub(crate) struct Plan {
    pub(crate) connect: SocketAddr,
    pub(crate) messages: u32,
    pub(crate) content: Messages,
    pub(crate) pipelining: bool,
    pub(crate) think: Duration,
    pub(crate) timeout: Duration,
}

/// An open session.
struct Session<'a> {
    plan: &'a Plan,
    record: &'a Mutex<Record>,
    stream: TcpStream,
    replies: ReplyReader,
}

/// Runs one session called `name`, which makes its Message-IDs unique.
pub(crate) async fn run(
    plan: &Plan,
    record: &Mutex<Record>,
    source: Option<IpAddr>,
    name: &str,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let stream = limited(plan, "connect", connect(plan.connect, source)).await?;
    lock(record).connect.add(begun.elapsed());
    let mut session = Session {
        plan,
        record,
        stream,
        replies: ReplyReader::default(),
    };
    session.expect("greeting", 2).await?;
    lock(record).greeting.add(begun.elapsed());
    session.command("ehlo", "EHLO load.test\r\n", 2).await?;
    for number in 0..plan.messages {
        if number > 0 && !plan.think.is_zero() {
            tokio::time::sleep(plan.think).await;
        }
        session.message(name, number).await?;
    }
    session.command("quit", "QUIT\r\n", 2).await?;
    session.read_end().await?;
    lock(record).session.add(begun.elapsed());
    Ok(())
}

async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

impl Session<'_> {
    async fn message(&mut self, name: &str, number: u32) -> Result<(), Failure> {
        let begun = Instant::now();
        if self.plan.pipelining {
            self.envelope_in_one().await?;
        } else {
            self.command("mail", MAIL, 2).await?;
            self.command("rcpt", RCPT, 2).await?;
            self.command("data", DATA, 3).await?;
        }
        self.send_content(name, number).await?;
        lock(self.record).messages.sent += 1;
        let answer = self.read_reply("dot").await;
        let mut record = lock(self.record);
        match &answer {
            Ok(reply) if reply.code / 100 == 2 => record.messages.acknowledged += 1,
            Ok(_) => record.messages.refused += 1,
            Err(_) => record.messages.unknown += 1,
        }
        check("dot", &answer?, 2)?;
        record.message.add(begun.elapsed());
        Ok(())
    }

    async fn envelope_in_one(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        self.write("mail", [MAIL, RCPT, DATA].concat().as_bytes())
            .await?;
        self.expect("mail", 2).await?;
        self.expect("rcpt", 2).await?;
        self.expect("data", 3).await?;
        lock(self.record).round_trip.add(begun.elapsed());
        Ok(())
    }

    /// Small messages go in one write, large ones in writes of `WRITE_SIZE`.
    async fn send_content(&mut self, name: &str, number: u32) -> Result<(), Failure> {
        let body = self.plan.content.body();
        let mut first = self.plan.content.head(name, number.into());
        let with_head = body.len().min(WRITE_SIZE.saturating_sub(first.len()));
        first.extend_from_slice(&body[..with_head]);
        self.write("content", &first).await?;
        for piece in body[with_head..].chunks(WRITE_SIZE) {
            self.write("content", piece).await?;
        }
        Ok(())
    }

    async fn command(
        &mut self,
        stage: &'static str,
        line: &str,
        class: u16,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        self.write(stage, line.as_bytes()).await?;
        self.expect(stage, class).await?;
        lock(self.record).round_trip.add(begun.elapsed());
        Ok(())
    }

    async fn write(&mut self, stage: &'static str, bytes: &[u8]) -> Result<(), Failure> {
        limited(self.plan, stage, self.stream.write_all(bytes)).await
    }

    async fn read_reply(&mut self, stage: &'static str) -> Result<Reply, Failure> {
        limited(self.plan, stage, self.replies.read(&mut self.stream)).await
    }

    async fn expect(&mut self, stage: &'static str, class: u16) -> Result<(), Failure> {
        let reply = self.read_reply(stage).await?;
        check(stage, &reply, class)
    }

    async fn read_end(&mut self) -> Result<(), Failure> {
        let surplus = limited(self.plan, "close", self.stream.read(&mut [0; 64])).await?;
        if surplus == 0 && self.replies.surplus().is_empty() {
            Ok(())
        } else {
            Err(Failure {
                stage: "close",
                kind: "surplus",
            })
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bounds a step by the time-out and names what went wrong.
async fn limited<T>(
    plan: &Plan,
    stage: &'static str,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(plan.timeout, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure {
            stage,
            kind: kind_of(&error),
        }),
        Err(_) => Err(Failure {
            stage,
            kind: "timeout",
        }),
    }
}

fn kind_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::UnexpectedEof => "eof",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::InvalidData => "nonsense",
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => "no_local_port",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        _ => "other",
    }
}

fn check(stage: &'static str, reply: &Reply, class: u16) -> Result<(), Failure> {
    let kind = match reply.code {
        code if code / 100 == class => return Ok(()),
        421 => "421",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "nonsense",
    };
    Err(Failure { stage, kind })
}

//! The sink: listens, speaks SMTP, throws messages away, counts.
//!
//! Each thread is a runtime of its own with its own listening sockets. Idle sessions own no
//! read buffer: a thread reads all its sessions through one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, ready};
use std::time::Duration;

use mailweir_testkit::proxy::{self, Parsed};
use mailweir_testkit::smtp::ServerSession;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::SinkArgs;
use crate::tally::Tally;

const READ_SIZE: usize = 64 * 1024;
const BACKLOG: i32 = 65_535;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// What every connection needs to know.
struct Sink {
    tally: Tally,
    name: Arc<str>,
    accept_proxy: Option<proxy::Accept>,
    greeting_delay: Duration,
    dot_delay: Duration,
    refuse_every: Option<u64>,
    /// Connections, for that.
    begun: AtomicU64,
    hash: bool,
}

impl Sink {
    /// Whether it is this connection's turn to be refused.
    fn refuses(&self) -> bool {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        self.refuse_every
            .is_some_and(|every| number.is_multiple_of(every))
    }
}

/// Serves until a signal comes, then reports.
pub(crate) fn run(args: &SinkArgs, json: bool) -> io::Result<ExitCode> {
    let (addresses, sockets) = bind_all(args)?;
    let sink = Arc::new(Sink {
        tally: Tally::new(&addresses, args.proxy.accept().is_some(), args.hash),
        name: args.name.as_str().into(),
        accept_proxy: args.proxy.accept(),
        greeting_delay: args.greeting_delay,
        dot_delay: args.dot_delay,
        refuse_every: args.refuse_every,
        begun: AtomicU64::new(0),
        hash: args.hash,
    });
    for thread_sockets in sockets {
        let sink = Arc::clone(&sink);
        let runtime = runtime()?;
        std::thread::spawn(move || {
            let result = runtime.block_on(accept_all(thread_sockets, sink));
            result.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        });
    }
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        say(&serde_json::json!({ "listening": addresses }).to_string())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        io::Result::Ok(())
    })?;
    let report = sink.tally.report();
    say(&if json {
        serde_json::to_string(&report)?
    } else {
        report.text()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The bound addresses, and for each thread one socket per address.
fn bind_all(args: &SinkArgs) -> io::Result<(Vec<SocketAddr>, Vec<Vec<StdListener>>)> {
    let mut addresses = args.listen.clone();
    let mut threads = Vec::new();
    for _ in 0..args.threads {
        let mut sockets = Vec::new();
        for address in &mut addresses {
            let socket = bind(*address, args.threads > 1)
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            // A port 0 is settled by the first thread.
            *address = socket.local_addr()?;
            sockets.push(socket);
        }
        threads.push(sockets);
    }
    Ok((addresses, threads))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Only where needed: it would let two sinks share a port without a word.
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept_all(sockets: Vec<StdListener>, sink: Arc<Sink>) -> io::Result<()> {
    let mut loops = tokio::task::JoinSet::new();
    for (listener, socket) in sockets.into_iter().enumerate() {
        let socket = TcpListener::from_std(socket)?;
        loops.spawn(accept(socket, listener, Arc::clone(&sink)));
    }
    loops.join_all().await;
    Ok(())
}

async fn accept(socket: TcpListener, listener: usize, sink: Arc<Sink>) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, listener, Arc::clone(&sink)));
            }
            Err(error) => {
                // Out of descriptors, most likely; a pause keeps the loop from spinning.
                eprintln!("smtpload: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, listener: usize, sink: Arc<Sink>) {
    let counts = sink.tally.counts(listener);
    counts.connections.fetch_add(1, Relaxed);
    // A reset ends a session as lost, like an end of stream without QUIT.
    let quit = converse(&mut stream, listener, &sink)
        .await
        .unwrap_or(false);
    let end = if quit { &counts.quit } else { &counts.lost };
    end.fetch_add(1, Relaxed);
}

/// Speaks SMTP to the end; true if the client said QUIT.
async fn converse(stream: &mut TcpStream, listener: usize, sink: &Sink) -> io::Result<bool> {
    let mut session = ServerSession::new(Arc::clone(&sink.name), sink.hash);
    let mut early = Vec::new();
    if let Some(accept) = sink.accept_proxy {
        match read_proxy_header(stream, accept, sink).await? {
            Some(rest) => early = rest,
            None => return Ok(false),
        }
    }
    if !sink.greeting_delay.is_zero() {
        tokio::time::sleep(sink.greeting_delay).await;
    }
    if sink.refuses() {
        stream.write_all(b"554 5.7.1 sink: refused\r\n").await?;
        return Ok(false);
    }
    session.greet();
    session.feed(&early);
    loop {
        let received = session.take_received();
        if !received.is_empty() {
            sink.tally.received(listener, received);
            if !sink.dot_delay.is_zero() {
                tokio::time::sleep(sink.dot_delay).await;
            }
        }
        if !session.replies().is_empty() {
            stream.write_all(session.replies()).await?;
            session.replies().clear();
        }
        if session.has_quit() {
            return Ok(true);
        }
        if read(stream, |bytes| session.feed(bytes)).await? == 0 {
            return Ok(false);
        }
    }
}

/// Reads the header and returns what came after it, or `None` if there was no valid header.
async fn read_proxy_header(
    stream: &mut TcpStream,
    accept: proxy::Accept,
    sink: &Sink,
) -> io::Result<Option<Vec<u8>>> {
    let mut start = Vec::new();
    loop {
        let ended = read(stream, |bytes| start.extend_from_slice(bytes)).await? == 0;
        match proxy::parse(&start, accept) {
            Parsed::Complete(header, length) => {
                sink.tally
                    .proxy_header(header.addresses.map(|(source, _)| source.ip()));
                return Ok(Some(start.split_off(length)));
            }
            Parsed::Incomplete if !ended => {}
            Parsed::Incomplete | Parsed::Invalid(_) => {
                sink.tally.proxy_error();
                return Ok(None);
            }
        }
    }
}

/// Reads once, through the thread's buffer, and passes on what came.
async fn read(stream: &mut TcpStream, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|cx| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            take(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

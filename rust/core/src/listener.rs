//! Listening sockets: binding them, accepting, and leaving without losing who is in the queue.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::session::{self, Commons};
use crate::snapshot::{BindKey, Snapshot};
use crate::sys;

/// As much as the kernel allows by default (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// What the kernel is asked to hold of a client's data to begin with (it doubles that, for its
/// own overhead, and sizes it by itself afterwards). Its default of 64 KiB makes a large
/// message come in pieces, each with a wake-up: a fifth of what it costs. More doesn't help.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// While descriptors or memory are short. Trying again at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);
/// A leaving listener's queue counts as empty once nobody came for this long: longer than
/// most handshakes that had begun take to complete.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that leaving takes.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Binds one socket per worker to `address` and returns them, listening. A port 0 is chosen
/// once, for all.
///
/// `shared` says that this process listens there already, at another listener or at an
/// overlapping address; otherwise the address must be nobody's.
///
/// # Errors
/// What the kernel says; then nothing stays bound.
pub(crate) fn bind(
    address: SocketAddr,
    workers: usize,
    shared: bool,
) -> io::Result<Vec<StdListener>> {
    if !shared && address.port() != 0 {
        // SO_REUSEPORT alone would share the port with another process without a word.
        bind_one(address, false)?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = bind_one(address, true)?;
        let bound = socket.local_addr()?.as_socket();
        address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(StdListener::from).collect())
}

fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    // An address that isn't ours yet can be bound: a passive node is ready for its takeover.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    // Accepted sockets inherit what follows.
    socket.set_tcp_nodelay(true)?;
    // Where the kernel can't unlock the size again, its own is better: one that stays.
    if sys::unlock_buffers(&socket).is_ok() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        sys::unlock_buffers(&socket)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Accepts at one socket, and serves whom it accepts, until `leave` says to stop.
pub(crate) async fn accept(
    socket: TcpListener,
    key: BindKey,
    current: Arc<ArcSwap<Snapshot>>,
    commons: Arc<Commons>,
    mut leave: oneshot::Receiver<()>,
) {
    let mut current = Cache::new(current);
    let mut door = Door {
        snapshot: Arc::clone(current.load()),
        key,
        commons,
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut leave => break,
            accepted = socket.accept() => accepted,
        };
        door.look(current.load());
        match accepted {
            Ok((client, _)) => door.let_in(client),
            Err(error) if is_shortage(&error) => {
                door.count_pause();
                sleep(PAUSE).await;
            }
            // The client's connection broke before it was accepted.
            Err(_) => {}
        }
    }
    empty_queue(&socket, &door).await;
}

/// Where clients come in: they get the newest snapshot that has this address.
struct Door {
    snapshot: Arc<Snapshot>,
    key: BindKey,
    commons: Arc<Commons>,
}

impl Door {
    /// Takes a newer snapshot, unless the address is gone from it: who is still in the queue
    /// then gets the last one that had it.
    fn look(&mut self, newest: &Arc<Snapshot>) {
        let newer = newest.generation != self.snapshot.generation;
        if newer && newest.listener_at(&self.key).is_some() {
            self.snapshot = Arc::clone(newest);
        }
    }

    fn let_in(&self, client: TcpStream) {
        // The first command is acknowledged with its reply, not by a segment of its own. The
        // kernel does so by itself from the second one on. Refused: as it was.
        let _ = client.set_quickack(false);
        let Some(listener) = self.snapshot.listener_at(&self.key) else {
            debug_assert!(false, "bound before any snapshot had the address");
            return;
        };
        let snapshot = Arc::clone(&self.snapshot);
        let commons = Arc::clone(&self.commons);
        tokio::spawn(session::serve(client, snapshot, listener, commons));
    }

    fn count_pause(&self) {
        if let Some(index) = self.snapshot.listener_at(&self.key) {
            let listener = &self.snapshot.listeners[index];
            let counters = listener.counters.of(self.commons.worker);
            counters.accept_pauses.add(1);
        }
    }
}

/// Takes no new handshakes, then accepts everybody who is in the queue or about to be.
async fn empty_queue(socket: &TcpListener, door: &Door) {
    // Fails where filters are forbidden: then the queue is emptied as far as it goes.
    let _ = SockRef::from(socket).attach_filter(&NO_SYN);
    let until = Instant::now() + LEAVE_LIMIT;
    while let Ok(Ok(accepted)) = timeout_at(until, timeout(QUIET, socket.accept())).await {
        match accepted {
            Ok((client, _)) => door.let_in(client),
            Err(error) if is_shortage(&error) => sleep(PAUSE).await,
            Err(_) => {}
        }
    }
}

/// Drops segments with SYN set, by the flags at offset 13 of the TCP header. Handshakes that
/// have begun complete; a client that begins one repeats its SYN, and finds nobody then.
const NO_SYN: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, 13),       // ldb [13]
    SockFilter::new(0x45, 0, 1, 0x02),     // jset #SYN, next, +1
    SockFilter::new(0x06, 0, 0, 0),        // ret #0: drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // ret #-1: take
];

/// Whether accepting again at once would fail again: no descriptor or memory is left.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

//! Listening sockets: binding them, accepting, and leaving without losing who is in the queue.

mod shortage;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client::Client;
use crate::farewell;
use crate::kernel_path;
use crate::record::{End, EndReason, Record};
use crate::session::{self, Commons};
use crate::smtp::words;
use crate::snapshot::{BindKey, Snapshot};
use crate::spec;
use crate::sys;

use shortage::{PAUSE, Shortage, is_shortage};

/// As much as the kernel allows by default (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// What the kernel is asked to hold of a client's data to begin with (it doubles that, for its
/// own overhead, and sizes it by itself afterwards). Its default of 64 KiB makes a large
/// message come in pieces, each with a wake-up: a fifth of what it costs. More doesn't help.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// A leaving listener's queue counts as empty once nobody came for this long: longer than
/// most handshakes that had begun take to complete.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that leaving takes.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// What becomes of those in a socket's queue when a process leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// They are served, and nobody listens there afterwards.
    ForGood,
    /// They wait, as do those who come later: the next process has the socket as well.
    ToSuccessor,
}

/// Binds one socket per worker to `address` and returns them, listening. A port 0 is chosen
/// once, for all. With `kept`, sockets that an earlier process had there, these are the first
/// ones, all of them: there may be more than workers.
///
/// `shared` says that this process listens there already, at another listener or at an
/// overlapping address; otherwise the address must be nobody's. With `scale` its clients may take
/// the kernel path ([`kernel_path::prepare_listener`]).
///
/// # Errors
/// What the kernel says; then nothing new stays bound.
pub(crate) fn bind(
    address: SocketAddr,
    workers: usize,
    shared: bool,
    kept: Vec<StdListener>,
    scale: Option<u8>,
) -> io::Result<Vec<StdListener>> {
    if !shared && kept.is_empty() && address.port() != 0 {
        // SO_REUSEPORT alone would share the port with another process without a word.
        bind_one(address, false)?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for socket in kept {
        let socket = Socket::from(socket);
        // Of a process that died while it left: there is none otherwise.
        let _ = socket.detach_filter();
        configure(&socket)?;
        sockets.push(socket);
    }
    while sockets.len() < workers {
        let socket = bind_one(address, true)?;
        let bound = socket.local_addr()?.as_socket();
        address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        sockets.push(socket);
    }
    for socket in &sockets {
        listen(socket, address, scale)?;
    }
    Ok(sockets.into_iter().map(StdListener::from).collect())
}

/// Binds one more socket to an address that this process has already, listening.
///
/// # Errors
/// What the kernel says.
pub(crate) fn bind_another(address: SocketAddr, scale: Option<u8>) -> io::Result<StdListener> {
    let socket = bind_one(address, true)?;
    listen(&socket, address, scale)?;
    Ok(socket.into())
}

/// Who comes from now on finds everything set.
fn listen(socket: &Socket, address: SocketAddr, scale: Option<u8>) -> io::Result<()> {
    // Where it is refused, its clients take the relay, which is counted.
    let _ = kernel_path::prepare_listener(socket, address, scale);
    socket.listen(BACKLOG)?;
    let _ = kernel_path::prepare_acknowledgements(socket, address, scale);
    Ok(())
}

/// Takes a listening socket, by a second descriptor, out of its group: who is in its queue is
/// returned, whoever comes later goes to the others. Waits a moment for handshakes.
///
/// For a socket whose worker doesn't accept: its own accept loop ends by this as well.
pub(crate) fn take_over(socket: &StdListener) -> Vec<Client> {
    let mut queued = vec![];
    // Refused where filters are forbidden: then handshakes that begin now are lost.
    let _ = SockRef::from(socket).attach_filter(&NO_SYN);
    let until = std::time::Instant::now() + QUIET;
    while std::time::Instant::now() < until {
        match accept_one(socket) {
            Ok(client) => queued.push(client),
            // None now, or no descriptor for it: another session may end meanwhile.
            Err(_) => std::thread::sleep(QUIET / 10),
        }
    }
    shut(socket);
    queued
}

/// Nobody listens at this socket any more, whoever has other descriptors of it.
pub(crate) fn shut(socket: &StdListener) {
    // It can only have been closed already.
    let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Read);
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
    configure(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Sets what accepted sockets inherit.
fn configure(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Where the kernel can't unlock the size again, its own is better: one that stays.
    if sys::unlock_buffers(socket).is_ok() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        sys::unlock_buffers(socket)?;
    }
    Ok(())
}

/// Accepts at one socket, and serves whom it accepts, until `leave` says to stop.
pub(crate) async fn accept(
    socket: AsyncFd<StdListener>,
    key: BindKey,
    current: Arc<ArcSwap<Snapshot>>,
    commons: Arc<Commons>,
    mut leave: oneshot::Receiver<Parting>,
) {
    let mut current = Cache::new(current);
    let mut door = Door::new(Arc::clone(current.load()), key, commons);
    let mut shortage = Shortage::new();
    let parting = loop {
        let accepted = tokio::select! {
            biased;
            parting = &mut leave => break parting,
            accepted = next_client(&socket) => accepted,
        };
        door.look(current.load());
        match accepted {
            Ok(client) => {
                shortage.is_over();
                door.let_in(client);
            }
            Err(error) if is_shortage(&error) => {
                door.count_pause();
                if shortage.is_long(std::time::Instant::now()) {
                    let accept = || accept_one(socket.get_ref());
                    Shortage::shed(accept, |client| door.turn_away(client));
                }
                sleep(PAUSE).await;
            }
            // The socket was taken over.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            // The client's connection broke before it was accepted.
            Err(_) => {}
        }
    };
    if parting == Ok(Parting::ForGood) {
        empty_queue(&socket, &door).await;
    }
}

async fn next_client(socket: &AsyncFd<StdListener>) -> io::Result<Client> {
    socket.async_io(Interest::READABLE, accept_one).await
}

/// Who waits longest, if anybody does.
fn accept_one(socket: &StdListener) -> io::Result<Client> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (client, address) = acceptfrom_with(socket, flags)?;
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Client::new(client.into(), address.try_into()?))
}

/// Where clients come in: they get the newest snapshot that has this address.
pub(crate) struct Door {
    snapshot: Arc<Snapshot>,
    key: BindKey,
    commons: Arc<Commons>,
}

impl Door {
    pub(crate) fn new(snapshot: Arc<Snapshot>, key: BindKey, commons: Arc<Commons>) -> Self {
        Self {
            snapshot,
            key,
            commons,
        }
    }

    /// Takes a newer snapshot, unless the address is gone from it: who is still in the queue
    /// then gets the last one that had it.
    fn look(&mut self, newest: &Arc<Snapshot>) {
        let newer = newest.generation != self.snapshot.generation;
        if newer && newest.listener_at(&self.key).is_some() {
            self.snapshot = Arc::clone(newest);
        }
    }

    pub(crate) fn let_in(&self, client: Client) {
        let Some(listener) = self.snapshot.listener_at(&self.key) else {
            // It left between being taken out of a queue and this.
            return;
        };
        let snapshot = Arc::clone(&self.snapshot);
        let commons = Arc::clone(&self.commons);
        tokio::spawn(Box::pin(session::serve(
            client, snapshot, listener, commons,
        )));
    }

    /// For want of descriptors: a session of its own would need more of them.
    fn turn_away(&self, client: Client) {
        let Some(listener) = self.snapshot.listener_at(&self.key) else {
            return;
        };
        let listener = &self.snapshot.listeners[listener];
        let pool = &listener.pool.name;
        let waker = std::task::Waker::noop().clone();
        let record = Record::open(
            &self.commons.ledger,
            &listener.state,
            pool,
            client.address,
            waker,
        );
        let reason = EndReason::OutOfDescriptors;
        let line = match listener.protocol {
            spec::Protocol::Smtp => {
                words::last_word(&self.snapshot.hostname, reason, listener.deny_code)
            }
            spec::Protocol::Smtps | spec::Protocol::Tcp => String::new(),
        };
        if let Ok(client) = client.into_socket() {
            farewell::hurry_away(client, line.as_bytes());
        }
        record.close(End::ours(reason));
    }

    fn count_pause(&self) {
        if let Some(index) = self.snapshot.listener_at(&self.key) {
            let listener = &self.snapshot.listeners[index];
            let counters = listener.state.counters.of(self.commons.ledger.worker);
            counters.accept_pauses.add(1);
        }
    }
}

/// Takes no new handshakes, then accepts everybody who is in the queue or about to be.
async fn empty_queue(socket: &AsyncFd<StdListener>, door: &Door) {
    // Fails where filters are forbidden: then the queue is emptied as far as it goes.
    let _ = SockRef::from(socket).attach_filter(&NO_SYN);
    let until = Instant::now() + LEAVE_LIMIT;
    while let Ok(Ok(accepted)) = timeout_at(until, timeout(QUIET, next_client(socket))).await {
        match accepted {
            Ok(client) => door.let_in(client),
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// linux/tcp.h; the libc crate lacks it.
    const TCP_SAVED_SYN: i32 = 28;

    /// Bytes that are kept of the client's SYN, and the window scale that it was announced.
    fn meets(socket: &StdListener) -> (usize, u8) {
        let client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        let (accepted, _) = socket.accept().unwrap();
        let mut info = [0; 8];
        sys::option(&client, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
        let kept = sys::option(&accepted, libc::IPPROTO_TCP, TCP_SAVED_SYN, &mut [0; 128]);
        (kept.unwrap(), info[6] & 15)
    }

    #[test]
    fn sockets_that_listen_keep_what_the_kernel_path_needs() {
        let address = "127.0.0.1:0".parse().unwrap();
        let first = bind(address, 1, false, vec![], Some(5)).unwrap().remove(0);
        let address = first.local_addr().unwrap();
        assert!(matches!(meets(&first), (40.., 5)));
        // One that an earlier process had, which knew nothing of that.
        let kept = bind(address, 1, true, vec![], None).unwrap().remove(0);
        drop(first);
        assert!(matches!(meets(&kept), (0, _)));
        let kept = bind(address, 1, true, vec![kept], Some(4))
            .unwrap()
            .remove(0);
        assert!(matches!(meets(&kept), (40.., 4)));
        // One that a worker gets again.
        let another = bind_another(address, Some(3)).unwrap();
        drop(kept);
        assert!(matches!(meets(&another), (40.., 3)));
        kernel_path::prepare_listener(&another, address, Some(6)).unwrap();
        assert!(matches!(meets(&another), (40.., 6)));
    }

    #[test]
    fn a_client_of_the_relay_has_its_first_command_acknowledged_with_the_reply() {
        let at_once = |socket: &StdListener| -> i32 {
            socket.set_nonblocking(false).unwrap();
            let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
            let (accepted, _) = socket.accept().unwrap();
            let mut said = [0; 4];
            sys::option(&accepted, libc::IPPROTO_TCP, libc::TCP_QUICKACK, &mut said).unwrap();
            i32::from_ne_bytes(said)
        };
        for (scale, other) in [(None, Some(5)), (Some(5), None)] {
            let any = "127.0.0.1:0".parse().unwrap();
            let mut socket = bind(any, 1, false, vec![], scale).unwrap().remove(0);
            let address = socket.local_addr().unwrap();
            assert_eq!(at_once(&socket), i32::from(scale.is_some()));
            for scale in [other, scale] {
                kernel_path::prepare_listener(&socket, address, scale).unwrap();
                assert_eq!(at_once(&socket), i32::from(scale.is_some()));
            }
            // Of an earlier process: it listens already.
            socket = bind(address, 1, true, vec![socket], other)
                .unwrap()
                .remove(0);
            assert_eq!(at_once(&socket), i32::from(other.is_some()));
        }
    }
}

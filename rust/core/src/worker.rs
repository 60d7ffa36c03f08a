//! One thread with one runtime: its own listening sockets, its own sessions, its own pipes.
//!
//! A worker shares nothing with others but the snapshot and what that leads to. It never
//! takes Python's lock.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fail::fail_point;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle as TaskHandle;
use tokio::time::sleep;

use crate::client::Client;
use crate::listener::{self, Door, Parting};
use crate::seek;
use crate::session::Commons;
use crate::snapshot::{BindKey, Snapshot};
use crate::sys;

/// How often a worker shows that it moves. Less than any time-out that a session begins with.
pub(crate) const TICK: Duration = Duration::from_millis(500);
const _: () = assert!(TICK.as_millis() < seek::WATCHED_AFTER.as_millis());

/// What a worker can be told.
enum Order {
    /// Accept at these sockets, which listen already.
    Listen(Vec<(BindKey, AsyncFd<StdListener>)>),
    /// Stop accepting there; then say so.
    Leave(Vec<BindKey>, Parting, std_mpsc::Sender<()>),
    /// Serve these clients, who came to the address while another worker was stuck.
    Serve(BindKey, Vec<Client>),
    /// End every session and the thread.
    Stop,
}

/// A worker thread, as its owner sees it. Dropping it doesn't stop it: see [`Worker::stop`].
#[derive(Debug)]
pub(crate) struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    runtime: Handle,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread or no descriptors left.
    pub(crate) fn start(current: Arc<ArcSwap<Snapshot>>, commons: Commons) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (orders, received) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name(format!("mailweir-w{}", commons.ledger.worker.index()))
            .spawn(move || {
                sys::block_signals();
                runtime.block_on(obey(received, current, Arc::new(commons)));
            })?;
        Ok(Self {
            orders,
            runtime: handle,
            thread,
        })
    }

    /// Makes a listening socket one of this worker's; nothing is accepted there yet.
    ///
    /// # Errors
    /// What the reactor says.
    pub(crate) fn adopt(&self, socket: StdListener) -> io::Result<AsyncFd<StdListener>> {
        let _inside = self.runtime.enter();
        sys::watch(socket)
    }

    /// Accepts at these sockets, which were adopted, from now on.
    pub(crate) fn listen(&self, sockets: Vec<(BindKey, AsyncFd<StdListener>)>) {
        self.tell(Order::Listen(sockets));
    }

    /// Leaves these addresses; `done` hears of it once it has.
    pub(crate) fn leave(&self, keys: Vec<BindKey>, parting: Parting, done: std_mpsc::Sender<()>) {
        self.tell(Order::Leave(keys, parting, done));
    }

    /// Serves clients that another worker was too stuck to accept.
    pub(crate) fn serve(&self, key: BindKey, clients: Vec<Client>) {
        self.tell(Order::Serve(key, clients));
    }

    /// Ends every session, then the thread; waits for it.
    pub(crate) fn stop(self) {
        self.tell(Order::Stop);
        // Sessions' panics stay in their tasks. One of the worker's own was printed already,
        // and its thread has ended, which is what is asked for here.
        let _ = self.thread.join();
    }

    fn tell(&self, order: Order) {
        // Nobody listens only where the thread died by a panic: then nothing can be told.
        let _ = self.orders.send(order);
    }
}

/// The accept loop at one address.
struct Accepting {
    leave: oneshot::Sender<Parting>,
    ended: TaskHandle<()>,
}

async fn obey(
    mut orders: mpsc::UnboundedReceiver<Order>,
    current: Arc<ArcSwap<Snapshot>>,
    commons: Arc<Commons>,
) {
    tokio::spawn(tick(Arc::clone(&commons)));
    let mut accepting: HashMap<BindKey, Accepting> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Listen(sockets) => {
                for (key, socket) in sockets {
                    accepting.insert(key, begin(socket, key, &current, &commons));
                }
            }
            Order::Leave(keys, parting, done) => {
                let leaving = keys.iter().filter_map(|key| accepting.remove(key));
                tokio::spawn(leave(leaving.collect(), parting, done));
            }
            Order::Serve(key, clients) => {
                let door = Door::new(current.load_full(), key, Arc::clone(&commons));
                for client in clients {
                    door.let_in(client);
                }
            }
            Order::Stop => return,
        }
    }
}

/// Shows that the worker moves.
///
/// It is also a timer that is always due soon. Without it a session's first one would be the
/// next of all, and tokio would tell the reactor so by a write to an eventfd: 2 % of a short
/// session.
async fn tick(commons: Arc<Commons>) {
    let ledger = &commons.ledger;
    loop {
        ledger.counters.of(ledger.worker).moved.set(Instant::now());
        fail_point!("worker_tick");
        sleep(TICK).await;
    }
}

fn begin(
    socket: AsyncFd<StdListener>,
    key: BindKey,
    current: &Arc<ArcSwap<Snapshot>>,
    commons: &Arc<Commons>,
) -> Accepting {
    let (leave, left) = oneshot::channel();
    let accept = listener::accept(socket, key, Arc::clone(current), Arc::clone(commons), left);
    Accepting {
        leave,
        ended: tokio::spawn(accept),
    }
}

async fn leave(leaving: Vec<Accepting>, parting: Parting, done: std_mpsc::Sender<()>) {
    let mut ends = Vec::new();
    for Accepting { leave, ended } in leaving {
        // It has ended already where nobody hears this.
        let _ = leave.send(parting);
        ends.push(ended);
    }
    for ended in ends {
        let _ = ended.await;
    }
    // The asker may have gone.
    let _ = done.send(());
}

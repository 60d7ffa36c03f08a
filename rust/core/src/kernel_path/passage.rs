//! A session that may take the kernel path, before its hand-over: its place in the program's
//! tables, and a source port of our own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Instant;

use fail::fail_point;
use mailweir_flow::{Flow, Key, Place, State, TableError, Without};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::Client;
use crate::metrics::WorkerId;
use crate::snapshot::Member;
use crate::sys;

use super::carried::Carried;
use super::flows::Arrival;
use super::gates::MappedGate;
use super::leg::{self, Syn};
use super::prepare;
use super::refusal::Refusal;
use super::{KernelPath, SharedPath};

/// Ports that are tried before it is taken that none can be had.
const TRIES: usize = 16;

/// A client as the hand-over needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// The interface that it came in by.
    pub(super) interface: u32,
    pub(super) syn: Syn,
}

impl KernelPath {
    /// Looks at a client that was just accepted, once.
    ///
    /// # Errors
    /// Why it takes the relay.
    pub(crate) fn guest(&self, client: &Client) -> Result<Guest, Refusal> {
        if client.address.is_ipv6() {
            return Err(Refusal::Ipv6);
        }
        let interface = leg::interface(client).ok_or(Refusal::Interface)?;
        if !self.interfaces.has(interface) {
            return Err(Refusal::Interface);
        }
        let syn = Syn::of(client)?;
        if !self.seen.has(&syn) {
            return Err(Refusal::Unseen);
        }
        syn.check()?;
        Ok(Guest { interface, syn })
    }
}

/// A place on the kernel path before the hand-over. Dropped, it is somebody else's.
#[derive(Debug)]
pub(crate) struct Passage {
    path: SharedPath,
    worker: WorkerId,
    pub(super) number: u32,
    /// By which segments of client and server find it.
    pub(super) keys: [Key; 2],
    /// How many of both lead to it.
    placed: u8,
    /// The largest segment that the client takes, options included.
    pub(super) client_mss: u16,
    /// The interface that the client came in by.
    pub(super) came_by: u32,
    /// How often routes may have changed before; the lower half of that tells.
    changes: u32,
    /// The port that the server knows is its own.
    has_port: bool,
    /// It is a flow: the sweeper has it.
    is_kept: bool,
}

/// A source port of our own that a session has which takes the relay. Dropped, it is free: not
/// before the socket that has it is closed.
#[derive(Debug)]
pub(crate) struct Port {
    path: SharedPath,
    /// What the server says to it.
    key: Key,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.path.give_port(self.key);
    }
}

impl Passage {
    /// A place for a session of this client with this server, and the socket to dial with.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn prepare(
        path: &SharedPath,
        worker: WorkerId,
        guest: &Guest,
        member: &Member,
    ) -> Result<(Self, Socket), Refusal> {
        let SocketAddr::V4(server) = member.address else {
            return Err(Refusal::Ipv6);
        };
        let _stay = path.stay().ok_or(Refusal::HandedOn)?;
        let source = source(path, member, server)?;
        let number = path.take_number().ok_or(Refusal::TableFull);
        let number = number.inspect_err(|_| path.flows.want_room())?;
        let (socket, source) = match bind(path, source, server) {
            Ok(bound) => bound,
            Err(why) => {
                path.free_number(number);
                return Err(why);
            }
        };
        let mut passage = Self {
            path: SharedPath::clone(path),
            worker,
            number,
            keys: [
                guest.syn.key,
                Key {
                    from: server,
                    to: source,
                },
            ],
            placed: 0,
            client_mss: guest.syn.takes(),
            came_by: guest.interface,
            changes: path.ways.changes() as u32,
            has_port: true,
            is_kept: false,
        };
        let unoffered = &member.server.answers;
        let unoffered = unoffered.unoffered(guest.syn.lacking(), Instant::now());
        passage.place(guest, unoffered)?;
        fail_point!("passage_placed");
        // So that the server never says more in a segment than the client takes.
        let mss = passage.client_mss.min(leg::MOST_SEGMENT).into();
        let told = sys::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, mss)
            // So that the client's windows can be told to it as they are.
            .and_then(|()| prepare::announce(&socket, guest.syn.scale.unwrap_or_default()));
        told.map_err(|_| Refusal::System)?;
        Ok((passage, socket))
    }

    fn place(&mut self, guest: &Guest, unoffered: Without) -> Result<(), Refusal> {
        self.gate().clear();
        self.gate().set_unoffered(unoffered);
        self.gate()
            .set_client_rcv_nxt(guest.syn.isn.wrapping_add(1));
        self.gate()
            .set_client_tsval(guest.syn.tsval.unwrap_or_default());
        for (side, key) in (0..).zip(self.keys) {
            let place = Place {
                flow: self.number,
                side,
            };
            self.path.put_key(self.worker, key, place)?;
            self.placed += 1;
        }
        Ok(())
    }

    /// The session takes the relay, which goes on with the socket and its port.
    #[must_use = "dropped, the port would be given to the next session"]
    pub(crate) fn refused(mut self, why: Refusal) -> Option<Port> {
        self.path.refused(self.worker, why);
        let [_, key] = self.keys;
        let had = std::mem::take(&mut self.has_port);
        had.then(|| Port {
            path: SharedPath::clone(&self.path),
            key,
        })
    }

    /// Has the session looked after from now on. The client's socket, if it still has one, is kept
    /// until the client has acknowledged its greeting.
    pub(super) fn keep(mut self, carried: Carried, client: Option<TcpStream>) {
        self.is_kept = true;
        let (path, changes) = (SharedPath::clone(&self.path), self.changes);
        let arrival = Arrival {
            number: self.number,
            keys: self.keys,
            carried,
            client,
        };
        path.flows.arrive(self.worker, arrival);
        // Has its ways looked up where they may have changed meanwhile: asked once the sweeper can find
        // it, or a change in between would be nobody's.
        if changes != path.ways.changes() as u32 {
            path.ways.change();
        }
    }

    pub(super) fn path(&self) -> &SharedPath {
        &self.path
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(super) fn gate(&self) -> MappedGate<'_> {
        self.path.gates.of(self.number)
    }

    /// Says how its segments are rewritten.
    pub(super) fn set_flow(&self, flow: &Flow) -> Result<(), TableError> {
        self.path.tables(self.worker).set_flow(self.number, flow)
    }

    /// Why the program sees nothing of a leg, by the key of what its peer says: our segments get
    /// past it, or they aren't as our socket said them.
    pub(super) fn unseen(&self, leg: Key) -> Refusal {
        match self.path.ways.of_leg(leg) {
            Ok(interface) if self.path.interfaces.has(interface) => Refusal::Nat,
            _ => Refusal::Interface,
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let Some(_stay) = self.path.stay() else {
            // It is another session's by now.
            return;
        };
        self.gate().set(State::Passed);
        let placed = self.keys.into_iter().take(self.placed.into());
        let tables = || self.path.tables(self.worker);
        self.path.drop_places(tables, self.number, placed);
        if self.has_port {
            let [_, server] = self.keys;
            self.path.give_port(server);
        }
    }
}

fn source(path: &KernelPath, member: &Member, server: SocketAddrV4) -> Result<Ipv4Addr, Refusal> {
    let configured = &member.source;
    if configured.is_empty() {
        return path.source_towards(server).map_err(|_| Refusal::System);
    }
    match configured[member.server.next_source(configured.len())] {
        std::net::IpAddr::V4(source) => Ok(source),
        std::net::IpAddr::V6(_) => Err(Refusal::Ipv6),
    }
}

/// A socket with one of our own ports, which nobody else has, and its address.
fn bind(
    path: &KernelPath,
    source: Ipv4Addr,
    server: SocketAddrV4,
) -> Result<(Socket, SocketAddrV4), Refusal> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::TCP));
    let socket = socket.map_err(|_| Refusal::System)?;
    // The port of a session that just ended by itself may be used again at once.
    socket
        .set_reuse_address(true)
        .map_err(|_| Refusal::System)?;
    for _ in 0..TRIES {
        let number = path.ports.take(source, server).ok_or(Refusal::NoPort);
        let number = number.inspect_err(|_| path.flows.want_room())?;
        let address = SocketAddrV4::new(source, number);
        let Err(error) = socket.bind(&address.into()) else {
            return Ok((socket, address));
        };
        path.ports.give(source, server, number);
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(Refusal::System);
        }
    }
    Err(Refusal::NoPort)
}

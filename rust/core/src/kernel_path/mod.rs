//! The kernel path: once a client was greeted, its session goes on without us.
//!
//! A session that is to take it is prepared before its server is dialled ([`passage`]): the
//! program sees the segments of both legs from then on. Once the server has greeted,
//! [`hand_over`] reads both sockets, tells the program how the one leg's segments become the
//! other's, greets the client and closes the server's socket without a word. From there on the
//! session is a flow, and the [`sweeper`]'s alone ([`flows`] is the way there): it closes the
//! client's socket once the greeting was acknowledged, closes the record when the flow ends, and ends
//! it where a limit says so, as the [`flow_table`] decides. Whatever isn't eligible takes the relay,
//! counted by its [`refusal`].

mod adopt;
mod ahead;
mod by_number;
mod calendar;
mod carried;
mod clock;
mod conntrack;
mod course;
mod earlier;
mod flow_numbers;
mod flow_table;
mod flows;
mod gates;
mod greeting_progress;
mod hand_over;
mod interfaces;
mod keepalive;
mod keys;
mod left;
mod leg;
mod links;
mod moved;
mod netlink;
mod note;
mod owed;
mod passage;
mod prepare;
mod refusal;
mod seen;
mod sweeper;
mod tenancy;
mod voice;
mod ways;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mailweir_flow::{
    Counter, Key, MOST_FLOWS, Place, Program, SCHEMA, Tables, Unavailable, Without,
};
use serde::Serialize;

use crate::metrics::{Counter as Count, PerWorker, Tally, WorkerCounters, WorkerId};
use crate::moment::ProcessDrain;
use crate::ports::Ports;
use crate::record::SessionId;
use crate::spec::KernelSpec;
use crate::spec::wire;

use conntrack::Conntrack;
use earlier::Earlier;

pub(crate) use adopt::{Heir, adopt};
pub(crate) use carried::Carried;
use flow_numbers::FlowNumbers;
use flows::{Errand, Flows};
use gates::Gates;
pub(crate) use hand_over::{Handed, Legs, hand_over};
use interfaces::Interfaces;
pub use left::{Left, flush, left};
use moved::Moved;
pub(crate) use passage::{Guest, Passage, Port};
pub(crate) use prepare::{prepare_acknowledgements, prepare_listener};
pub use refusal::Refusal;
use seen::Seen;
pub(crate) use sweeper::Sweeper;
use tenancy::Tenancy;
use voice::Voice;
use ways::Ways;

/// Where systems mount the BPF file system: for root alone, mostly. So where there is a folder of
/// ours there, which a user of mailweir's own can have, pins are in that.
const BPF_FILES: &str = "/sys/fs/bpf";
const OUR_FOLDER: &str = "mailweir";

/// Why there is no kernel path.
#[derive(Debug, thiserror::Error)]
pub enum NoKernelPath {
    /// The program can't be had.
    #[error(transparent)]
    Program(#[from] Unavailable),
    /// Anything else that it needs.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

impl NoKernelPath {
    /// In a word, of a closed list.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Program(Unavailable::NotBuilt) => "not_built",
            Self::Program(Unavailable::SelfTest(_)) => "self_test",
            Self::Program(Unavailable::Pin(_) | Unavailable::Pins(_)) => "pins",
            Self::Program(
                Unavailable::Refused(_)
                | Unavailable::Link(_)
                | Unavailable::Program(_)
                | Unavailable::Table(_),
            ) => "refused",
            Self::System { .. } => "system",
        }
    }
}

/// The kernel path of this process.
#[derive(Debug)]
pub(crate) struct KernelPath {
    gates: Gates,
    moved: Moved,
    seen: Seen,
    /// Each worker's, so that none waits for another; behind them the sweeper's.
    tables: Box<[Mutex<Tables>]>,
    interfaces: Interfaces,
    ways: Ways,
    /// What an earlier process left, until somebody goes on with it.
    inherited: Mutex<adopt::FoundFlows>,
    /// What processes of other versions left.
    earlier: Mutex<Vec<Earlier>>,
    numbers: Mutex<FlowNumbers>,
    /// Whose it is to change a key that leads somewhere.
    turn: Mutex<()>,
    ports: Ports,
    /// The address that the route to a server gives, and how often routes may have changed before.
    routes: Mutex<HashMap<Ipv4Addr, (Ipv4Addr, u64)>>,
    voice: Voice,
    /// None where there is none, as far as we may ask.
    conntrack: Option<Conntrack>,
    flows: Flows,
    /// Since when the process drains.
    drains: Arc<ProcessDrain>,
    refusals: PerWorker<Tally<{ Refusal::ALL.len() }>>,
    handed_over: PerWorker<Count>,
    adopted: Count,
    /// Keepalives said.
    keepalives: Count,
    /// Flows that ended since a peer answered none.
    unanswered: Count,
    /// Records that gave up their places before they were in the log.
    given_up: Count,
    /// A server announces another window scale than it did, or takes other options.
    outdated: AtomicBool,
    /// The process ends, and the next one goes on with the listening sockets.
    handed_on: AtomicBool,
    tenancy: Tenancy,
}

impl KernelPath {
    /// Loads the program, and attaches it to what there is.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn start(
        workers: usize,
        spec: &KernelSpec,
        drains: Arc<ProcessDrain>,
    ) -> Result<Self, NoKernelPath> {
        mailweir_flow::self_test()?;
        let wanted = spec.max_flows.min(MOST_FLOWS);
        let mut program = Program::load_pinned(&pins(&spec.instance), wanted)?;
        let mut tables = Vec::with_capacity(workers + 1);
        for _ in 0..=workers {
            let again = program.tables().again().map_err(Unavailable::from)?;
            tables.push(Mutex::new(again));
        }
        let system = |what| move |cause| NoKernelPath::System { what, cause };
        let gates = Gates::map(program.tables()).map_err(system("its gates can't be mapped"))?;
        let moved = Moved::map(program.tables()).map_err(system("its gates can't be mapped"))?;
        let seen = Seen::map(program.tables()).map_err(system("its SYNs can't be mapped"))?;
        let voice = Voice::open().map_err(system("it has no raw socket"))?;
        let places = program.tables().places().map_err(Unavailable::from)?;
        let all = program.tables().most_flows();
        let leads = |place: &Place| place.number().is_none_or(|number| number < all);
        let (places, nowhere): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, place)| leads(place));
        for (key, _) in nowhere {
            // Somebody has put other tables beside these.
            program.tables().remove(key);
        }
        let inherited = adopt::found(places);
        let numbers = FlowNumbers::new(all, wanted, |number| inherited.flows.contains_key(&number));
        let interfaces = Interfaces::new(program).map_err(system("interfaces aren't told of"))?;
        let ports = Ports::new(spec.source_ports.clone());
        let earlier = Earlier::found(&bpf_files(), &spec.instance, &ports, Instant::now());
        let path = Self {
            gates,
            moved,
            seen,
            tables: tables.into(),
            interfaces,
            ways: Ways::new(Instant::now()).map_err(system("routes can't be asked for"))?,
            inherited: Mutex::new(inherited),
            earlier: Mutex::new(earlier),
            numbers: Mutex::new(numbers),
            turn: Mutex::default(),
            ports,
            routes: Mutex::default(),
            voice,
            conntrack: Conntrack::open().ok(),
            flows: Flows::new(workers).map_err(system("there is no descriptor left"))?,
            drains,
            refusals: PerWorker::new(workers),
            handed_over: PerWorker::new(workers),
            adopted: Count::default(),
            keepalives: Count::default(),
            unanswered: Count::default(),
            given_up: Count::default(),
            outdated: AtomicBool::new(false),
            handed_on: AtomicBool::new(false),
            tenancy: Tenancy::default(),
        };
        path.interfaces
            .attach()
            .map_err(system("it can't be attached"))?;
        Ok(path)
    }

    /// A session of `worker` takes the relay.
    pub(crate) fn refused(&self, worker: WorkerId, why: Refusal) {
        self.refusals.of(worker).count(why as usize);
    }

    /// A session of `worker` was handed over.
    fn took(&self, worker: WorkerId) {
        self.handed_over.of(worker).add(1);
    }

    /// The process drains only for the next one, which is about to begin: flows needn't.
    pub(crate) fn hand_on(&self) {
        self.handed_on.store(true, Relaxed);
        self.flows.send(Errand::LookAtAll);
    }

    fn is_handed_on(&self) -> bool {
        self.handed_on.load(Relaxed) && self.outlives_us()
    }

    /// Whether flows go on when the process is gone.
    fn outlives_us(&self) -> bool {
        self.interfaces.ends_with_process().is_none()
    }

    /// Whether what listeners announce and clients offer is to be looked at anew.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.swap(false, Relaxed)
    }

    /// Has clients at these listeners, which are all, offer nothing that their servers lack.
    pub(crate) fn blank_offers(&self, lacking: &[(SocketAddrV4, Without)]) {
        // Refused, sessions that it concerns take the relay, which is counted.
        let _ = lock(self.of_sweeper()).set_listeners(lacking);
    }

    /// What there is to say of it.
    pub(crate) fn stats(&self, workers: &PerWorker<WorkerCounters>) -> KernelPathStats {
        let refusals = Refusal::ALL.map(|why| {
            let count = self.refusals.iter().map(|one| one.value(why as usize));
            (why, count.sum())
        });
        // Not held beyond this: the sweeper takes it while it has the flows.
        let segments = {
            let tables = lock(self.of_sweeper());
            Counter::ALL.map(|what| (what, tables.counted(what).unwrap_or_default()))
        };
        let [places_taken, max_flows, wanted_flows] = {
            let numbers = lock(&self.numbers);
            [numbers.used(), numbers.most(), numbers.wanted()].map(u64::from)
        };
        KernelPathStats {
            flows: self.flows.live.load(Relaxed),
            lingering: self.flows.lingering.load(Relaxed),
            restarts: self.flows.restarts.value(),
            places_taken,
            tables_bytes: lock(self.of_sweeper()).bytes(),
            max_flows,
            wanted_flows,
            handed_over: self.handed_over.sum(|one| one),
            adopted: self.adopted.value(),
            keepalives: self.keepalives.value(),
            unanswered: self.unanswered.value(),
            given_up: self.given_up.value(),
            taken_off: self.interfaces.taken_off.value(),
            bytes: workers.sum(|one| &one.kernel_bytes),
            earlier: lock(&self.earlier)
                .iter()
                .map(Earlier::flows)
                .sum::<usize>() as u64,
            unpinned: self.interfaces.unpinned.value(),
            moved: self.ways.moved.value(),
            not_at: self.interfaces.refused(),
            ends_with_process: self.interfaces.ends_with_process(),
            refusals: refusals.into(),
            segments: segments.into(),
        }
    }

    /// Whether an earlier process left something that nobody goes on with yet.
    pub(crate) fn is_to_be_adopted(&self) -> bool {
        !lock(&self.inherited).is_nothing()
    }

    /// Our end of each flow's connection with its server.
    pub(crate) fn sources(&self) -> HashMap<SessionId, SocketAddr> {
        self.flows.sources()
    }

    /// Nothing outlives a process that ended as it should, with its last flow. Flows of other
    /// versions go on as they did.
    fn leave(&self) {
        self.interfaces.flush();
        self.leave_earlier(Instant::now());
    }

    /// Removes what other versions left, once it carries nothing any more.
    fn leave_earlier(&self, now: Instant) {
        lock(&self.earlier).retain_mut(|earlier| !earlier.is_over(&self.ports, now));
    }

    /// Our end of what this server says is taken.
    fn claim_port(&self, server: Key) {
        self.ports
            .claim(*server.to.ip(), server.from, server.to.port());
    }

    /// Our end of what this server says is nobody's any more.
    fn give_port(&self, server: Key) {
        self.ports
            .give(*server.to.ip(), server.from, server.to.port());
    }

    fn tables(&self, worker: WorkerId) -> MutexGuard<'_, Tables> {
        lock(&self.tables[worker.index()])
    }

    fn of_sweeper(&self) -> &Mutex<Tables> {
        &self.tables[self.tables.len() - 1]
    }

    /// The address that `server` is dialled from where nothing else is configured.
    fn source_towards(&self, server: SocketAddrV4) -> io::Result<Ipv4Addr> {
        let changes = self.ways.changes();
        if let Some((source, before)) = lock(&self.routes).get(server.ip())
            && *before == changes
        {
            return Ok(*source);
        }
        // Nothing is sent: it only has the kernel look at its routes.
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        probe.connect(server)?;
        let IpAddr::V4(source) = probe.local_addr()?.ip() else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        lock(&self.routes).insert(*server.ip(), (source, changes));
        Ok(source)
    }
}

fn bpf_files() -> PathBuf {
    let files = Path::new(BPF_FILES);
    let ours = files.join(OUR_FOLDER);
    if ours.is_dir() {
        ours
    } else {
        files.to_owned()
    }
}

/// Where what outlives a process is kept: a folder for each version of the tables, and for each
/// instance on the machine.
pub(crate) fn pins(instance: &str) -> PathBuf {
    bpf_files().join(format!("mailweir-{SCHEMA}-{instance}"))
}

/// The kernel path at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct KernelPathStats {
    /// Sessions on it now.
    pub flows: u64,
    /// Places that are taken: by flows, by sessions on their way there, and by flows whose record
    /// isn't in the log.
    pub places_taken: u64,
    /// Keys of flows that are over: two for each, for a minute.
    pub lingering: u64,
    /// How often the thread that has the flows began again after a panic.
    pub restarts: u64,
    /// Kernel memory of its tables, whatever is in them.
    pub tables_bytes: u64,
    /// The most that may be taken.
    pub max_flows: u64,
    /// What is configured: there are fewer as long as tables of an earlier process are gone on with.
    pub wanted_flows: u64,
    /// Sessions that took it, ever.
    pub handed_over: u64,
    /// Sessions that an earlier process began.
    pub adopted: u64,
    /// Segments that asked silent peers whether they are there.
    pub keepalives: u64,
    /// Sessions that ended since a peer answered none of these.
    pub unanswered: u64,
    /// Records that waited for the log and gave up their places: a kill before they are in it loses them.
    pub given_up: u64,
    /// How often somebody took its program off an interface; it was attached again.
    pub taken_off: u64,
    /// Sessions that began in a process of another version, and go on by themselves.
    pub earlier: u64,
    /// How often somebody removed what outlives the process; it was pinned again.
    pub unpinned: u64,
    /// How often the peer of a flow was found behind another interface than before.
    pub moved: u64,
    /// Interfaces that its program can't be attached to, and why.
    pub not_at: BTreeMap<String, String>,
    /// Bytes that it carried.
    pub bytes: u64,
    /// Why flows end with the process, if they do.
    pub ends_with_process: Option<String>,
    /// Sessions that took the relay instead, by reason; every reason is there.
    #[serde(serialize_with = "wire::counts")]
    pub refusals: Vec<(Refusal, u64)>,
    /// Segments by what became of them.
    #[serde(serialize_with = "wire::counts")]
    pub segments: Vec<(Counter, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves is a number, a port or a place that nobody is given any more.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type SharedPath = Arc<KernelPath>;

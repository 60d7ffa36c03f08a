//! Reaches the program's tables.

use std::fmt;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use serde::Serialize;

use crate::layout::{CAME_BITS, Flow, Gate, Key, Late, Listener, Place};
use crate::program::Unavailable;
use crate::sys;
use crate::without::{Without, listener};

/// The most flows that there may be a place for.
pub const MOST_FLOWS: u32 = 1 << 20;

/// All of them by name.
pub(crate) const TABLES: [&str; 8] = [
    "places",
    "gates",
    "flows",
    "lingering",
    "moved",
    "listeners",
    "syns",
    "counters",
];
/// Keys that there are places for at least, those that linger above all: 3 000 sessions a second for
/// a minute have 360 000.
const LEAST_KEYS: u32 = 1 << 19;

/// 32-bit words of the table of SYNs: two for each of its places.
pub const SYN_WORDS: usize = 2 << CAME_BITS;

/// Of a hash, in bytes (struct bucket of kernel/bpf/hashtab.c).
const BUCKET_SIZE: u64 = 16;

/// How many entries each table has where so many flows may be at a time.
pub(crate) fn entries(flows: u32) -> [(&'static str, u32); 5] {
    let keys = LEAST_KEYS.max(flows.saturating_mul(4));
    [
        ("places", keys),
        ("gates", flows),
        ("flows", flows),
        ("lingering", keys),
        ("moved", flows.div_ceil(u64::BITS)),
    ]
}

/// What the program counts, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Segments that were rewritten and sent on.
    Rewritten,
    /// Segments of flows that went up to the stack.
    ToStack,
    /// Segments that were dropped while a flow was held.
    Held,
    /// Fragments of live flows, dropped.
    DroppedFragment,
    /// Segments of live flows that couldn't be rewritten, dropped.
    DroppedHeader,
    /// What our own stack wanted to say to end a flow, dropped.
    Guarded,
    /// ICMP messages that a segment was too big, told to who said it.
    TooBig,
    /// Those about what nobody is known to have said, dropped.
    DroppedTooBig,
    /// SYNs of clients, or to servers, that offered what the other leg hasn't: they offer it no more.
    SynBlanked,
}

impl Counter {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Rewritten,
        Self::ToStack,
        Self::Held,
        Self::DroppedFragment,
        Self::DroppedHeader,
        Self::Guarded,
        Self::TooBig,
        Self::DroppedTooBig,
        Self::SynBlanked,
    ];
}

/// The tables. One value is for one thread; [`Tables::again`] gives another.
pub struct Tables {
    places: HashMap<MapData, [u8; Key::SIZE], [u8; Place::SIZE]>,
    gates: Array<MapData, [u8; Gate::SIZE]>,
    flows: Array<MapData, [u8; Flow::SIZE]>,
    lingering: HashMap<MapData, [u8; Key::SIZE], [u8; Late::SIZE]>,
    listeners: HashMap<MapData, [u8; Listener::SIZE], u32>,
    counters: PerCpuArray<MapData, u64>,
    /// The same tables, in this order.
    handles: [OwnedFd; TABLES.len()],
}

impl Tables {
    /// Of a program, which keeps its own descriptors: a part that isn't loaded yet finds them by
    /// these.
    pub(crate) fn of(bpf: &Ebpf) -> Result<Self, MapError> {
        let handle = |name: &'static str| {
            let missing = || MapError::InvalidName {
                name: name.to_owned(),
            };
            match bpf.map(name).ok_or_else(missing)? {
                Map::HashMap(data) | Map::Array(data) | Map::PerCpuArray(data) => {
                    again(data.fd().as_fd())
                }
                _ => Err(missing()),
            }
        };
        Self::open(each(TABLES.map(handle))?)
    }

    /// What an earlier process left in a folder of pins, or what one that runs keeps there; none
    /// where there is nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pinned(pins: &Path) -> Result<Option<Self>, MapError> {
        if !pins.join(TABLES[0]).exists() {
            return Ok(None);
        }
        let handle = |name| again(MapData::from_pin(pins.join(name))?.fd());
        Self::open(each(TABLES.map(handle))?).map(Some)
    }

    /// Keeps those in a folder that aren't there.
    pub(crate) fn pin(&self, pins: &Path) -> Result<(), Unavailable> {
        for (name, handle) in TABLES.into_iter().zip(&self.handles) {
            let pin = pins.join(name);
            if !pin.exists() {
                MapData::from_fd(again(handle)?)?.pin(pin)?;
            }
        }
        Ok(())
    }

    fn open(handles: [OwnedFd; TABLES.len()]) -> Result<Self, MapError> {
        let table = |at: usize| {
            let handle = again(handles[at].as_fd())?;
            Map::from_map_data(MapData::from_fd(handle)?)
        };
        Ok(Self {
            places: HashMap::try_from(table(0)?)?,
            gates: Array::try_from(table(1)?)?,
            flows: Array::try_from(table(2)?)?,
            lingering: HashMap::try_from(table(3)?)?,
            listeners: HashMap::try_from(table(5)?)?,
            counters: PerCpuArray::try_from(table(7)?)?,
            handles,
        })
    }

    /// The same tables for another thread.
    ///
    /// # Errors
    /// What the kernel says: no descriptors are left.
    pub fn again(&self) -> Result<Self, MapError> {
        Self::open(each(self.handles.each_ref().map(again))?)
    }

    /// How many flows there may be at a time.
    pub fn most_flows(&self) -> u32 {
        self.gates.len()
    }

    /// Whether each has a place for each flow that another has one for: somebody may have put others in
    /// their places.
    pub(crate) fn fit_each_other(&self) -> bool {
        let [_, gates, flows, _, moved, ..] = &self.handles;
        let sizes = [gates, flows, moved].map(|handle| {
            let data = again(handle).and_then(MapData::from_fd);
            data.and_then(|data| Ok(data.info()?.max_entries())).ok()
        });
        let most = self.most_flows();
        let wanted = [most, most, most.div_ceil(u64::BITS)];
        sizes == wanted.map(Some)
    }

    /// Kernel memory of the tables, whatever is in them: values of arrays, buckets of hashes.
    pub fn bytes(&self) -> u64 {
        let [(_, keys), .., (_, words)] = entries(self.most_flows());
        let flows = u64::from(self.most_flows()) * (Gate::SIZE + Flow::SIZE) as u64;
        let buckets = 2 * BUCKET_SIZE * u64::from(keys.next_power_of_two());
        flows + buckets + u64::from(words) * 8 + (SYN_WORDS * size_of::<u32>()) as u64
    }

    /// The table of gates, which can be mapped into memory: [`Gate::SIZE`] for each flow.
    pub fn gates_handle(&self) -> impl AsFd {
        self.handles[1].as_fd()
    }

    /// The table of flows that moved, which can be mapped into memory: a bit for each flow, in an even
    /// number of words of 32.
    pub fn moved_handle(&self) -> impl AsFd {
        self.handles[4].as_fd()
    }

    /// The table of SYNs that came in, which can be mapped into memory: [`SYN_WORDS`].
    pub fn syns_handle(&self) -> impl AsFd {
        self.handles[6].as_fd()
    }

    /// Where in that table a client's SYN is noted, and the two words that are there then.
    #[must_use]
    pub fn syn_of(client: SocketAddrV4, seq: u32) -> (usize, [u32; 2]) {
        let from = client.ip().to_bits() ^ u32::from(client.port());
        let at = from.wrapping_mul(0x9e37_79b1) >> (u32::BITS - CAME_BITS);
        (
            2 * at as usize,
            [seq, u32::from_ne_bytes(client.ip().octets())],
        )
    }

    /// Says how a flow's segments are rewritten. Not while it is live.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_flow(&mut self, number: u32, flow: &Flow) -> Result<(), MapError> {
        self.flows.set(number, flow.to_bytes(), 0)
    }

    /// A flow as it is now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flow(&self, number: u32) -> Result<Flow, MapError> {
        Ok(Flow::from_bytes(&self.flows.get(&number, 0)?))
    }

    /// Flows from `first` on as they are now, read at once into `bytes`, as many as these have room for:
    /// [`Flow::SIZE`] for each. How many there were.
    pub fn flows_from(&self, first: u32, bytes: &mut [u8]) -> usize {
        sys::read_array(&self.handles[2], first, Flow::SIZE, bytes).unwrap_or(0)
    }

    /// Has the segments of one side find a flow.
    ///
    /// # Errors
    /// What the kernel says; a place that is taken, say.
    pub fn put(&mut self, key: Key, place: Place) -> Result<(), MapError> {
        const NEW: u64 = 1; // BPF_NOEXIST
        self.places.insert(key.to_bytes(), place.to_bytes(), NEW)
    }

    /// Has them find another one, whatever they found: of one that is over nothing is left.
    ///
    /// # Errors
    /// What the kernel says; the table is full, say.
    pub fn replace(&mut self, key: Key, place: Place) -> Result<(), MapError> {
        self.places.insert(key.to_bytes(), place.to_bytes(), 0)?;
        // It lingers rarely.
        sys::remove_all(&self.handles[3], &[key.to_bytes()]);
        Ok(())
    }

    /// Has late segments of flows that are over told to the other side: those with that key, which this
    /// side says. For which there is no room, they find nothing.
    pub fn linger(&mut self, over: &[(Key, u32, Late)]) {
        let keys: Vec<_> = over.iter().map(|(key, _, _)| key.to_bytes()).collect();
        let lates: Vec<_> = over.iter().map(|(_, _, late)| late.to_bytes()).collect();
        let flow = Place::LINGERS;
        let places = over.iter().map(|(_, side, _)| Place { flow, side: *side });
        let places: Vec<_> = places.map(Place::to_bytes).collect();
        let known = sys::put_all(&self.handles[3], &keys, &lates);
        let led = sys::put_all(&self.handles[0], &keys[..known], &places[..known]);
        sys::remove_all(&self.handles[3], &keys[led..]);
        sys::remove_all(&self.handles[0], &keys[led..]);
    }

    /// Until when late ones are told, as user space noted it; none of what doesn't linger.
    pub fn lingers_until(&self, key: Key) -> Option<u32> {
        let late = self.lingering.get(&key.to_bytes(), 0).ok()?;
        Some(Late::from_bytes(&late).until)
    }

    /// Forgets keys that linger.
    pub fn forget(&mut self, keys: &[Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.to_bytes()).collect();
        sys::remove_all(&self.handles[3], &keys);
        sys::remove_all(&self.handles[0], &keys);
    }

    /// Has them find it no more.
    pub fn remove(&mut self, key: Key) {
        sys::remove_all(&self.handles[0], &[key.to_bytes()]);
    }

    /// What segments of one side find, if anything.
    pub fn place(&self, key: Key) -> Option<Place> {
        let bytes = self.places.get(&key.to_bytes(), 0).ok()?;
        Some(Place::from_bytes(&bytes))
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.places.keys().next().is_none()
    }

    /// Every place that is taken.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn places(&self) -> Result<Vec<(Key, Place)>, MapError> {
        let found = self.places.iter().map(|entry| {
            let (key, place) = entry?;
            Ok((Key::from_bytes(&key), Place::from_bytes(&place)))
        });
        found.collect()
    }

    /// Has the SYNs of clients at these addresses be without that; at no others.
    ///
    /// # Errors
    /// What the kernel says: there are more than 4096, say.
    pub fn set_listeners(&mut self, listeners: &[(SocketAddrV4, Without)]) -> Result<(), MapError> {
        let wanted = listeners
            .iter()
            .map(|(at, without)| (listener(*at), without.bits()));
        let wanted: Vec<_> = wanted.collect();
        let there: Vec<_> = self.listeners.keys().collect::<Result<_, _>>()?;
        for key in there {
            if !wanted.iter().any(|(at, _)| *at == key) {
                self.listeners.remove(&key)?;
            }
        }
        for (key, bits) in wanted {
            self.listeners.insert(key, bits, 0)?;
        }
        Ok(())
    }

    /// Replaces a gate; it is read and written in place otherwise.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_gate(&mut self, number: u32, gate: &Gate) -> Result<(), MapError> {
        self.gates.set(number, gate.to_bytes(), 0)
    }

    /// A gate as it is now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn gate(&self, number: u32) -> Result<Gate, MapError> {
        Ok(Gate::from_bytes(&self.gates.get(&number, 0)?))
    }

    /// How often something was counted, on all CPUs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counted(&self, counter: Counter) -> Result<u64, MapError> {
        let values = self.counters.get(&(counter as u32), 0)?;
        Ok(values.iter().sum())
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tables").finish_non_exhaustive()
    }
}

fn each<const N: usize>(handles: [Result<OwnedFd, MapError>; N]) -> Result<[OwnedFd; N], MapError> {
    let handles = handles.into_iter().collect::<Result<Vec<_>, _>>()?;
    // There are as many as there were.
    handles.try_into().map_err(|_| MapError::CreateError {
        name: "handles".to_owned(),
        io_error: std::io::ErrorKind::Other.into(),
    })
}

fn again(handle: impl AsFd) -> Result<OwnedFd, MapError> {
    let copied = handle.as_fd().try_clone_to_owned();
    copied.map_err(MapError::IoError)
}

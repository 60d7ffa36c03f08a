//! Reaches the program's tables.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use serde::Serialize;

use crate::layout::{Flow, Gate, Key, Place};
use crate::program::Unavailable;

/// The most flows at a time, of all states.
pub const MOST_FLOWS: u32 = 65536;

/// All of them by name.
pub(crate) const TABLES: [&str; 4] = ["places", "gates", "flows", "counters"];

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
}

impl Counter {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Rewritten,
        Self::ToStack,
        Self::Held,
        Self::DroppedFragment,
        Self::DroppedHeader,
        Self::Guarded,
        Self::TooBig,
        Self::DroppedTooBig,
    ];
}

/// The tables. One value is for one thread; [`Tables::again`] gives another.
pub struct Tables {
    places: HashMap<MapData, [u8; Key::SIZE], [u8; Place::SIZE]>,
    gates: Array<MapData, [u8; Gate::SIZE]>,
    flows: Array<MapData, [u8; Flow::SIZE]>,
    counters: PerCpuArray<MapData, u64>,
    /// The same tables, in this order.
    handles: [OwnedFd; 4],
}

impl Tables {
    /// Of a program that was loaded: what isn't yet finds its tables by their descriptors.
    pub(crate) fn take(bpf: &mut Ebpf) -> Result<Self, MapError> {
        let mut handle = |name: &'static str| {
            let missing = || MapError::InvalidName {
                name: name.to_owned(),
            };
            match bpf.take_map(name).ok_or_else(missing)? {
                Map::HashMap(data) | Map::Array(data) | Map::PerCpuArray(data) => {
                    again(data.fd().as_fd())
                }
                _ => Err(missing()),
            }
        };
        let [places, gates, flows, counters] = TABLES.map(&mut handle);
        Self::open([places?, gates?, flows?, counters?])
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
        let [places, gates, flows, counters] = TABLES.map(handle);
        Self::open([places?, gates?, flows?, counters?]).map(Some)
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

    fn open(handles: [OwnedFd; 4]) -> Result<Self, MapError> {
        let table = |at: usize| {
            let handle = again(handles[at].as_fd())?;
            Map::from_map_data(MapData::from_fd(handle)?)
        };
        Ok(Self {
            places: HashMap::try_from(table(0)?)?,
            gates: Array::try_from(table(1)?)?,
            flows: Array::try_from(table(2)?)?,
            counters: PerCpuArray::try_from(table(3)?)?,
            handles,
        })
    }

    /// The same tables for another thread.
    ///
    /// # Errors
    /// What the kernel says: no descriptors are left.
    pub fn again(&self) -> Result<Self, MapError> {
        let [places, gates, flows, counters] = self.handles.each_ref().map(again);
        Self::open([places?, gates?, flows?, counters?])
    }

    /// The table of gates, which can be mapped into memory: [`MOST_FLOWS`] of [`Gate::SIZE`].
    pub fn gates_handle(&self) -> impl AsFd {
        self.handles[1].as_fd()
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

    /// Has the segments of one side find a flow.
    ///
    /// # Errors
    /// What the kernel says; a place that is taken, say.
    pub fn put(&mut self, key: Key, place: Place) -> Result<(), MapError> {
        const NEW: u64 = 1; // BPF_NOEXIST
        self.places.insert(key.to_bytes(), place.to_bytes(), NEW)
    }

    /// Has them find it no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&mut self, key: Key) -> Result<(), MapError> {
        self.places.remove(&key.to_bytes())
    }

    /// What segments of one side find, if anything.
    pub fn place(&self, key: Key) -> Option<Place> {
        let bytes = self.places.get(&key.to_bytes(), 0).ok()?;
        Some(Place::from_bytes(&bytes))
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

fn again(handle: impl AsFd) -> Result<OwnedFd, MapError> {
    let copied = handle.as_fd().try_clone_to_owned();
    copied.map_err(MapError::IoError)
}

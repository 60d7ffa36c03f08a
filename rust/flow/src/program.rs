//! Loads the program and reaches its tables.

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError};

use crate::layout::{FLOW_SIZE, Flow, KEY_SIZE, Key, PLACE_SIZE, Place};

/// Empty where it was built without clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow.o"));

/// Why there is no kernel path.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The program isn't in this build.
    #[error("it was built without clang")]
    NotBuilt,
    /// The kernel doesn't take it: too old, or this process may not.
    #[error("the kernel refuses it: {0}")]
    Refused(#[from] EbpfError),
    /// A part of it.
    #[error("the kernel refuses the program: {0}")]
    Program(#[from] ProgramError),
    /// A table of it.
    #[error("the kernel refuses a table: {0}")]
    Table(#[from] MapError),
}

/// What the program counts, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// The program, loaded and attached to nothing yet, and its tables.
pub struct Program {
    bpf: Ebpf,
    places: HashMap<MapData, [u8; KEY_SIZE], [u8; PLACE_SIZE]>,
    flows: Array<MapData, [u8; FLOW_SIZE]>,
    legs: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
}

impl Program {
    /// Loads it into the kernel.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load() -> Result<Self, Unavailable> {
        if OBJECT.is_empty() {
            return Err(Unavailable::NotBuilt);
        }
        let mut bpf = Ebpf::load(OBJECT)?;
        let mut table = |name: &'static str| {
            bpf.take_map(name).ok_or_else(|| MapError::InvalidName {
                name: name.to_owned(),
            })
        };
        let places = HashMap::try_from(table("places")?)?;
        let flows = Array::try_from(table("flows")?)?;
        let legs = Array::try_from(table("legs")?)?;
        let counters = PerCpuArray::try_from(table("counters")?)?;
        let mut program = Self {
            bpf,
            places,
            flows,
            legs,
            counters,
        };
        program.classifier("ingress")?.load()?;
        program.classifier("guard")?.load()?;
        Ok(program)
    }

    /// The part that rewrites: for segments that come in.
    ///
    /// # Errors
    /// It isn't there, which is a bug.
    pub fn ingress(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        self.classifier("ingress")
    }

    /// The part that keeps our own stack from ending flows: for segments that go out.
    ///
    /// # Errors
    /// It isn't there, which is a bug.
    pub fn guard(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        self.classifier("guard")
    }

    fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, ProgramError> {
        let program = self.bpf.program_mut(name);
        program.ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// Says which interface carries a leg.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_leg(&mut self, leg: u32, ifindex: u32) -> Result<(), MapError> {
        self.legs.set(leg, ifindex, 0)
    }

    /// Puts a flow under a number, and where its segments find it.
    ///
    /// # Errors
    /// What the kernel says; a place that is taken, say.
    pub fn install(&mut self, number: u32, flow: &Flow, keys: [Key; 2]) -> Result<(), MapError> {
        const NEW: u64 = 1; // BPF_NOEXIST
        self.flows.set(number, flow.to_bytes(), 0)?;
        for (side, key) in (0..).zip(keys) {
            let place = Place { flow: number, side };
            self.places.insert(key.to_bytes(), place.to_bytes(), NEW)?;
        }
        Ok(())
    }

    /// A flow as it is now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flow(&self, number: u32) -> Result<Option<Flow>, MapError> {
        Ok(Flow::from_bytes(&self.flows.get(&number, 0)?))
    }

    /// Forgets where a flow's segments find it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&mut self, keys: [Key; 2]) -> Result<(), MapError> {
        keys.into_iter()
            .try_for_each(|key| self.places.remove(&key.to_bytes()))
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

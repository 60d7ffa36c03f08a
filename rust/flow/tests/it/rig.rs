//! The program with one flow in it, and what becomes of a segment.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions};
use mailweir_flow::{
    Counter, Direction, Flow, Gate, Key, Place, Program, Reserved, State, Tables, Translation,
    Unavailable,
};

use crate::segment::Segment;

pub(crate) const UNSPEC: u32 = u32::MAX;
pub(crate) const SHOT: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 40_000);
pub(crate) const LISTENER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 25);
pub(crate) const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 10_001);
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 99), 25);
pub(crate) const NUMBER: u32 = 5;
/// Where client and server are, each in its own numbers and in ours towards it.
pub(crate) const C: [u32; 2] = [1_000, 0xffff_ff00];
pub(crate) const S: [u32; 2] = [0x8000_0000, 77];

pub(crate) fn keys() -> [Key; 2] {
    let key = |from, to| Key { from, to };
    [key(CLIENT, LISTENER), key(SERVER, SOURCE)]
}

pub(crate) fn gate(state: State) -> Gate {
    Gate {
        out: [1, 1],
        ..Gate::new(state)
    }
}

pub(crate) fn flow() -> Flow {
    let side = |told: Key, own: [u32; 2], other: [u32; 2]| {
        let told_as = Translation {
            // The other peer knows these bytes by our numbers towards it.
            seq_add: other[1].wrapping_sub(own[0]),
            ack_add: other[0].wrapping_sub(own[1]),
            tsval_add: 5_000,
            tsecr_add: 0_u32.wrapping_sub(9_000),
            scale: 7,
            ..Translation::to(told)
        };
        Direction {
            max_window: 512,
            mss: 1460,
            wnd_end: own[0].wrapping_add(64 * 1024),
            ..Direction::begin(told_as, own[0])
        }
    };
    let [client, server] = keys();
    Flow {
        greeting_begin: 0,
        greeting_end: 0,
        greeting_seq: S[0],
        lock: Reserved,
        note: [42; 64],
        sides: [side(server.reversed(), C, S), side(client.reversed(), S, C)],
    }
}

pub(crate) struct Rig {
    pub(crate) program: Program,
}

impl Rig {
    /// None where the program can't be had; in CI that is a failure.
    pub(crate) fn new(state: State) -> Option<Self> {
        Self::with(&gate(state), &flow())
    }

    pub(crate) fn with(gate: &Gate, flow: &Flow) -> Option<Self> {
        let program = match Program::load() {
            Ok(program) => program,
            Err(why @ Unavailable::NotBuilt) => return absent(&why),
            Err(why) if !may_load() => return absent(&why),
            Err(why) => panic!("{why:?}"),
        };
        let mut rig = Self { program };
        rig.replace(gate, flow);
        for (side, key) in (0..).zip(keys()) {
            let place = Place { flow: NUMBER, side };
            rig.program.tables().put(key, place).unwrap();
        }
        Some(rig)
    }

    pub(crate) fn replace(&mut self, gate: &Gate, flow: &Flow) {
        self.program.tables().set_gate(NUMBER, gate).unwrap();
        self.program.tables().set_flow(NUMBER, flow).unwrap();
    }

    pub(crate) fn flow(&mut self) -> Flow {
        self.program.tables().flow(NUMBER).unwrap()
    }

    pub(crate) fn gate(&mut self) -> Gate {
        self.program.tables().gate(NUMBER).unwrap()
    }

    /// Whether it was marked since the last call.
    pub(crate) fn has_moved(&mut self) -> bool {
        let marked = self.marked();
        assert!(marked.is_empty() || marked == [NUMBER]);
        !marked.is_empty()
    }

    /// Flows that were marked since the last call, of the first 64.
    pub(crate) fn marked(&mut self) -> Vec<u32> {
        let handle = self.program.tables().moved_handle();
        let handle = handle.as_fd().try_clone_to_owned().unwrap();
        let map = Map::from_map_data(MapData::from_fd(handle).unwrap()).unwrap();
        let mut bits: Array<_, [u32; 2]> = map.try_into().unwrap();
        let words = bits.get(&0, 0).unwrap();
        bits.set(0, [0, 0], 0).unwrap();
        let is_marked = |number: &u32| words[(number / 32) as usize] >> (number % 32) & 1 == 1;
        (0..64).filter(is_marked).collect()
    }

    /// What is noted of the last SYN that came in from there.
    pub(crate) fn noted(&mut self, client: SocketAddrV4) -> [u32; 2] {
        let handle = self.program.tables().syns_handle();
        let handle = handle.as_fd().try_clone_to_owned().unwrap();
        let map = Map::from_map_data(MapData::from_fd(handle).unwrap()).unwrap();
        let syns: Array<_, [u32; 2]> = map.try_into().unwrap();
        let (at, _) = Tables::syn_of(client, 0);
        syns.get(&(at as u32 / 2), 0).unwrap()
    }

    pub(crate) fn counted(&mut self, counter: Counter) -> u64 {
        self.program.tables().counted(counter).unwrap()
    }

    /// What becomes of a segment that comes in, and how it goes out.
    pub(crate) fn ingress(&mut self, segment: &Segment) -> (u32, Segment) {
        run(self.program.ingress(), &segment.frame())
    }

    /// What becomes of a frame that comes in, whatever is in it.
    pub(crate) fn ingress_of(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        run_frame(self.program.ingress(), frame)
    }

    /// What becomes of a segment of our own stack, and how it goes out.
    pub(crate) fn guard(&mut self, segment: &Segment) -> (u32, Segment) {
        run(self.program.guard(), &segment.frame())
    }

    pub(crate) fn rewritten(&mut self, segment: &Segment) -> Segment {
        let (verdict, out) = self.ingress(segment);
        assert_eq!(verdict, REDIRECT);
        out
    }
}

fn run(program: Result<&mut SchedClassifier, ProgramError>, frame: &[u8]) -> (u32, Segment) {
    let (verdict, out) = run_frame(program, frame);
    (verdict, Segment::parse(&out))
}

fn run_frame(program: Result<&mut SchedClassifier, ProgramError>, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    };
    let result = program.unwrap().test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

pub(crate) fn absent<T>(why: &Unavailable) -> Option<T> {
    // As tests/harness/needs.py and .ci/need take it.
    let ci = std::env::var("CI").unwrap_or_default();
    assert!(
        matches!(ci.as_str(), "" | "0" | "false"),
        "{why} (a skip, which CI doesn't allow)"
    );
    println!("skipped: {why}");
    None
}

fn may_load() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    // CAP_BPF, CAP_NET_ADMIN.
    let needed = 1 << 39 | 1 << 12;
    u64::from_str_radix(held.unwrap(), 16).unwrap() & needed == needed
}

pub(crate) fn from_client() -> Segment {
    Segment {
        seq: C[0],
        ack: C[1],
        ..Segment::new(CLIENT, LISTENER)
    }
}

pub(crate) fn from_server() -> Segment {
    Segment {
        seq: S[0],
        ack: S[1],
        ..Segment::new(SERVER, SOURCE)
    }
}

//! What the tables hold, as `bpf/tables.h` lays it out. Bytes to values and back; pure.
//!
//! Each struct is declared once, by `layout!`: the fields of the struct in C, by the same names and in
//! the same order, with no gap between them. tests/it/layout.rs compares the two.
//!
//! Sequence numbers, time stamps and windows are in host order, addresses and ports in network
//! order, as segments have them.

use std::net::{Ipv4Addr, SocketAddrV4};

mod fields;

use fields::{Value, layout, written};

pub use fields::{Field, Reserved};

/// Of what the tables hold: another one for each change of it.
pub const SCHEMA: u32 = 9;
/// Bytes of [`Flow::note`].
pub const NOTE_SIZE: usize = 64;
/// The 32-bit words of a [`Gate`].
pub const GATE_WORDS: usize = Gate::SIZE / WORD_SIZE;

const WORD_SIZE: usize = 4;

/// What rewritten segments and our own resets carry, so that the guard lets them out.
pub const MARK: u32 = 0x6d77;

/// Of the hash that says where a SYN is noted.
pub const CAME_BITS: u32 = 18;

/// By whom and to whom a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who sends it.
    pub from: SocketAddrV4,
    /// Whom it is for.
    pub to: SocketAddrV4,
}

layout! {
    /// A [`Key`] as the table has it, ports in network order.
    struct KeyInTable {
        from: Ipv4Addr,
        to: Ipv4Addr,
        from_port: [u8; 2],
        to_port: [u8; 2],
    }
}

layout! {
    /// Where a segment's flow is, and which side says it.
    pub struct Place {
        /// Its number in the tables of gates and flows; or [`Place::LINGERS`], [`Place::FORGOTTEN`].
        flow: u32,
        /// 0 for the client, 1 for the server.
        side: u32,
    }
}

/// What becomes of a flow's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They go up to the stack and are counted.
    Setup,
    /// They are dropped; the peers send them again.
    Hold,
    /// They are rewritten.
    Live,
    /// The flow has ended; what comes late is rewritten still.
    Closing,
    /// They go up to the stack; the flow is to be deleted.
    Passed,
}

layout! {
    /// How a side's segments are told to the other one.
    pub struct Translation {
        /// By whom and to whom the rewritten segment goes.
        told: Key,
        /// What is added to sequence numbers.
        seq_add: u32,
        /// What is added to acknowledgements and SACK blocks.
        ack_add: u32,
        /// What is added to time stamps.
        tsval_add: u32,
        /// What is added to echoes of time stamps.
        tsecr_add: u32,
        /// The announced window is shifted to the left by this...
        left: u8,
        /// ...and to the right by this.
        right: u8,
        /// This side's own window scale.
        scale: u8,
        /// Nothing.
        reserved: Reserved<1>,
    }
}

layout! {
    /// What one side says, and how the other one is told that.
    pub struct Direction {
        /// How its segments are told.
        told_as: Translation,
        /// Behind the last byte that it said (RFC 9293, 3.3.1: SND.NXT).
        snd_nxt: u32,
        /// Up to where the other side has acknowledged that.
        snd_una: u32,
        /// Up to where the other side has ever said that it takes it.
        wnd_end: u32,
        /// Behind its FIN, if `ends` says that it said one.
        fin: u32,
        /// What it has said or was told of the end, by the `END_` bits.
        ends: u32,
        /// The largest window that it has announced, in units of its scale.
        max_window: u16,
        /// The largest segment that it takes, options included, by its SYN.
        mss: u16,
        /// Payload since it is live that the other side has acknowledged.
        bytes_acked: u64,
        /// Segments since it is live that fitted.
        segs_in: u64,
        /// When the other side last acknowledged something new of it, on the monotonic clock; 0 for
        /// never.
        acked_ns: u64,
        /// Of the payload that was new last, acknowledged or not, the first bytes; of a client's in plain
        /// text the last ones of all that it has said, zeros before them.
        words: [u8; 8],
    }
}

layout! {
    /// What is left of a flow that is over, for what one side says late.
    pub struct Late {
        /// How that is told to the other side.
        told_as: Translation,
        /// The interface that leads to the other side.
        out: u32,
        /// User space's own.
        until: u32,
    }
}

/// It said FIN, or somebody in its name: what it says behind that takes it back.
pub const END_FIN: u32 = 1;
/// Its FIN was acknowledged.
pub const END_FIN_ACKED: u32 = 2;
/// It said RST, with a sequence number that is due.
pub const END_RST: u32 = 4;
/// Nobody had ended before.
pub const END_FIRST: u32 = 8;

/// In [`Gate::mss`]: what the server says may be cut into fragments on its way.
pub const CUT: u32 = 1 << 31;

/// In [`Gate::mss`], and of a listener: SYNs are to be without time stamps.
pub const WITHOUT_TIMESTAMPS: u32 = 1 << 16;
/// Likewise, without leave to acknowledge selectively.
pub const WITHOUT_SACK: u32 = 1 << 17;

layout! {
    /// Where clients come in whose sessions may be flows, in network order; 0.0.0.0 for all.
    pub struct Listener {
        /// Its address.
        address: Ipv4Addr,
        /// Its port.
        port: [u8; 2],
        /// Nothing.
        reserved: Reserved<2>,
    }
}

layout! {
    /// What becomes of a flow's segments; read and written in place, word by word.
    pub struct Gate {
        /// What becomes of its segments; none for a number that no state has.
        state: Option<State>,
        /// Whether our own socket still waits for the client to acknowledge the greeting.
        greeting: bool,
        /// The time stamp that each side said last; 0 for none.
        tsval: [u32; 2],
        /// Bytes of payload that came from each side in any state, and one for each FIN or RST; what
        /// comes again counts again.
        counted: [u32; 2],
        /// The interface that our own segments to each side went out by first; 0 for none. User
        /// space's to change where routes change.
        out: [u32; 2],
        /// When something new of each side was acknowledged last, by [`ticks`]; 0 for never.
        acked: [u32; 2],
        /// Behind the last that each side said, before the flow was live. The client's is user
        /// space's to write.
        rcv_nxt: [u32; 2],
        /// Behind the last that our own socket said to each side, before the flow was live.
        snd_nxt: [u32; 2],
        /// What user space has to do with its record, in its own words.
        recorded: u32,
        /// The largest segment that the server's SYN says it takes, options included; 0 for nothing.
        /// With [`CUT`], and with what our own SYN is to be without ([`Without`](crate::Without)).
        mss: u32,
    }
}

/// The unit of [`Gate::acked`]: 2^20 ns of the monotonic clock. Wraps after 52 days.
#[must_use]
pub fn ticks(monotonic_ns: u64) -> u32 {
    (monotonic_ns >> 20) as u32
}

/// Where each word of a [`Gate`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// [`Gate::state`].
    State = word("state"),
    /// [`Gate::greeting`].
    Greeting = word("greeting"),
    /// [`Gate::tsval`] of the client; the server's is the next.
    Tsval = word("tsval"),
    /// [`Gate::counted`], likewise.
    Counted = word("counted"),
    /// [`Gate::out`], likewise.
    Out = word("out"),
    /// [`Gate::acked`], likewise.
    Acked = word("acked"),
    /// [`Gate::rcv_nxt`], likewise.
    RcvNxt = word("rcv_nxt"),
    /// [`Gate::snd_nxt`], likewise.
    SndNxt = word("snd_nxt"),
    /// [`Gate::recorded`].
    Recorded = word("recorded"),
    /// [`Gate::mss`].
    Mss = word("mss"),
}

/// Which word of a [`Gate`] a field begins with.
const fn word(name: &str) -> isize {
    let mut fields = Gate::FIELDS;
    while let [field, rest @ ..] = fields {
        if is_same(field.name.as_bytes(), name.as_bytes()) {
            return (field.offset / WORD_SIZE) as isize;
        }
        fields = rest;
    }
    panic!("a gate has no such field")
}

/// `==`, which isn't there for constants.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => *a == *b && is_same(one, other),
        _ => false,
    }
}

layout! {
    /// A session on the kernel path: how its segments are rewritten, and what they said.
    pub struct Flow {
        /// Before what was said last of the greeting, in our numbers towards the client.
        greeting_begin: u32,
        /// Behind it.
        greeting_end: u32,
        /// Before all of the greeting, in the server's numbers.
        greeting_seq: u32,
        /// The program's, which the kernel keeps as it is: a `struct bpf_spin_lock`.
        lock: Reserved<4>,
        /// The client's and the server's.
        sides: [Direction; 2],
        /// What user space wants to know of it later.
        note: [u8; NOTE_SIZE],
    }
}

impl Place {
    /// Instead of a flow's number: it is over, and [`Late`] says how what comes late is told.
    pub const LINGERS: u32 = u32::MAX;
    /// Its client has come back from the same port.
    pub const FORGOTTEN: u32 = u32::MAX - 1;

    /// The number of its flow; none of one that is over.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        (self.flow < Self::FORGOTTEN).then_some(self.flow)
    }
}

impl Key {
    /// Bytes of it in the table.
    pub const SIZE: usize = KeyInTable::SIZE;
    /// Where its fields are there, in order.
    pub const FIELDS: &[Field] = KeyInTable::FIELDS;

    /// The same connection in the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }

    /// As the table has it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let in_table = KeyInTable {
            from: *self.from.ip(),
            to: *self.to.ip(),
            from_port: self.from.port().to_be_bytes(),
            to_port: self.to.port().to_be_bytes(),
        };
        in_table.to_bytes()
    }

    /// The opposite of [`Key::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let found = KeyInTable::from_bytes(bytes);
        let address = |ip, port| SocketAddrV4::new(ip, u16::from_be_bytes(port));
        Self {
            from: address(found.from, found.from_port),
            to: address(found.to, found.to_port),
        }
    }
}

impl State {
    /// Every one, in the program's order.
    pub const ALL: [Self; 5] = [
        Self::Setup,
        Self::Hold,
        Self::Live,
        Self::Closing,
        Self::Passed,
    ];

    /// As the table has it.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The opposite of [`State::number`]; none for a state that there isn't.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

impl Gate {
    /// As it begins.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state: Some(state),
            ..Self::from_bytes(&[0; Self::SIZE])
        }
    }
}

impl Translation {
    /// Told by these to those, and as it is.
    #[must_use]
    pub fn to(told: Key) -> Self {
        Self {
            told,
            ..Self::from_bytes(&[0; Self::SIZE])
        }
    }
}

impl Direction {
    /// A side that has said nothing yet, whose next byte is `snd_nxt`.
    #[must_use]
    pub fn begin(told_as: Translation, snd_nxt: u32) -> Self {
        Self {
            told_as,
            snd_nxt,
            snd_una: snd_nxt,
            wnd_end: snd_nxt,
            ..Self::from_bytes(&[0; Self::SIZE])
        }
    }

    /// Bytes that it said last and nobody has acknowledged.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        let ahead = self.snd_nxt.wrapping_sub(self.snd_una);
        // Nothing is behind an end that was acknowledged.
        if self.ends & END_FIN_ACKED != 0 || ahead > i32::MAX as u32 {
            0
        } else {
            ahead
        }
    }
}

written!(Key as [u8; Key::SIZE], Self::to_bytes, |bytes| {
    Self::from_bytes(&bytes)
});
written!(Option<State> as u32, |state| state.map_or(u32::MAX, State::number), State::of);

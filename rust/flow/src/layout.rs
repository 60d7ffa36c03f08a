//! What the tables hold, as `bpf/flow.bpf.c` lays it out. Bytes to values and back; pure.
//!
//! Sequence numbers, time stamps and windows are in host order, addresses and ports in network
//! order, as segments have them.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Of what the tables hold: another one for each change of it.
pub const SCHEMA: u32 = 5;
/// Bytes of a [`Key`].
pub const KEY_SIZE: usize = 12;
/// Bytes of a [`Place`].
pub const PLACE_SIZE: usize = 8;
/// Bytes of a [`Flow`].
pub const FLOW_SIZE: usize = HEAD_SIZE + 2 * DIRECTION_SIZE + NOTE_SIZE;
/// Bytes of [`Flow::note`].
pub const NOTE_SIZE: usize = 64;

/// Bytes of a [`Gate`].
pub const GATE_SIZE: usize = 4 * GATE_WORDS;
/// The 32-bit words of a [`Gate`], those in reserve included.
pub const GATE_WORDS: usize = 16;

const HEAD_SIZE: usize = 16;
const DIRECTION_SIZE: usize = 88;

/// By whom and to whom a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who sends it.
    pub from: SocketAddrV4,
    /// Whom it is for.
    pub to: SocketAddrV4,
}

/// Where a segment's flow is, and which side says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number in the tables of gates and flows.
    pub flow: u32,
    /// 0 for the client, 1 for the server.
    pub side: u32,
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

/// What one side says, and what the other one is told instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// By whom and to whom the rewritten segment goes.
    pub told: Key,
    /// What is added to sequence numbers.
    pub seq_add: u32,
    /// What is added to acknowledgements and SACK blocks.
    pub ack_add: u32,
    /// What is added to time stamps.
    pub tsval_add: u32,
    /// What is added to echoes of time stamps.
    pub tsecr_add: u32,
    /// The announced window is shifted to the left by this...
    pub left: u8,
    /// ...and to the right by this.
    pub right: u8,
    /// This side's own window scale.
    pub scale: u8,
    /// Behind the last byte that it said (RFC 9293, 3.3.1: SND.NXT).
    pub snd_nxt: u32,
    /// Up to where the other side has acknowledged that.
    pub snd_una: u32,
    /// Up to where the other side has ever said that it takes it.
    pub wnd_end: u32,
    /// Behind its FIN, if `ends` says that it said one.
    pub fin: u32,
    /// What it has said or was told of the end, by the `END_` bits.
    pub ends: u32,
    /// The largest window that it has announced, in units of its scale.
    pub max_window: u16,
    /// The largest segment that it takes, options included, by its SYN.
    pub mss: u16,
    /// Payload since it is live that the other side has acknowledged.
    pub bytes_acked: u64,
    /// Segments since it is live that fitted.
    pub segs_in: u64,
    /// When the other side last acknowledged something new of it, on the monotonic clock; 0 for
    /// never.
    pub acked_ns: u64,
    /// Of the payload that was new last, acknowledged or not, the first bytes; of a client's in plain
    /// text the last ones of all that it has said, zeros before them.
    pub words: [u8; 8],
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

/// What becomes of a flow's segments; read and written in place, word by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// What becomes of its segments.
    pub state: State,
    /// Whether our own socket still waits for the client to acknowledge the greeting.
    pub greeting: bool,
    /// The time stamp that each side said last, before the flow was live; the server's until the
    /// greeting is acknowledged. 0 for none.
    pub tsval: [u32; 2],
    /// Bytes of payload that came from each side in any state, and one for each FIN or RST; what
    /// comes again counts again.
    pub counted: [u32; 2],
    /// The interface that our own segments to each side went out by first; 0 for none. User
    /// space's to change where routes change.
    pub out: [u32; 2],
    /// When something new of each side was acknowledged last, by [`ticks`]; 0 for never.
    pub acked: [u32; 2],
    /// Behind the last that each side said, before the flow was live. The client's is user
    /// space's to write.
    pub rcv_nxt: [u32; 2],
    /// Behind the last that our own socket said to each side, before the flow was live.
    pub snd_nxt: [u32; 2],
    /// What user space has to do with its record, in its own words.
    pub recorded: u32,
    /// The largest segment that the server's SYN says it takes, options included; 0 for nothing.
    /// With [`CUT`].
    pub mss: u32,
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
    State,
    /// [`Gate::greeting`].
    Greeting,
    /// [`Gate::tsval`] of the client; the server's is the next.
    Tsval,
    /// [`Gate::counted`], likewise.
    Counted = 4,
    /// [`Gate::out`], likewise.
    Out = 6,
    /// [`Gate::acked`], likewise.
    Acked = 8,
    /// [`Gate::rcv_nxt`], likewise.
    RcvNxt = 10,
    /// [`Gate::snd_nxt`], likewise.
    SndNxt = 12,
    /// [`Gate::recorded`].
    Recorded = 14,
    /// [`Gate::mss`].
    Mss = 15,
}

/// A session on the kernel path: how its segments are rewritten, and what they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Before and behind what was said last of the greeting, in our numbers towards the client.
    pub greeting: [u32; 2],
    /// Before all of the greeting, in the server's numbers.
    pub greeting_seq: u32,
    /// The client's and the server's.
    pub sides: [Direction; 2],
    /// What user space wants to know of it later.
    pub note: [u8; NOTE_SIZE],
}

impl Key {
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
    pub fn to_bytes(self) -> [u8; KEY_SIZE] {
        let mut bytes = [0; KEY_SIZE];
        bytes[0..4].copy_from_slice(&self.from.ip().octets());
        bytes[4..8].copy_from_slice(&self.to.ip().octets());
        bytes[8..10].copy_from_slice(&self.from.port().to_be_bytes());
        bytes[10..12].copy_from_slice(&self.to.port().to_be_bytes());
        bytes
    }

    /// The opposite of [`Key::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_SIZE]) -> Self {
        let ip = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Self {
            from: SocketAddrV4::new(ip(0), port(8)),
            to: SocketAddrV4::new(ip(4), port(10)),
        }
    }
}

impl Place {
    /// As the table has it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PLACE_SIZE] {
        let mut bytes = [0; PLACE_SIZE];
        bytes[..4].copy_from_slice(&self.flow.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.side.to_ne_bytes());
        bytes
    }

    /// The opposite of [`Place::to_bytes`].
    #[must_use]
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; PLACE_SIZE]) -> Self {
        Self {
            flow: u32::from_ne_bytes([a, b, c, d]),
            side: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

impl State {
    const ALL: [Self; 5] = [
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
            state,
            greeting: false,
            tsval: [0; 2],
            counted: [0; 2],
            out: [0; 2],
            acked: [0; 2],
            rcv_nxt: [0; 2],
            snd_nxt: [0; 2],
            recorded: 0,
            mss: 0,
        }
    }

    /// As the table has it.
    #[must_use]
    pub fn to_words(&self) -> [u32; GATE_WORDS] {
        let mut words = [0; GATE_WORDS];
        words[Word::State as usize] = self.state.number();
        words[Word::Greeting as usize] = u32::from(self.greeting);
        for (word, pair) in [
            (Word::Tsval, self.tsval),
            (Word::Counted, self.counted),
            (Word::Out, self.out),
            (Word::Acked, self.acked),
            (Word::RcvNxt, self.rcv_nxt),
            (Word::SndNxt, self.snd_nxt),
        ] {
            words[word as usize..][..2].copy_from_slice(&pair);
        }
        words[Word::Recorded as usize] = self.recorded;
        words[Word::Mss as usize] = self.mss;
        words
    }

    /// The opposite of [`Gate::to_words`]; none for a state that there isn't.
    #[must_use]
    pub fn from_words(words: &[u32; GATE_WORDS]) -> Option<Self> {
        let pair = |word: Word| [words[word as usize], words[word as usize + 1]];
        Some(Self {
            state: State::of(words[Word::State as usize])?,
            greeting: words[Word::Greeting as usize] != 0,
            tsval: pair(Word::Tsval),
            counted: pair(Word::Counted),
            out: pair(Word::Out),
            acked: pair(Word::Acked),
            rcv_nxt: pair(Word::RcvNxt),
            snd_nxt: pair(Word::SndNxt),
            recorded: words[Word::Recorded as usize],
            mss: words[Word::Mss as usize],
        })
    }
}

impl Flow {
    /// As the table has it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FLOW_SIZE] {
        let mut bytes = [0; FLOW_SIZE];
        let mut writer = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        writer.u32(self.greeting[0]);
        writer.u32(self.greeting[1]);
        writer.u32(self.greeting_seq);
        // The program's lock, which the kernel keeps as it is.
        writer.u32(0);
        for side in &self.sides {
            side.write(&mut writer);
        }
        writer.put(&self.note);
        bytes
    }

    /// The opposite of [`Flow::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; FLOW_SIZE]) -> Self {
        let mut reader = Reader { bytes, at: 0 };
        let [begin, end, greeting_seq, _] = std::array::from_fn(|_| reader.u32());
        Self {
            greeting: [begin, end],
            greeting_seq,
            sides: [Direction::read(&mut reader), Direction::read(&mut reader)],
            note: reader.take(),
        }
    }
}

impl Direction {
    /// A side that has said nothing yet, whose next byte is `snd_nxt` and whose words are told as they
    /// are.
    #[must_use]
    pub fn begin(told: Key, snd_nxt: u32) -> Self {
        Self {
            told,
            seq_add: 0,
            ack_add: 0,
            tsval_add: 0,
            tsecr_add: 0,
            left: 0,
            right: 0,
            scale: 0,
            snd_nxt,
            snd_una: snd_nxt,
            wnd_end: snd_nxt,
            fin: 0,
            ends: 0,
            max_window: 0,
            mss: 0,
            bytes_acked: 0,
            segs_in: 0,
            acked_ns: 0,
            words: [0; 8],
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

    fn write(&self, to: &mut Writer<'_>) {
        to.put(&self.told.to_bytes());
        for value in [self.seq_add, self.ack_add, self.tsval_add, self.tsecr_add] {
            to.u32(value);
        }
        to.put(&[self.left, self.right, self.scale, 0]);
        for value in [
            self.snd_nxt,
            self.snd_una,
            self.wnd_end,
            self.fin,
            self.ends,
        ] {
            to.u32(value);
        }
        to.put(&self.max_window.to_ne_bytes());
        to.put(&self.mss.to_ne_bytes());
        for value in [self.bytes_acked, self.segs_in, self.acked_ns] {
            to.u64(value);
        }
        to.put(&self.words);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let told = Key::from_bytes(&from.take());
        let [seq_add, ack_add, tsval_add, tsecr_add] = std::array::from_fn(|_| from.u32());
        let [left, right, scale, _] = from.take();
        let [snd_nxt, snd_una, wnd_end, fin, ends] = std::array::from_fn(|_| from.u32());
        let [max_window, mss] = std::array::from_fn(|_| u16::from_ne_bytes(from.take()));
        let [bytes_acked, segs_in, acked_ns] = std::array::from_fn(|_| from.u64());
        Self {
            told,
            seq_add,
            ack_add,
            tsval_add,
            tsecr_add,
            left,
            right,
            scale,
            snd_nxt,
            snd_una,
            wnd_end,
            fin,
            ends,
            max_window,
            mss,
            bytes_acked,
            segs_in,
            acked_ns,
            words: from.take(),
        }
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8; FLOW_SIZE],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }
}

struct Reader<'a> {
    bytes: &'a [u8; FLOW_SIZE],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }
}

//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use super::habits::TIMESTAMPS;
use super::segment::each_option;

/// SMTP over a TCP stack that isn't Linux's.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

/// Where the stack is, and what it does otherwise than others.
#[derive(Group)]
pub(crate) struct Place {
    /// The interface whose frames it reads and writes
    #[arg(long)]
    pub(crate) interface: String,
    /// Its address there, in a network of 24 bits; the kernel must not have it
    #[arg(long)]
    pub(crate) address: Ipv4Addr,
    /// The router to other networks; without one there are none
    #[arg(long)]
    pub(crate) router: Option<Ipv4Addr>,
    #[command(flatten)]
    pub(crate) habits: Habits,
}

#[derive(Group, Clone)]
pub(crate) struct Habits {
    /// Receive buffers of so many bytes
    #[arg(long, default_value_t = 65_535)]
    pub(crate) buffer: usize,
    /// No time stamps
    #[arg(long)]
    pub(crate) no_timestamps: bool,
    /// No window scale
    #[arg(long)]
    pub(crate) no_scale: bool,
    /// The options of its SYNs, as hexadecimal digits: their order, segment size and scale. One
    /// without time stamps has none. Answers have those of them that were asked for
    #[arg(long, value_parser = bytes)]
    pub(crate) syn: Option<Options>,
    /// ECN is asked for
    #[arg(long)]
    pub(crate) ecn: Option<Ecn>,
    /// Announce this segment size
    #[arg(long)]
    pub(crate) mss: Option<u16>,
    /// Time stamps begin there, and go on in milliseconds
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) clock: u32,
    /// The first sequence number of each connection
    #[arg(long)]
    pub(crate) begin_at: Option<u32>,
    /// Segments of 1 to so many bytes of payload, cut anew each time that they are sent
    #[arg(long)]
    pub(crate) chop: Option<usize>,
    /// One in so many segments with payload is lost
    #[arg(long)]
    pub(crate) lose: Option<u32>,
    /// The first segment with payload is lost
    #[arg(long)]
    pub(crate) lose_first: bool,
    /// One in so many segments comes behind the next
    #[arg(long)]
    pub(crate) swap: Option<u32>,
    /// One in so many segments comes twice
    #[arg(long)]
    pub(crate) twice: Option<u32>,
    /// Each segment comes so many milliseconds later
    #[arg(long, default_value_t = 0)]
    pub(crate) delay: u32,
    /// And by chance up to so many more, so that some overtake others
    #[arg(long, default_value_t = 0)]
    pub(crate) jitter: u32,
    /// What chance begins with: the same again is the same chances again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seed: u32,
    /// A keepalive with a byte of old each so many milliseconds
    #[arg(long)]
    pub(crate) keep_alive: Option<u64>,
    /// Nor its SYN
    #[arg(long)]
    pub(crate) never_df: bool,
    /// No segment but the SYN forbids that it is cut into fragments
    #[arg(long)]
    pub(crate) no_df: bool,
    /// The hops that packets may take
    #[arg(long, default_value_t = 64)]
    pub(crate) ttl: u8,
    /// No segment is pushed (PSH)
    #[arg(long)]
    pub(crate) no_push: bool,
    /// Time stamps stand behind what else there is, without NOPs before them
    #[arg(long)]
    pub(crate) odd_options: bool,
    /// The bits of congestion are set in each packet and segment, which nobody agreed on
    #[arg(long)]
    pub(crate) congested: bool,
    /// So many bytes of something behind each packet without payload, in its frame
    #[arg(long, default_value_t = 0)]
    pub(crate) padding: usize,
    /// Each frame has a priority and no VLAN (IEEE 802.1Q, 9.6: VID 0), as some adapters send them
    #[arg(long)]
    pub(crate) priority_tag: bool,
}

/// Of a SYN, as it has them.
#[derive(Clone)]
pub(crate) struct Options(pub(crate) Vec<u8>);

fn bytes(digits: &str) -> Result<Options, String> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = str::from_utf8(pair).map_err(|error| error.to_string())?;
        u8::from_str_radix(pair, 16).map_err(|error| error.to_string())
    };
    pairs.map(byte).collect::<Result<_, _>>().map(Options)
}

/// How ECN is asked for.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Ecn {
    /// RFC 3168
    Plain,
    /// RFC 9768
    Accurate,
}

impl Habits {
    /// Milliseconds that a segment may be under way here.
    pub(crate) fn longest_delay(&self) -> u64 {
        u64::from(self.delay) + u64::from(self.jitter)
    }

    pub(crate) fn has_timestamps(&self) -> bool {
        let says = |Options(wanted): &Options| {
            let mut says = false;
            each_option(&mut wanted.clone(), |kind, _| says |= kind == TIMESTAMPS);
            says
        };
        !self.no_timestamps && self.syn.as_ref().is_none_or(says)
    }
}

#[derive(Subcommand)]
pub(crate) enum Mode {
    /// Sends mails, and says how each session ended as lines of JSON
    Client(ClientArgs),
    /// Takes mails until it is killed, and says what each session was as lines of JSON
    Sink(SinkArgs),
}

#[derive(Group)]
pub(crate) struct ClientArgs {
    /// Where to
    #[arg(long)]
    pub(crate) connect: SocketAddrV4,
    /// So many, all at a time
    #[arg(long, default_value_t = 1)]
    pub(crate) sessions: u16,
    /// Mails in each
    #[arg(long, default_value_t = 1)]
    pub(crate) messages: u16,
    /// Bytes of each mail, about
    #[arg(long, default_value_t = 1000)]
    pub(crate) size: usize,
    /// Reads nothing for so many milliseconds where a reply has filled its buffer
    #[arg(long, default_value_t = 0)]
    pub(crate) pause: u64,
    /// Says EHLO before it is greeted
    #[arg(long)]
    pub(crate) early: bool,
    /// Says everything as soon as it is greeted
    #[arg(long)]
    pub(crate) hasty: bool,
    /// How each session ends
    #[arg(long, default_value = "close")]
    pub(crate) end: Ending,
    /// For each session, in seconds
    #[arg(long, default_value_t = 30)]
    pub(crate) limit: u64,
}

/// How a client ends a session.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Ending {
    /// It waits for the answer to QUIT and closes
    Close,
    /// It closes its direction behind QUIT and reads on
    Half,
    /// It waits for the answer to QUIT and resets
    Reset,
    /// It resets in the middle of its mail
    Cut,
    /// It never says QUIT, and closes
    Leave,
}

#[derive(Group)]
pub(crate) struct SinkArgs {
    /// Its port
    #[arg(long)]
    pub(crate) port: u16,
    /// So many sessions at a time
    #[arg(long, default_value_t = 8)]
    pub(crate) places: usize,
    /// Bytes of the answer to EHLO, about
    #[arg(long, default_value_t = 100)]
    pub(crate) reply: usize,
}

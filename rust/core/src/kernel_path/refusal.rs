//! Why a session takes the relay. A closed list: metrics and alerts depend on it.

use serde::Serialize;

/// What keeps a session off the kernel path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// A leg of it speaks IPv6.
    Ipv6,
    /// A leg of it goes through an interface that isn't Ethernet, the loopback say.
    Interface,
    /// Segments of a leg have other addresses on the wire than its socket has: this host translates
    /// or encrypts them.
    Nat,
    /// There are as many flows as there may be.
    TableFull,
    /// No source port is left towards the server.
    NoPort,
    /// The client's SYN wasn't saved: SYN cookies were in use.
    NoSyn,
    /// The program saw no SYN of the client: its frames are tagged (802.1Q, VLAN 0), say, or an earlier
    /// filter keeps them from it.
    Unseen,
    /// The client spoke before it was greeted.
    EarlyTalker,
    /// The server's greeting was no whole one in time, longer than is kept of it (64 KiB), or
    /// something came behind it.
    Greeting,
    /// Time stamps or SACK are off on one leg alone: what this server takes wasn't known yet, say.
    Options,
    /// A peer's segments may be cut into fragments on their way (no DF).
    Fragments,
    /// A leg negotiated ECN.
    Ecn,
    /// A leg's clock counts microseconds.
    Clock,
    /// The server takes smaller segments than the client was told.
    SegmentSize,
    /// Our window scale on a leg is above that of the other peer.
    WindowScale,
    /// Something was on its way when it should have been quiet.
    Busy,
    /// A leg was closing.
    Closed,
    /// The system refused what the hand-over needs.
    System,
    /// The next process has the kernel path already: this one was upgraded.
    HandedOn,
}

impl Refusal {
    /// Every reason there is.
    pub const ALL: [Self; 19] = [
        Self::Ipv6,
        Self::Interface,
        Self::Nat,
        Self::TableFull,
        Self::NoPort,
        Self::NoSyn,
        Self::Unseen,
        Self::EarlyTalker,
        Self::Greeting,
        Self::Options,
        Self::Fragments,
        Self::Ecn,
        Self::Clock,
        Self::SegmentSize,
        Self::WindowScale,
        Self::Busy,
        Self::Closed,
        Self::System,
        Self::HandedOn,
    ];
}

//! Segments by an interface.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use mailweir_testkit::frames::{Frames, Heard, MOST};
use serde_json::{Value, json};
use smoltcp::wire::EthernetAddress;
use socket2::SockFilter;

use super::args::Addresses;
use super::frame::{self, NoSegment, Segment};

/// What waits to be read: tens of thousands of short frames.
const ROOM: usize = 64 << 20;
/// Frames that are read before anything else is done.
const TURN: usize = 256;

/// No interface has it. Frames may come to any that the kernel doesn't take for its own.
const OWN: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0x25, 0]);

/// An interface.
pub(crate) struct Wire {
    frames: Frames,
    said: Vec<u8>,
    /// Frames that nobody could make anything of.
    broken: u64,
}

impl Wire {
    /// Hears what is said to these addresses, where there are any, else everything.
    ///
    /// # Errors
    /// What the system says: no such interface, or nobody but root may.
    pub(crate) fn open(interface: &str, of: Option<Addresses>) -> io::Result<Self> {
        let filter = of.map(filter);
        let heard = Heard::Ipv4(filter.as_ref().map_or(&[], |filter| &filter[..]));
        Ok(Self {
            frames: Frames::open(interface, heard, ROOM)?,
            said: Vec::with_capacity(MOST),
            broken: 0,
        })
    }

    /// Has each segment that came answered by what `answer` says; some of them, where there are many.
    /// Whether there was any.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn hear<'a>(
        &mut self,
        mut answer: impl FnMut(&Segment<'_>) -> Option<Segment<'a>>,
    ) -> io::Result<bool> {
        for turn in 0..TURN {
            let Some(frame) = self.frames.receive()? else {
                return Ok(turn > 0);
            };
            let (next, said) = match frame::read(frame) {
                Ok((next, segment)) => (next, answer(&segment)),
                Err(NoSegment::Broken) => {
                    self.broken += 1;
                    continue;
                }
                Err(NoSegment::Other) => continue,
            };
            if let Some(said) = said {
                self.say(next, &said)?;
            }
        }
        Ok(true)
    }

    /// Sends a segment to the next Ethernet address. One that finds no room on the way is lost, and
    /// counted.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn say(&mut self, next: EthernetAddress, said: &Segment<'_>) -> io::Result<()> {
        frame::write(&mut self.said, [OWN, next], said);
        self.frames.send(&self.said)
    }

    /// Waits until something comes, or for so long.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<()> {
        self.frames.wait(limit)
    }

    /// Frames that were of no use or lost at this end.
    pub(crate) fn report(&self) -> Value {
        let losses = self.frames.losses();
        json!({"broken": self.broken, "unheard": losses.unheard, "unsent": losses.unsent})
    }
}

/// A program of the classic packet filter: takes what is for these addresses.
fn filter(addresses: Addresses) -> [SockFilter; 5] {
    const LOAD_WORD: u16 = 0x20;
    const AT_LEAST: u16 = 0x35;
    const ABOVE: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const DESTINATION: u32 = 14 + 16;
    let first = u32::from(addresses.first);
    let last = addresses
        .nth(addresses.count - 1)
        .map_or(first, Ipv4Addr::into);
    [
        SockFilter::new(LOAD_WORD, 0, 0, DESTINATION),
        SockFilter::new(AT_LEAST, 0, 1, first),
        SockFilter::new(ABOVE, 0, 1, last),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

//! An interface's frames, by AF_PACKET.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike, bind, recv, send};
use smoltcp::phy;
use smoltcp::wire::EthernetAddress;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::args::Addresses;
use super::frame::{self, MOST, NoSegment, Segment};
use super::tally::Losses;

/// Only what comes in, and holds IPv4 (linux/if_ether.h, in network order).
const IPV4: i32 = 0x0800_u16.to_be() as i32;
/// What waits to be read: tens of thousands of short frames.
const BUFFER: usize = 64 << 20;
/// Frames that are read before anything else is done.
const TURN: usize = 256;

/// No interface has it. Frames may come to any that the kernel doesn't take for its own.
const OWN: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0x25, 0]);

/// An interface.
pub(crate) struct Wire {
    socket: Socket,
    room: Box<[u8; MOST + 1]>,
    frame: Vec<u8>,
    pub(crate) losses: Losses,
}

impl Wire {
    /// Hears what is said to these addresses, where there are any, else everything.
    ///
    /// # Errors
    /// What the system says: no such interface, or nobody but root may.
    pub(crate) fn open(interface: &str, of: Option<Addresses>) -> io::Result<Self> {
        let address = link_address(interface)?;
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(IPV4)))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        if let Some(addresses) = of {
            socket.attach_filter(&filter(addresses))?;
        }
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self {
            socket,
            room: Box::new([0; MOST + 1]),
            frame: Vec::with_capacity(MOST),
            losses: Losses::default(),
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
            let read = recv(
                self.socket.as_raw_fd(),
                &mut self.room[..],
                MsgFlags::MSG_DONTWAIT,
            );
            let length = match read {
                Ok(length) => length,
                Err(nix::Error::EAGAIN) => return Ok(turn > 0),
                Err(error) => return Err(error.into()),
            };
            let (next, said) = match frame::read(&self.room[..length]) {
                Ok((next, segment)) => (next, answer(&segment)),
                Err(NoSegment::Broken) => {
                    self.losses.broken += 1;
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
        frame::write(&mut self.frame, [OWN, next], said);
        match send(self.socket.as_raw_fd(), &self.frame, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(nix::Error::ENOBUFS) => {
                self.losses.unsent += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something comes, or for so long.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<()> {
        match phy::wait(self.socket.as_raw_fd(), Some(limit.into())) {
            // Whoever is told to stop looks at that next.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let mut all = getifaddrs()?.filter(|one| one.interface_name == interface);
    let found = all.find_map(|one| one.address?.as_link_addr().copied());
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}"));
    found
        .filter(|address| address.len() > 0)
        .ok_or_else(missing)
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

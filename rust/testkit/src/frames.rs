//! An interface's frames, by AF_PACKET. What comes and finds no room is counted: a test whose own ends
//! lose frames says nothing of what is between them.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RxqOvfl;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, SockaddrLike, bind, recvmsg, send, setsockopt,
};
use serde::Serialize;
use smoltcp::phy;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// The longest frame of an interface with an MTU of 1500 bytes.
pub const MOST: usize = 1514;

/// linux/if_ether.h
const IPV4: u16 = 0x0800;
const EVERYTHING: u16 = 0x0003;

/// Which frames are heard, of those that it hasn't sent itself.
#[derive(Clone, Copy)]
pub enum Heard<'a> {
    /// All.
    All,
    /// Those that come in with IPv4 and that this program of the classic packet filter takes; all of
    /// these where it is empty.
    Ipv4(&'a [SockFilter]),
}

/// An interface that is read and written.
pub struct Frames {
    socket: Socket,
    /// With room for a byte too many: what is longer isn't taken for what it was cut to.
    room: Box<[u8; MOST + 1]>,
    beside: Vec<u8>,
    losses: FrameLosses,
}

/// Frames that were lost at this end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameLosses {
    /// They came and found no room, by what the newest frame that was read says.
    pub unheard: u32,
    /// They found no room on their way out.
    pub unsent: u64,
}

impl Frames {
    /// Opens the interface of this name, with room for so many bytes that wait to be read: a frame
    /// counts for up to 2.3 KiB, by what the kernel adds to it.
    ///
    /// # Errors
    /// What the system says: no such interface, or nobody but root may.
    pub fn open(interface: &str, heard: Heard<'_>, room: usize) -> io::Result<Self> {
        let address = link_address(interface)?;
        let (protocol, filter) = match heard {
            Heard::All => (EVERYTHING, &[][..]),
            Heard::Ipv4(filter) => (IPV4, filter),
        };
        let protocol = Protocol::from(i32::from(protocol.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, room)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        if !filter.is_empty() {
            socket.attach_filter(filter)?;
        }
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self {
            socket,
            room: Box::new([0; MOST + 1]),
            beside: cmsg_space!(u32),
            losses: FrameLosses::default(),
        })
    }

    /// The next frame that has come; none where there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let mut parts = [IoSliceMut::new(&mut self.room[..])];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let read = recvmsg::<()>(fd, &mut parts, Some(&mut self.beside), flags);
        let (length, unheard) = match read {
            Ok(read) => (read.bytes, unheard(read.cmsgs()?)),
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // None is told before there is any.
        self.losses.unheard = unheard.unwrap_or(self.losses.unheard);
        Ok(Some(&self.room[..length]))
    }

    /// Sends a frame. One that finds no room on the way is lost, and counted.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(nix::Error::ENOBUFS) => {
                self.losses.unsent += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a frame has come, or for so long.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        match phy::wait(self.socket.as_raw_fd(), Some(limit.into())) {
            // Whoever is told to stop looks at that next.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// What was lost here so far.
    #[must_use]
    pub fn losses(&self) -> FrameLosses {
        self.losses
    }
}

fn unheard(mut beside: impl Iterator<Item = ControlMessageOwned>) -> Option<u32> {
    beside.find_map(|message| match message {
        ControlMessageOwned::RxqOvfl(count) => Some(count),
        _ => None,
    })
}

fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let mut all = getifaddrs()?.filter(|one| one.interface_name == interface);
    let found = all.find_map(|one| one.address?.as_link_addr().copied());
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}"));
    found
        .filter(|address| address.len() > 0)
        .ok_or_else(missing)
}

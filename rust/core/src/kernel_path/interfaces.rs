//! Attaches the program to every interface that can carry a leg, also to those that come later.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use mailweir_flow::Program;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::metrics::Counter;

use super::gates::Gates;

/// linux/if_arp.h: Ethernet, also of virtual interfaces.
const ETHERNET: u16 = 1;
/// RTMGRP_LINK of linux/rtnetlink.h.
const LINKS: u32 = 1;

/// Where the program is.
pub(super) struct Interfaces {
    program: Mutex<Program>,
    /// By number.
    attached: RwLock<HashMap<u32, String>>,
    /// Every number that an interface of this name ever had.
    seen: Mutex<HashMap<String, HashSet<u32>>>,
    /// Readable when interfaces come or go.
    news: OwnedFd,
    /// How often somebody took it off one.
    pub(super) taken_off: Counter,
}

impl fmt::Debug for Interfaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attached.fmt(formatter)
    }
}

impl Interfaces {
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(program: Program) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let news = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(news.as_raw_fd(), &NetlinkAddr::new(0, LINKS))?;
        Ok(Self {
            program: Mutex::new(program),
            attached: RwLock::default(),
            seen: Mutex::default(),
            news,
            taken_off: Counter::default(),
        })
    }

    /// Waits for `limit` at most; whether interfaces came or went. At once: a segment that comes
    /// by one that isn't attached to gets to the stack, which resets its flow.
    pub(super) fn changed_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        let mut news = [PollFd::new(&self.news, PollFlags::IN)];
        let changed = poll(&mut news, limit.as_ref()).is_ok_and(|ready| ready > 0);
        // What they say is looked up anew; it only has to be taken.
        let mut buffer = [0; 8192];
        while rustix::io::read(&self.news, &mut buffer).is_ok_and(|size| size > 0) {}
        changed
    }

    /// Whether segments that come in by this interface are seen.
    pub(super) fn has(&self, index: u32) -> bool {
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        attached.contains_key(&index)
    }

    /// Attaches it wherever it isn't, or isn't any more, and forgets the interfaces that are gone.
    /// One that came back under another number takes the segments that were to go by the old one. One that it
    /// can't be attached to is left out: its sessions take the relay.
    ///
    /// # Errors
    /// It is attached nowhere; what the kernel says.
    pub(super) fn attach(&self, gates: &Gates) -> io::Result<()> {
        let found = present()?;
        let missing = self.missing();
        self.taken_off.add(missing.len() as u64);
        let mut attached = self
            .attached
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        attached.retain(|index, name| found.get(index) == Some(name) && !missing.contains(index));
        let mut result = Ok(());
        for (index, name) in found {
            if let Entry::Vacant(place) = attached.entry(index) {
                match self.attach_one(index, &name, gates) {
                    Ok(()) => drop(place.insert(name)),
                    Err(error) => result = Err(error),
                }
            }
        }
        if attached.is_empty() { result } else { Ok(()) }
    }

    /// Those that somebody took it off.
    fn missing(&self) -> HashSet<u32> {
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = attached.iter().filter(|(_, name)| program.is_missing(name));
        missing.map(|(index, _)| *index).collect()
    }

    fn attach_one(&self, index: u32, name: &str, gates: &Gates) -> io::Result<()> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program.attach(name).map_err(io::Error::other)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = seen.entry(name.to_owned()).or_default();
        numbers.insert(index);
        gates.lead_to(index, numbers);
        Ok(())
    }
}

/// The interfaces that can carry a leg.
fn present() -> io::Result<HashMap<u32, String>> {
    let mut found = HashMap::new();
    for one in getifaddrs()? {
        let link = one.address.as_ref().and_then(SockaddrStorage::as_link_addr);
        if let Some(link) = link
            && link.hatype() == ETHERNET
            && let Ok(index) = u32::try_from(link.ifindex())
        {
            found.insert(index, one.interface_name);
        }
    }
    Ok(found)
}

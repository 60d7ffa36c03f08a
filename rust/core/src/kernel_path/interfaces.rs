//! Attaches the program to every interface that can carry a leg, also to those that come later,
//! and takes it off those that don't any more.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use mailweir_flow::Program;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::metrics::Counter;

use super::links::{self, Carrier};
use super::{lock, netlink};

/// Groups of linux/rtnetlink.h: links; addresses, routes and rules of IPv4; next hops.
const GROUPS: u32 = 1 | 0x10 | 0x40 | 0x80 | 1 << 31;
/// RTM_NEWLINK, RTM_DELLINK.
const OF_LINKS: [u16; 2] = [16, 17];

/// Where the program is.
pub(super) struct Interfaces {
    program: Mutex<Program>,
    /// By number.
    attached: RwLock<HashMap<u32, Carrier>>,
    /// Where it can't be, by name, and why.
    refused: Mutex<BTreeMap<String, String>>,
    /// Readable when something has changed.
    news: OwnedFd,
    /// How often somebody took it off one.
    pub(super) taken_off: Counter,
    /// How often somebody removed its pins.
    pub(super) unpinned: Counter,
}

/// What has changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) links: bool,
    pub(super) routes: bool,
}

impl News {
    /// Whatever it was: there was more than the kernel keeps.
    const ALL: Self = Self {
        links: true,
        routes: true,
    };

    /// Of what the kernel says in one go.
    fn of(said: &[u8]) -> Self {
        let mut news = Self::default();
        for message in netlink::messages(said) {
            news.links |= OF_LINKS.contains(&message.kind);
            // Those of links as well: routes by one that goes down go without a word.
            news.routes = true;
        }
        news
    }
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
        bind(news.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self {
            program: Mutex::new(program),
            attached: RwLock::default(),
            refused: Mutex::default(),
            news,
            taken_off: Counter::default(),
            unpinned: Counter::default(),
        })
    }

    /// What changes within `limit`, or until the bell rings. Of links it is told at once: a segment
    /// that comes by a link that it isn't attached to gets to the stack, which resets its flow.
    pub(super) fn news_within(&self, limit: Duration, bell: BorrowedFd<'_>) -> News {
        let until = Instant::now() + limit;
        let mut all = News::default();
        loop {
            let mut left = until.saturating_duration_since(Instant::now());
            if all.links {
                // Only what is there already.
                left = Duration::ZERO;
            }
            let left = Timespec::try_from(left).ok();
            let mut ready = [
                PollFd::new(&self.news, PollFlags::IN),
                PollFd::from_borrowed_fd(bell, PollFlags::IN),
            ];
            let some = poll(&mut ready, left.as_ref()).is_ok_and(|ready| ready > 0);
            if !some || ready[0].revents().is_empty() {
                return all;
            }
            let news = self.read();
            all.links |= news.links;
            all.routes |= news.routes;
        }
    }

    fn read(&self) -> News {
        let mut buffer = [0; 32 * 1024];
        match rustix::io::read(&self.news, &mut buffer) {
            Ok(size) => News::of(&buffer[..size]),
            Err(_) => News::ALL,
        }
    }

    /// Whether segments that come in by this interface are seen.
    pub(super) fn has(&self, index: u32) -> bool {
        self.attached().contains_key(&index)
    }

    /// Where it can't be, by name, and why.
    pub(super) fn refused(&self) -> BTreeMap<String, String> {
        lock(&self.refused).clone()
    }

    /// Why nothing outlives the process, if that is so.
    pub(super) fn ends_with_process(&self) -> Option<String> {
        lock(&self.program).pins().err().map(ToOwned::to_owned)
    }

    /// What outlives the process may be another one's from now on.
    pub(super) fn let_go(&self) {
        lock(&self.program).let_go();
    }

    /// Removes all that would outlive the process.
    pub(super) fn flush(&self) {
        // What can't be removed is found by the next process.
        let _ = lock(&self.program).flush();
    }

    /// Attaches it wherever it isn't, or isn't any more, and takes it off where it is to be no
    /// more; whether it is at more than before. One that it can't be attached to is left out: its
    /// sessions take the relay.
    ///
    /// # Errors
    /// It is attached nowhere; what the kernel says.
    pub(super) fn attach(&self) -> io::Result<bool> {
        let carriers = links::carriers(&links::all()?);
        let mut program = lock(&self.program);
        let wanted = carriers.values();
        program.leave_others(&wanted.map(|one| (one.name.as_str(), one.framing)).collect());
        if program.pin_again() {
            self.unpinned.add(1);
        }
        // Each question may wait for others that change interfaces, and workers are not to wait for
        // it: nobody else changes what is attached.
        let mut attached = self.attached().clone();
        attached.retain(|index, carrier| carriers.get(index) == Some(carrier));
        let before = attached.len();
        attached.retain(|_, carrier| !program.is_missing(&carrier.name));
        self.taken_off.add((before - attached.len()) as u64);
        self.set_attached(attached.clone());
        let mut refused = BTreeMap::new();
        let (mut has_more, mut result) = (false, Ok(false));
        for (index, carrier) in carriers {
            if let Entry::Vacant(place) = attached.entry(index) {
                match program.attach(&carrier.name, carrier.framing) {
                    Ok(()) => {
                        place.insert(carrier);
                        has_more = true;
                    }
                    Err(error) => {
                        refused.insert(carrier.name, error.to_string());
                        result = Err(io::Error::other(error));
                    }
                }
            }
        }
        let is_anywhere = !attached.is_empty();
        self.set_attached(attached);
        *lock(&self.refused) = refused;
        if is_anywhere { Ok(has_more) } else { result }
    }

    fn attached(&self) -> RwLockReadGuard<'_, HashMap<u32, Carrier>> {
        self.attached.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_attached(&self, attached: HashMap<u32, Carrier>) {
        *self
            .attached
            .write()
            .unwrap_or_else(PoisonError::into_inner) = attached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_seen() {
        let message = |kind: u16| {
            let mut message = 16_u32.to_ne_bytes().to_vec();
            message.extend(kind.to_ne_bytes());
            message.resize(16, 0);
            message
        };
        let routes = News {
            routes: true,
            ..News::default()
        };
        // An address and a route; a link among them.
        let few = [message(20), message(24)].concat();
        assert_eq!(News::of(&few), routes);
        assert_eq!(News::of(&[few, message(16)].concat()), News::ALL);
        assert_eq!(News::of(&[]), News::default());
    }
}

//! Attaches the program to every interface that can carry a leg, also to those that come later.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError, RwLock};

use mailweir_flow::Program;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// linux/if_arp.h: Ethernet, also of virtual interfaces.
const ETHERNET: u16 = 1;

/// Where the program is.
pub(super) struct Interfaces {
    program: Mutex<Program>,
    /// By number.
    attached: RwLock<HashMap<u32, String>>,
}

impl fmt::Debug for Interfaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attached.fmt(formatter)
    }
}

impl Interfaces {
    pub(super) fn new(program: Program) -> Self {
        Self {
            program: Mutex::new(program),
            attached: RwLock::default(),
        }
    }

    /// Whether segments that come in by this interface are seen.
    pub(super) fn has(&self, index: u32) -> bool {
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        attached.contains_key(&index)
    }

    /// Attaches it wherever it isn't yet, and forgets the interfaces that are gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn attach(&self) -> io::Result<()> {
        let found = present()?;
        let mut attached = self
            .attached
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        attached.retain(|index, name| found.get(index) == Some(name));
        for (index, name) in found {
            if let Entry::Vacant(place) = attached.entry(index) {
                let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
                program.attach(&name).map_err(io::Error::other)?;
                place.insert(name);
            }
        }
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

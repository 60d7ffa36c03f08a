//! Puts the program on interfaces: by links (tcx) or, on kernels that lack those, as filters of a
//! clsact qdisc, which every kernel has that runs the program. Either way behind what others have
//! there, and in the place of what an earlier process of the same instance left.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::programs::links::{FdLink, Link, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc};

use crate::program::Unavailable;

/// Among filters: behind those of whom says nothing else.
const PRIORITY: u16 = 50_000;

/// How this kernel takes programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// From 6.6 on.
    Tcx,
    Clsact,
}

/// What an interface's frames begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Bare,
}

/// A part of the program, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) way: TcAttachType,
    pub(crate) framing: Framing,
}

impl Part {
    const ALL: [Self; 4] = [
        Self::new("guard", TcAttachType::Egress, Framing::Ethernet),
        Self::new("ingress", TcAttachType::Ingress, Framing::Ethernet),
        Self::new("guard_bare", TcAttachType::Egress, Framing::Bare),
        Self::new("ingress_bare", TcAttachType::Ingress, Framing::Bare),
    ];

    const fn new(name: &'static str, way: TcAttachType, framing: Framing) -> Self {
        Self { name, way, framing }
    }

    /// What goes to an interface.
    pub(crate) fn for_framing(framing: Framing) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |part| part.framing == framing)
    }
}

/// Where a part is attached, and what outlives the process by.
pub(crate) struct Spot<'a> {
    pub(crate) interface: &'a str,
    pub(crate) way: TcAttachType,
    /// The folder, and the file's name there.
    pub(crate) pin: Option<(&'a Path, String)>,
}

/// The name of the file that says that a part is at an interface.
pub(crate) fn pin_name(part: Part, interface: &str) -> String {
    // A BPF file system takes no dots, which interfaces of VLANs have.
    format!("{}:{}", part.name, interface.replace('.', "%2e"))
}

/// The opposite of [`pin_name`].
pub(crate) fn pinned(name: &str) -> Option<(Part, String)> {
    Part::ALL.into_iter().find_map(|part| {
        let interface = name.strip_prefix(part.name)?.strip_prefix(':')?;
        Some((part, interface.replace("%2e", ".")))
    })
}

impl<'a> Spot<'a> {
    pub(crate) fn new(part: Part, interface: &'a str, pins: Option<&'a Path>) -> Self {
        Self {
            interface,
            way: part.way,
            pin: pins.map(|pins| (pins, pin_name(part, interface))),
        }
    }

    /// Attaches a part here, and nothing of ours stays here but that. What is given back keeps it
    /// here, also where somebody removes its pin; a filter that has one needs nothing.
    pub(crate) fn attach(
        &self,
        part: &mut SchedClassifier,
        hook: Hook,
    ) -> Result<Option<SchedClassifierLink>, Unavailable> {
        let pin = self.pin.as_ref().map(|(pins, name)| pins.join(name));
        let held = match (hook, &pin) {
            (Hook::Tcx, Some(pin)) => Some(self.attach_link(part, pin)?),
            (Hook::Tcx, None) => Some(self.link(part)?),
            (Hook::Clsact, pin) => self.attach_filter(part, pin.as_deref())?,
        };
        if hook == Hook::Tcx {
            self.remove_filter();
        }
        Ok(held)
    }

    fn attach_link(
        &self,
        part: &mut SchedClassifier,
        pin: &Path,
    ) -> Result<SchedClassifierLink, Unavailable> {
        let there = PinnedLink::from_pin(pin).map(FdLink::from);
        // It may be the pin of a filter.
        if let Ok(link) = there.and_then(SchedClassifierLink::try_from) {
            // At once, so that no segment gets past it. Refused by one whose interface is gone;
            // and it may be that of another one of this name, in a network that was left.
            if let Ok(link) = part.attach_to_link(link) {
                let link = part.take_link(link)?;
                if self.has(part) == Some(true) {
                    return Ok(link);
                }
            }
        }
        remove(pin)?;
        pin_link(self.link(part)?, pin)
    }

    fn link(&self, part: &mut SchedClassifier) -> Result<SchedClassifierLink, Unavailable> {
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached = part.attach_with_options(self.interface, self.way, order)?;
        Ok(part.take_link(attached)?)
    }

    /// Whether a part is attached here by a link; none where that can't be seen: not everybody
    /// may look.
    pub(crate) fn has(&self, part: &SchedClassifier) -> Option<bool> {
        let own = part.info().ok()?.id();
        let (_, attached) = SchedClassifier::query_tcx(self.interface, self.way).ok()?;
        Some(attached.iter().any(|one| one.id() == own))
    }

    /// A filter outlives the process by itself; the pin says that it is there.
    fn attach_filter(
        &self,
        part: &mut SchedClassifier,
        pin: Option<&Path>,
    ) -> Result<Option<SchedClassifierLink>, Unavailable> {
        // It may be there; what can't be made shows by what follows.
        let _ = tc::qdisc_add_clsact(self.interface);
        let attached = match part.attach_to_link(self.filter()?) {
            Err(_) => {
                let options = NlOptions {
                    priority: PRIORITY,
                    handle: self.handle(),
                    classid: None,
                };
                let options = TcAttachOptions::Netlink(options);
                part.attach_with_options(self.interface, self.way, options)?
            }
            replaced => replaced?,
        };
        let filter = part.take_link(attached)?;
        let Some(pin) = pin else {
            return Ok(Some(filter));
        };
        // Which may be that of a link, gone with it.
        remove(pin)?;
        part.pin(pin)?;
        std::mem::forget(filter);
        Ok(None)
    }

    /// Takes off whatever an instance has here, but for links that something else holds.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.remove_filter();
        match &self.pin {
            Some((pins, name)) => remove(&pins.join(name)),
            None => Ok(()),
        }
    }

    fn remove_filter(&self) {
        if let Ok(filter) = self.filter() {
            // There may be none, or no interface.
            let _ = filter.detach();
        }
    }

    fn filter(&self) -> Result<SchedClassifierLink, ProgramError> {
        let filter =
            SchedClassifierLink::attached(self.interface, self.way, PRIORITY, self.handle(), None);
        filter.map_err(ProgramError::IOError)
    }

    fn handle(&self) -> TcHandle {
        handle(self.pin.as_ref().map(|(pins, _)| *pins))
    }
}

/// Has a link outlive the process.
pub(crate) fn pin_link(
    link: SchedClassifierLink,
    pin: &Path,
) -> Result<SchedClassifierLink, Unavailable> {
    let pinned = FdLink::try_from(link)?.pin(pin)?;
    Ok(FdLink::from(pinned).try_into()?)
}

/// It may be gone already.
fn remove(pin: &Path) -> io::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// One of an instance's own among filters; of a process's own where nothing outlives it.
fn handle(pins: Option<&Path>) -> TcHandle {
    let process = std::process::id().to_ne_bytes();
    let name = pins.map_or(&process[..], |pins| pins.as_os_str().as_bytes());
    // FNV-1a, the same in every version.
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    // 0 would let the kernel choose.
    TcHandle::from(hash | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_say_where_a_part_is() {
        for part in Part::ALL {
            let name = pin_name(part, "eth0.7");
            assert!(!name.contains('.'));
            assert_eq!(pinned(&name), Some((part, "eth0.7".to_owned())));
        }
        assert_eq!(pinned("places"), None);
    }
}

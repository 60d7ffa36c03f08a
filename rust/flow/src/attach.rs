//! Puts the program on interfaces: by links (tcx) or, on kernels that lack those, as filters of a
//! clsact qdisc, which every kernel has that runs the program. Either way behind what others have
//! there, and in the place of what an earlier process of the same instance left.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// A part of the program, and where it goes.
pub(crate) const PARTS: [(&str, TcAttachType); 2] = [
    ("guard", TcAttachType::Egress),
    ("ingress", TcAttachType::Ingress),
];

/// Where a part is attached, and what outlives the process by.
pub(crate) struct Spot<'a> {
    pub(crate) interface: &'a str,
    pub(crate) way: TcAttachType,
    /// The folder, and the file's name there.
    pub(crate) pin: Option<(&'a Path, String)>,
}

impl<'a> Spot<'a> {
    pub(crate) fn new(
        part: &str,
        way: TcAttachType,
        interface: &'a str,
        pins: Option<&'a Path>,
    ) -> Self {
        // A BPF file system takes no dots, which interfaces of VLANs have.
        let name = format!("{part}:{}", interface.replace('.', "%2e"));
        Self {
            interface,
            way,
            pin: pins.map(|pins| (pins, name)),
        }
    }

    /// Attaches a part here.
    pub(crate) fn attach(&self, part: &mut SchedClassifier, hook: Hook) -> Result<(), Unavailable> {
        match (hook, &self.pin) {
            (Hook::Tcx, Some((pins, name))) => self.attach_link(part, &pins.join(name)),
            (Hook::Tcx, None) => {
                let order = TcAttachOptions::TcxOrder(LinkOrder::default());
                part.attach_with_options(self.interface, self.way, order)?;
                Ok(())
            }
            (Hook::Clsact, pin) => {
                let pin = pin.as_ref().map(|(pins, name)| (*pins, pins.join(name)));
                self.attach_filter(part, pin)
            }
        }
    }

    fn attach_link(&self, part: &mut SchedClassifier, pin: &Path) -> Result<(), Unavailable> {
        if let Ok(pinned) = PinnedLink::from_pin(pin) {
            let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
            // At once, so that no segment gets past it. Refused by one whose interface is gone;
            // and it may be that of another one of this name, in a network that was left.
            if part.attach_to_link(link).is_ok() && self.has(part) == Some(true) {
                return Ok(());
            }
            fs::remove_file(pin)?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached = part.attach_with_options(self.interface, self.way, order)?;
        let link = FdLink::try_from(part.take_link(attached)?)?;
        link.pin(pin)?;
        Ok(())
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
        pin: Option<(&Path, PathBuf)>,
    ) -> Result<(), Unavailable> {
        // It may be there; what can't be made shows by what follows.
        let _ = tc::qdisc_add_clsact(self.interface);
        let handle = handle(pin.as_ref().map(|(pins, _)| *pins));
        let attached = match part.attach_to_link(self.filter(handle)?) {
            Err(_) => {
                let options = NlOptions {
                    priority: PRIORITY,
                    handle,
                    classid: None,
                };
                let options = TcAttachOptions::Netlink(options);
                part.attach_with_options(self.interface, self.way, options)?
            }
            replaced => replaced?,
        };
        if let Some((_, pin)) = pin {
            std::mem::forget(part.take_link(attached)?);
            let _ = fs::remove_file(&pin);
            part.pin(&pin)?;
        }
        Ok(())
    }

    fn filter(&self, handle: TcHandle) -> Result<SchedClassifierLink, ProgramError> {
        let filter =
            SchedClassifierLink::attached(self.interface, self.way, PRIORITY, handle, None);
        filter.map_err(ProgramError::IOError)
    }
}

/// Removes the filter that a file of this name stands for, if it stands for one.
pub(crate) fn detach(pins: &Path, name: &str) {
    for (part, way) in PARTS {
        let interface = name
            .strip_prefix(part)
            .and_then(|rest| rest.strip_prefix(':'));
        let Some(interface) = interface.map(|name| name.replace("%2e", ".")) else {
            continue;
        };
        let spot = Spot::new(part, way, &interface, Some(pins));
        if let Ok(filter) = spot.filter(handle(Some(pins))) {
            // It can only be gone already, with its interface; or there is a link, which goes with
            // its file.
            let _ = filter.detach();
        }
    }
}

/// One of an instance's own among filters.
fn handle(pins: Option<&Path>) -> TcHandle {
    let name = pins.map_or(&b""[..], |pins| pins.as_os_str().as_bytes());
    // FNV-1a, the same in every version.
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    // 0 would let the kernel choose.
    TcHandle::from(hash | 1)
}

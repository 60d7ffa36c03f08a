//! Loads the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::tables::{TABLES, Tables};

/// Empty where it was built without clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow.o"));

/// Why there is no kernel path.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The program isn't in this build.
    #[error("it was built without clang")]
    NotBuilt,
    /// The kernel doesn't take it: too old, or this process may not.
    #[error("the kernel refuses it: {0}")]
    Refused(#[from] EbpfError),
    /// An attachment of it.
    #[error("the kernel refuses to attach it: {0}")]
    Link(#[from] LinkError),
    /// A pin of that.
    #[error("it can't be pinned: {0}")]
    Pin(#[from] PinError),
    /// The folder for pins.
    #[error("it can't be pinned: {0}")]
    Pins(#[from] io::Error),
    /// It does on this kernel what it shouldn't.
    #[error("its self-test failed: {0}")]
    SelfTest(&'static str),
    /// A part of it.
    #[error("the kernel refuses the program: {0}")]
    Program(#[from] ProgramError),
    /// A table of it.
    #[error("the kernel refuses a table: {0}")]
    Table(#[from] MapError),
}

/// The program, loaded.
pub struct Program {
    bpf: Ebpf,
    tables: Tables,
    pins: Option<PathBuf>,
}

impl Program {
    /// Loads it into the kernel. With a folder for `pins`, on a BPF file system, tables and
    /// attachments are kept there and outlive the process; those that are there are used.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load(pins: Option<&Path>) -> Result<Self, Unavailable> {
        if OBJECT.is_empty() {
            return Err(Unavailable::NotBuilt);
        }
        let mut loader = EbpfLoader::new();
        if let Some(pins) = pins {
            fs::create_dir_all(pins)?;
            for table in TABLES {
                loader.map_pin_path(table, pins.join(table));
            }
        }
        let mut bpf = loader.load(OBJECT)?;
        for part in ["ingress", "guard"] {
            classifier(&mut bpf, part)?.load()?;
        }
        let tables = Tables::take(&mut bpf)?;
        Ok(Self {
            bpf,
            tables,
            pins: pins.map(Path::to_owned),
        })
    }

    /// Attaches it to an interface: for as long as this value lives or, where there are pins, in
    /// the place of what an earlier process attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: &str) -> Result<(), Unavailable> {
        for (part, way) in [
            ("guard", TcAttachType::Egress),
            ("ingress", TcAttachType::Ingress),
        ] {
            // A BPF file system takes no dots, which interfaces of VLANs have.
            let pin = format!("{part}:{}", interface.replace('.', "%2e"));
            let pin = self.pins.as_ref().map(|pins| pins.join(pin));
            let classifier = classifier(&mut self.bpf, part)?;
            if let Some(pin) = pin {
                attach_pinned(classifier, interface, way, &pin)?;
            } else {
                classifier.attach(interface, way)?;
            }
        }
        Ok(())
    }

    /// The part that rewrites: for segments that come in.
    ///
    /// # Errors
    /// It isn't there, which is a bug.
    pub fn ingress(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        classifier(&mut self.bpf, "ingress")
    }

    /// The part that keeps our own stack from ending flows: for segments that go out.
    ///
    /// # Errors
    /// It isn't there, which is a bug.
    pub fn guard(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        classifier(&mut self.bpf, "guard")
    }

    /// The tables of it.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }
}

fn attach_pinned(
    classifier: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
    pin: &Path,
) -> Result<(), Unavailable> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
        // At once, so that no segment gets past it. Refused by one whose interface is gone; and
        // it may be that of another one of this name, in a network that was left.
        if classifier.attach_to_link(link).is_ok() && is_attached(classifier, interface, way) {
            return Ok(());
        }
        fs::remove_file(pin)?;
    }
    let attached = classifier.attach(interface, way)?;
    let link = FdLink::try_from(classifier.take_link(attached)?)?;
    link.pin(pin)?;
    Ok(())
}

/// Whether it is known to be attached there: not everybody may look.
fn is_attached(classifier: &SchedClassifier, interface: &str, way: TcAttachType) -> bool {
    let attached = SchedClassifier::query_tcx(interface, way);
    match (classifier.info(), attached) {
        (Ok(own), Ok((_, attached))) => attached.iter().any(|program| program.id() == own.id()),
        _ => false,
    }
}

/// Removes what was pinned in a folder: flows that are there end with it.
///
/// # Errors
/// What the system says; no folder is no error.
pub fn flush(pins: &Path) -> io::Result<()> {
    let files = match fs::read_dir(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        fs::remove_file(file?.path())?;
    }
    fs::remove_dir(pins)
}

fn classifier<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = bpf.program_mut(name);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

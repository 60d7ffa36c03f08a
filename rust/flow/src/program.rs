//! Loads the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::LinkError;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::attach::{Hook, PARTS, Spot, detach};
use crate::tables::{TABLES, Tables};

/// Empty where it was built without clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow.o"));

/// Whether the program is in this build.
#[must_use]
pub fn is_built() -> bool {
    !OBJECT.is_empty()
}

/// Why there is no kernel path.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The program isn't in this build.
    #[error("it was built without clang; install that and build mailweir again")]
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
    hook: Hook,
}

impl Program {
    /// Loads it into the kernel. With a folder for `pins`, on a BPF file system, tables and
    /// attachments are kept there and outlive the process; those that are there are used.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load(pins: Option<&Path>) -> Result<Self, Unavailable> {
        if !is_built() {
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
            hook: Hook::Tcx,
        })
    }

    /// Attaches it to an interface: for as long as this value lives or, where there are pins, in
    /// the place of what an earlier process attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: &str) -> Result<(), Unavailable> {
        for (part, way) in PARTS {
            let spot = Spot::new(part, way, interface, self.pins.as_deref());
            let classifier = classifier(&mut self.bpf, part)?;
            let result = spot.attach(classifier, self.hook);
            if result.is_err() && self.hook == Hook::Tcx {
                // Nobody says whether it is this interface or every one.
                spot.attach(classifier, Hook::Clsact)?;
                self.hook = Hook::Clsact;
            } else {
                result?;
            }
        }
        Ok(())
    }

    /// Whether somebody took it off an interface that it was attached to, as far as that can be
    /// seen: where it is attached by links.
    pub fn is_missing(&mut self, interface: &str) -> bool {
        self.hook == Hook::Tcx
            && PARTS.into_iter().any(|(part, way)| {
                let spot = Spot::new(part, way, interface, None);
                let classifier = classifier(&mut self.bpf, part);
                classifier.is_ok_and(|classifier| spot.has(classifier) == Some(false))
            })
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
        let file = file?;
        detach(pins, &file.file_name().to_string_lossy());
        fs::remove_file(file.path())?;
    }
    fs::remove_dir(pins)
}

fn classifier<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = bpf.program_mut(name);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

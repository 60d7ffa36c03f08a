//! Loads the program.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::LinkError;
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::attach::{Hook, PARTS, Spot, pin_name, pinned};
use crate::tables::{TABLES, Tables};

/// Empty where it was built without clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow.o"));

/// Bits of a mode: group and others may write.
const OTHERS_WRITE: u32 = 0o022;

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
    /// The folder of what outlives the process; or why nothing does.
    pins: Result<PathBuf, String>,
    /// How it is attached to each interface.
    hooks: HashMap<String, Hook>,
    /// What holds it where there are no pins, by what their names would be.
    held: HashMap<String, SchedClassifierLink>,
}

impl Program {
    /// Loads it into the kernel, for as long as this value lives.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load() -> Result<Self, Unavailable> {
        Self::load_with(Err("it was loaded without".to_owned()))
    }

    /// Loads it into the kernel. In the folder `pins`, on a BPF file system, tables and attachments are
    /// kept and outlive the process; those that are there are used. Where that can't be, nothing
    /// does.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub fn load_pinned(pins: &Path) -> Result<Self, Unavailable> {
        let folder = own_folder(pins).map(|()| pins.to_owned());
        Self::load_with(folder.map_err(|why| why.to_string()))
    }

    fn load_with(pins: Result<PathBuf, String>) -> Result<Self, Unavailable> {
        if !is_built() {
            return Err(Unavailable::NotBuilt);
        }
        let mut loader = EbpfLoader::new();
        if let Ok(pins) = &pins {
            for table in TABLES {
                loader.map_pin_path(table, pins.join(table));
            }
        }
        let mut bpf = loader.load(OBJECT)?;
        for (part, _) in PARTS {
            classifier(&mut bpf, part)?.load()?;
        }
        let tables = Tables::take(&mut bpf)?;
        Ok(Self {
            bpf,
            tables,
            pins,
            hooks: HashMap::new(),
            held: HashMap::new(),
        })
    }

    /// The folder of what outlives the process.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn pins(&self) -> Result<&Path, &str> {
        self.pins.as_deref().map_err(String::as_str)
    }

    /// Attaches it to an interface: for as long as this value lives or, where there are pins, in
    /// the place of what an earlier process attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: &str) -> Result<(), Unavailable> {
        // Nobody says whether a refusal is about this interface or about every one.
        let hook = match self.attach_by(interface, Hook::Tcx) {
            Ok(()) => Hook::Tcx,
            Err(_) => {
                self.attach_by(interface, Hook::Clsact)?;
                Hook::Clsact
            }
        };
        self.hooks.insert(interface.to_owned(), hook);
        Ok(())
    }

    fn attach_by(&mut self, interface: &str, hook: Hook) -> Result<(), Unavailable> {
        for (part, way) in PARTS {
            let spot = Spot::new(part, way, interface, self.pins.as_deref().ok());
            let classifier = classifier(&mut self.bpf, part)?;
            let name = pin_name(part, interface);
            match spot.attach(classifier, hook)? {
                Some(link) => self.held.insert(name, link),
                None => self.held.remove(&name),
            };
        }
        Ok(())
    }

    /// Takes it off all interfaces but these: it may be there by an earlier process.
    pub fn leave_others(&mut self, interfaces: &HashSet<&str>) {
        let pins = self.pins.as_deref().ok();
        let there = pins.map(names).unwrap_or_default();
        let there: HashSet<String> = there.into_iter().chain(self.held.keys().cloned()).collect();
        for name in there {
            let Some((number, interface)) = pinned(&name) else {
                continue;
            };
            if !interfaces.contains(interface.as_str()) {
                let (part, way) = PARTS[number];
                // What can't be removed is tried again.
                let _ = Spot::new(part, way, &interface, pins).clear();
                self.held.remove(&name);
                self.hooks.remove(&interface);
            }
        }
    }

    /// Whether somebody took it off an interface that it was attached to, or removed its pin there.
    /// Of filters only the latter can be seen.
    pub fn is_missing(&mut self, interface: &str) -> bool {
        let hook = self.hooks.get(interface).copied();
        PARTS.into_iter().any(|(part, way)| {
            let spot = Spot::new(part, way, interface, None);
            let pin = self
                .pins
                .as_deref()
                .map(|pins| pins.join(pin_name(part, interface)));
            let classifier = classifier(&mut self.bpf, part);
            pin.is_ok_and(|pin| !pin.exists())
                || hook == Some(Hook::Tcx)
                    && classifier.is_ok_and(|part| spot.has(part) == Some(false))
        })
    }

    /// Pins the tables again where somebody removed them; whether that was so. Where it can't be
    /// done, nothing outlives the process from now on.
    pub fn pin_again(&mut self) -> bool {
        let Ok(pins) = &self.pins else {
            return false;
        };
        if TABLES.iter().all(|table| pins.join(table).exists()) {
            return false;
        }
        let pinned = own_folder(pins)
            .map_err(Unavailable::from)
            .and_then(|()| self.tables.pin(pins));
        if let Err(why) = pinned {
            self.pins = Err(why.to_string());
        }
        true
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
    for name in names(pins) {
        match pinned(&name) {
            Some((number, interface)) => {
                let (part, way) = PARTS[number];
                Spot::new(part, way, &interface, Some(pins)).clear()?;
            }
            None => fs::remove_file(pins.join(name))?,
        }
    }
    match fs::remove_dir(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Of the files in a folder; none where it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.file_name().into_string().ok())
        .collect()
}

/// Makes a folder for pins, or takes the one that is there if it is ours alone: whoever can write
/// there says what becomes of segments.
fn own_folder(pins: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(pins) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(pins)?;
    let ours = rustix::process::geteuid().as_raw();
    if found.is_dir() && found.uid() == ours && found.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} isn't ours alone: it belongs to user {}, with mode {:o}; remove it",
            pins.display(),
            found.uid(),
            found.mode() & 0o7777
        ),
    ))
}

fn classifier<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = bpf.program_mut(name);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

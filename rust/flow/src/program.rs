//! Loads the program.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::LinkError;
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::attach::{Framing, Hook, Part, Spot, pin_link, pin_name, pinned};
use crate::tables::{self, TABLES, Tables};

/// Empty where it was built without clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow.o"));

/// Flows where it is only to be shown something.
const FEW: u32 = 64;

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
    /// That folder, as long as nobody else may have it.
    own: Option<File>,
    /// Why what somebody removed there can't be pinned again, if that is so.
    lost: Option<String>,
    /// How it is attached to each interface.
    hooks: HashMap<String, (Hook, Framing)>,
    /// What keeps it there, by the names that pins have or would have.
    held: HashMap<String, SchedClassifierLink>,
}

impl Program {
    /// Loads it into the kernel, for as long as this value lives.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load() -> Result<Self, Unavailable> {
        Self::load_with(Err("it was loaded without".to_owned()), FEW)
    }

    /// Loads it into the kernel, with tables for so many `flows`. In the folder `pins`, on a BPF file
    /// system, tables and attachments are kept and outlive the process; those that are there are
    /// used, of another size too unless they are empty. Where that can't be, since another process has
    /// the folder, say, nothing does.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub fn load_pinned(pins: &Path, flows: u32) -> Result<Self, Unavailable> {
        let own = make_folder(pins).and_then(|()| lock(pins));
        if own.is_ok() && !are_usable(pins, flows) {
            // What can't be removed is used as it is.
            let _ = clear(pins);
        }
        let folder = match &own {
            Ok(_) => Ok(pins.to_owned()),
            Err(why) => Err(why.to_string()),
        };
        let mut program = Self::load_with(folder, flows)?;
        program.own = own.ok();
        Ok(program)
    }

    fn load_with(pins: Result<PathBuf, String>, flows: u32) -> Result<Self, Unavailable> {
        if !is_built() {
            return Err(Unavailable::NotBuilt);
        }
        let mut loader = EbpfLoader::new();
        for (table, entries) in tables::entries(flows) {
            loader.map_max_entries(table, entries);
        }
        if let Ok(pins) = &pins {
            for table in TABLES {
                loader.map_pin_path(table, pins.join(table));
            }
        }
        let mut bpf = loader.load(OBJECT)?;
        // Those for other interfaces are loaded where there is one.
        for part in Part::for_framing(Framing::Ethernet) {
            classifier(&mut bpf, part.name)?.load()?;
        }
        let tables = Tables::of(&bpf)?;
        Ok(Self {
            bpf,
            tables,
            pins,
            own: None,
            lost: None,
            hooks: HashMap::new(),
            held: HashMap::new(),
        })
    }

    /// The folder of what outlives the process.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn pins(&self) -> Result<&Path, &str> {
        match &self.lost {
            Some(why) => Err(why),
            None => self.pins.as_deref().map_err(String::as_str),
        }
    }

    /// Attaches it to an interface: for as long as this value lives or, where there are pins, in
    /// the place of what an earlier process attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: &str, framing: Framing) -> Result<(), Unavailable> {
        for part in Part::for_framing(framing) {
            let classifier = classifier(&mut self.bpf, part.name)?;
            if classifier.fd().is_err() {
                classifier.load()?;
            }
        }
        // Nobody says whether a refusal is about this interface or about every one.
        let hook = match self.attach_by(interface, framing, Hook::Tcx) {
            Ok(()) => Hook::Tcx,
            Err(_) => {
                self.attach_by(interface, framing, Hook::Clsact)?;
                Hook::Clsact
            }
        };
        self.hooks.insert(interface.to_owned(), (hook, framing));
        Ok(())
    }

    fn attach_by(
        &mut self,
        interface: &str,
        framing: Framing,
        hook: Hook,
    ) -> Result<(), Unavailable> {
        for part in Part::for_framing(framing) {
            let pins = match &self.lost {
                Some(_) => None,
                None => self.pins.as_deref().ok(),
            };
            let spot = Spot::new(part, interface, pins);
            let classifier = classifier(&mut self.bpf, part.name)?;
            let name = pin_name(part, interface);
            if hook == Hook::Tcx
                && self.held.contains_key(&name)
                && spot.has(classifier) == Some(true)
            {
                // The other part was taken off.
                continue;
            }
            match spot.attach(classifier, hook)? {
                Some(link) => self.held.insert(name, link),
                None => self.held.remove(&name),
            };
        }
        Ok(())
    }

    /// Takes it off all interfaces but these: it may be there by an earlier process.
    pub fn leave_others(&mut self, interfaces: &HashMap<&str, Framing>) {
        let pins = self.pins.as_deref().ok();
        let there = pins.map(names).unwrap_or_default();
        let there: HashSet<String> = there.into_iter().chain(self.held.keys().cloned()).collect();
        let is_wanted = |interface: &str, framing| interfaces.get(interface) == Some(&framing);
        for name in there {
            let Some((part, interface)) = pinned(&name) else {
                continue;
            };
            if !is_wanted(&interface, part.framing) {
                // What can't be removed is tried again.
                let _ = Spot::new(part, &interface, pins).clear();
                self.held.remove(&name);
            }
        }
        self.hooks
            .retain(|interface, (_, framing)| is_wanted(interface, *framing));
    }

    /// Whether somebody took it off an interface that it was attached to, as far as that can be
    /// seen: where it is attached by links.
    pub fn is_missing(&mut self, interface: &str) -> bool {
        let Some((Hook::Tcx, framing)) = self.hooks.get(interface).copied() else {
            return false;
        };
        Part::for_framing(framing).any(|part| {
            let spot = Spot::new(part, interface, None);
            let classifier = classifier(&mut self.bpf, part.name);
            classifier.is_ok_and(|classifier| spot.has(classifier) == Some(false))
        })
    }

    /// Pins again what somebody removed the pins of: what these were of never went. Whether that
    /// is news. Where it can't be done, nothing outlives the process until it can.
    pub fn pin_again(&mut self) -> bool {
        let Ok(pins) = self.pins.clone() else {
            return false;
        };
        let is_missing = |name: &str| !pins.join(name).exists();
        let mut missing = vec![];
        for (interface, (_, framing)) in &self.hooks {
            let parts = Part::for_framing(*framing).map(|part| (part, pin_name(part, interface)));
            missing.extend(parts.filter(|(_, name)| is_missing(name)));
        }
        if missing.is_empty() && !TABLES.into_iter().any(is_missing) {
            self.lost = None;
            return false;
        }
        let is_news = self.lost.is_none();
        let pinned = self.pin_to(&pins, missing);
        self.lost = pinned.err().map(|why| why.to_string());
        is_news
    }

    fn pin_to(&mut self, pins: &Path, missing: Vec<(Part, String)>) -> Result<(), Unavailable> {
        make_folder(pins)?;
        if !is_at(self.own.as_ref(), pins) {
            self.own = Some(lock(pins)?);
        }
        self.tables.pin(pins)?;
        for (part, name) in missing {
            let pin = pins.join(&name);
            match self.held.remove(&name) {
                Some(link) => drop(self.held.insert(name, pin_link(link, &pin)?)),
                // A filter is there by itself.
                None => classifier(&mut self.bpf, part.name)?.pin(&pin)?,
            }
        }
        Ok(())
    }

    /// Another process may have the folder from now on, while this one lives.
    pub fn let_go(&mut self) {
        self.own = None;
    }

    /// Removes all that would outlive the process.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.held.clear();
        match &self.pins {
            Ok(pins) => remove(pins),
            Err(_) => Ok(()),
        }
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
/// What the system says: a process has it, say. No folder is no error.
pub fn flush(pins: &Path) -> io::Result<()> {
    if !pins.exists() {
        return Ok(());
    }
    let _own = lock(pins)?;
    remove(pins)
}

fn remove(pins: &Path) -> io::Result<()> {
    clear(pins)?;
    match fs::remove_dir(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether what is pinned there can be gone on with, where so many flows are wanted: all of it, of
/// sizes that fit each other. What there is nothing of can.
fn are_usable(pins: &Path, flows: u32) -> bool {
    let there = TABLES.iter().filter(|name| pins.join(name).exists());
    match there.count() {
        0 => true,
        some if some < TABLES.len() => false,
        // What can't be looked at is left for those who may.
        _ => Tables::pinned(pins).ok().flatten().is_none_or(|tables| {
            let fits = tables.most_flows() == flows || !tables.is_empty();
            fits && tables.fit_each_other()
        }),
    }
}

/// Leaves nothing in a folder.
fn clear(pins: &Path) -> io::Result<()> {
    for name in names(pins) {
        match pinned(&name) {
            Some((part, interface)) => Spot::new(part, &interface, Some(pins)).clear()?,
            None => fs::remove_file(pins.join(name))?,
        }
    }
    Ok(())
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
fn make_folder(pins: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(pins) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let words = format!("{} can't be made: {error}", pins.display());
            return Err(io::Error::new(error.kind(), words));
        }
        Ok(()) => {}
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

/// No other process can take a folder as long as it is open here: one of another container may see the
/// same BPF file system and call its folder alike.
fn lock(pins: &Path) -> io::Result<File> {
    let folder = File::open(pins)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{} is another process's, in another container say; give this one a `state_dir` of \
                 another name",
                pins.display()
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is the folder that is there.
fn is_at(own: Option<&File>, pins: &Path) -> bool {
    let inode = |data: fs::Metadata| (data.dev(), data.ino());
    let here = own.and_then(|folder| folder.metadata().ok()).map(inode);
    here.is_some() && here == fs::symlink_metadata(pins).ok().map(inode)
}

fn classifier<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = bpf.program_mut(name);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

//! Loads the program.

use aya::maps::MapError;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfError};

use crate::tables::Tables;

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
    /// A part of it.
    #[error("the kernel refuses the program: {0}")]
    Program(#[from] ProgramError),
    /// A table of it.
    #[error("the kernel refuses a table: {0}")]
    Table(#[from] MapError),
}

/// The program, loaded and attached to nothing yet.
pub struct Program {
    bpf: Ebpf,
    tables: Tables,
}

impl Program {
    /// Loads it into the kernel.
    ///
    /// # Errors
    /// Why that can't be.
    pub fn load() -> Result<Self, Unavailable> {
        if OBJECT.is_empty() {
            return Err(Unavailable::NotBuilt);
        }
        let mut bpf = Ebpf::load(OBJECT)?;
        for part in ["ingress", "guard"] {
            classifier(&mut bpf, part)?.load()?;
        }
        let tables = Tables::take(&mut bpf)?;
        Ok(Self { bpf, tables })
    }

    /// Attaches it to an interface, for as long as this value lives.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&mut self, interface: &str) -> Result<(), ProgramError> {
        self.guard()?.attach(interface, TcAttachType::Egress)?;
        self.ingress()?.attach(interface, TcAttachType::Ingress)?;
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

fn classifier<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = bpf.program_mut(name);
    program.ok_or(ProgramError::NotLoaded)?.try_into()
}

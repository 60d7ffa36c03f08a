//! What is in the kernel of an instance whose process may not run: for commands that look there.

use std::io;
use std::path::PathBuf;

use mailweir_flow::{State, Tables, Unavailable};

use super::{NoKernelPath, adopt, bpf_files, earlier, pins};

/// What an instance has in the kernel, whether its process runs or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Sessions that go on.
    pub live: usize,
    /// Those that have ended and whose record isn't in the log, or that never were: they go with the
    /// next process.
    pub others: usize,
    /// Sessions of other versions.
    pub earlier: usize,
}

/// Looks what an instance has in the kernel; none where there is nothing.
///
/// # Errors
/// What the kernel says.
pub fn left(instance: &str) -> Result<Option<Left>, NoKernelPath> {
    let files = looked_into(bpf_files())?;
    let tables = Tables::pinned(&pins(instance)).map_err(Unavailable::from)?;
    let folders = earlier::others(&files, instance);
    if tables.is_none() && folders.is_empty() {
        return Ok(None);
    }
    let opened = folders
        .iter()
        .map(|pins| mailweir_flow::Earlier::open(pins));
    let earlier = opened.flatten().map(|one| one.servers().len()).sum();
    let (live, others) = tables.map_or(Ok((0, 0)), |tables| count(&tables))?;
    Ok(Some(Left {
        live,
        others,
        earlier,
    }))
}

/// The folder of all pins. Where a user may not look into it, that is no sign that nothing is there.
fn looked_into(files: PathBuf) -> Result<PathBuf, NoKernelPath> {
    match files.read_dir() {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(NoKernelPath::System {
            what: "its pins can't be looked for",
            cause,
        }),
        _ => Ok(files),
    }
}

/// Flows that are live, and other places.
fn count(tables: &Tables) -> Result<(usize, usize), NoKernelPath> {
    let found = adopt::found(tables.places().map_err(Unavailable::from)?);
    let is_live = |number: &&u32| {
        let gate = tables.gate(**number);
        gate.is_ok_and(|gate| gate.state == Some(State::Live))
    };
    let live = found.flows.keys().filter(is_live).count();
    Ok((live, found.flows.len() - live))
}

/// Removes everything that an instance has in the kernel: the sessions end there.
///
/// # Errors
/// What the system says.
pub fn flush(instance: &str) -> Result<(), NoKernelPath> {
    let all = earlier::others(&looked_into(bpf_files())?, instance);
    for pins in all.iter().chain([&pins(instance)]) {
        mailweir_flow::flush(pins).map_err(|cause| NoKernelPath::System {
            what: "its pins can't be removed",
            cause,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_not_empty() {
        let nothing = PathBuf::from("/proc/self/nothing");
        assert_eq!(looked_into(nothing.clone()).ok(), Some(nothing));
        let no_folder = looked_into("/proc/self/status".into());
        let Err(NoKernelPath::System { cause, .. }) = no_folder else {
            panic!("it was taken for empty");
        };
        assert_eq!(cause.kind(), io::ErrorKind::NotADirectory);
    }
}

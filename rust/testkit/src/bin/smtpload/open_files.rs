//! Lets one process hold as many sockets as the system allows it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one. A failure is harmless until the
/// descriptors run out, and is reported then.
pub(crate) fn raise_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: hard,
            maximum: hard,
        },
    );
}

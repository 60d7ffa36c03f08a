//! `mailweir._dataplane`: the data plane as a Python extension. Types in, types out.
//!
//! Nothing is decided here and nothing calls back into Python. Whatever waits does so with
//! Python's lock released. The contract is python/mailweir/_dataplane.pyi.

mod errors;
mod plane;
mod sessions;
mod stats;

use pyo3::prelude::*;

/// The data plane of mailweir.
#[pymodule(gil_used = false)]
mod _dataplane {
    #[pymodule_export]
    use super::errors::{BindError, KernelPathError, LogError, PlaneError, SpecError};
    #[pymodule_export]
    use super::plane::{
        DataPlane, check, kernel_path_flush, kernel_path_is_built, kernel_path_left,
    };
    #[pymodule_export]
    use super::sessions::{ServerTrouble, Session};
    #[pymodule_export]
    use super::stats::{
        Histogram, KernelPathStats, ListenerStats, LogStats, PoolStats, RelayStats, RoomStats,
        ServerStats, SourcesStats, Stats, StickyStats,
    };
}

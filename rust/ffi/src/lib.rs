//! `mailweir._dataplane`: the data plane as a Python extension. JSON in, JSON out.
//!
//! Nothing is decided here and nothing calls back into Python. Whatever waits does so with
//! Python's lock released. The contract is python/mailweir/_dataplane.pyi.

mod errors;
mod plane;

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
}

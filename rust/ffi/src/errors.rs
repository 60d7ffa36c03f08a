//! The core's errors as Python's.

use mailweir_core as core;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    mailweir._dataplane,
    PlaneError,
    PyException,
    "Base of what the data plane refuses."
);
create_exception!(
    mailweir._dataplane,
    SpecError,
    PlaneError,
    "The specification can't be read or contradicts itself; the message names the part."
);
create_exception!(
    mailweir._dataplane,
    BindError,
    PlaneError,
    "A listening address can't be had; the message names listener, address and cause."
);

create_exception!(
    mailweir._dataplane,
    LogError,
    PlaneError,
    "The session log can't be opened; the message names it and the cause."
);

create_exception!(
    mailweir._dataplane,
    KernelPathError,
    PlaneError,
    "A listener insists on the kernel path, and there is none; the message says why."
);

/// One of the exceptions above, with the error's own words.
pub(crate) fn apply_error(error: &core::ApplyError) -> PyErr {
    let message = error.to_string();
    match error {
        core::ApplyError::Spec(_) => SpecError::new_err(message),
        core::ApplyError::Bind { .. } => BindError::new_err(message),
        core::ApplyError::Log(_) => LogError::new_err(message),
        core::ApplyError::KernelPath(_) => KernelPathError::new_err(message),
        core::ApplyError::Draining => PlaneError::new_err(message),
    }
}

/// For what isn't applied, only looked at.
pub(crate) fn spec_error(error: &core::SpecError) -> PyErr {
    SpecError::new_err(error.to_string())
}

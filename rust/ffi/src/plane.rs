//! The running data plane.

use std::net::IpAddr;
use std::os::fd::{IntoRawFd, RawFd};

use mailweir_core as core;
use mailweir_core::spec::{PlaneSpec, Prefix, ServerState, decode};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Serialize;

use crate::errors::{KernelPathError, PlaneError, SpecError, apply_error, spec_error};

/// Worker threads and what they run. They never take Python's lock.
#[pyclass(frozen, module = "mailweir._dataplane")]
pub(crate) struct DataPlane(core::DataPlane);

#[pymethods]
impl DataPlane {
    /// Starts the worker threads. Nothing listens before the first `apply`. `kept` are descriptors
    /// of listening sockets to go on with; they stay the caller's.
    #[new]
    #[pyo3(signature = (*, workers, kept))]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 gives an owned list")]
    fn new(py: Python<'_>, workers: usize, kept: Vec<RawFd>) -> PyResult<Self> {
        if workers == 0 {
            return Err(PlaneError::new_err(
                "a data plane needs at least one worker",
            ));
        }
        let plane = py
            .detach(|| core::DataPlane::start(workers, &kept))
            .map_err(|error| PlaneError::new_err(format!("workers can't start: {error}")))?;
        plane.keep_panics();
        Ok(Self(plane))
    }

    /// Makes `spec`, a `PlaneSpec` as JSON, the running one, at once and whole; the new generation
    /// number.
    #[pyo3(signature = (*, spec))]
    fn apply(&self, py: Python<'_>, spec: &[u8]) -> PyResult<u64> {
        py.detach(|| self.0.apply(&decode(spec)?))
            .map_err(|error| apply_error(&error))
    }

    /// Changes what servers may be used for, those of a pool all at once; those that aren't there are
    /// passed over. JSON, a `[pool, server, state]` of each.
    #[pyo3(signature = (*, states))]
    fn set_server_states(&self, py: Python<'_>, states: &[u8]) -> PyResult<()> {
        py.detach(|| {
            let states: Vec<(String, String, ServerState)> = decode(states)?;
            self.0.set_server_states(&states);
            Ok(())
        })
        .map_err(|error| spec_error(&error))
    }

    /// Stops accepting; sessions are cut as the specification's `drain` has it. Who is in the
    /// accept queues is served and nobody listens afterwards, but with `to_successor`: then they
    /// are left to it.
    #[pyo3(signature = (*, to_successor))]
    fn drain(&self, py: Python<'_>, to_successor: bool) {
        let parting = if to_successor {
            core::Parting::ToSuccessor
        } else {
            core::Parting::ForGood
        };
        py.detach(|| self.0.drain(parting));
    }

    /// Leaves listening sockets and flows to the next process, which lives already; the other
    /// sessions go on to their end.
    fn hand_over(&self, py: Python<'_>) {
        py.detach(|| self.0.hand_over());
    }

    /// So many sessions the process before this one has still: an `Elsewhere` as JSON.
    #[pyo3(signature = (*, elsewhere))]
    fn set_elsewhere(&self, py: Python<'_>, elsewhere: &[u8]) -> PyResult<()> {
        py.detach(|| decode(elsewhere).map(|told| self.0.set_elsewhere(told)))
            .map_err(|error| spec_error(&error))
    }

    /// Of a process that drains: sessions leave at the next place for it, without a spread.
    fn hurry(&self) {
        self.0.hurry();
    }

    /// New descriptors of all listening sockets, which are the caller's to close.
    fn listening(&self, py: Python<'_>) -> PyResult<Vec<RawFd>> {
        let found = py.detach(|| self.0.listening());
        let found = found.map_err(|error| PlaneError::new_err(error.to_string()))?;
        Ok(found.into_iter().map(IntoRawFd::into_raw_fd).collect())
    }

    /// Counters and gauges of this moment, but those of servers: a `Stats` as JSON.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        told(py, || self.0.stats())
    }

    /// Servers at this moment, a list of `ServerStats` as JSON; with their times where wanted.
    #[pyo3(signature = (*, with_times))]
    fn servers<'py>(&self, py: Python<'py>, with_times: bool) -> PyResult<Bound<'py, PyBytes>> {
        told(py, || self.0.servers(with_times))
    }

    /// What servers have done to sessions, a list of `PoolConduct` as JSON.
    fn conduct<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        told(py, || self.0.conduct())
    }

    /// Live sessions, the oldest first, a list of `SessionStats` as JSON; `server` is pool and
    /// name, `client` a prefix. None is any.
    #[pyo3(signature = (*, listener, server, client, limit))]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 gives owned text")]
    fn sessions<'py>(
        &self,
        py: Python<'py>,
        listener: Option<String>,
        server: Option<(String, String)>,
        client: Option<String>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let filter = core::SessionFilter {
            listener: listener.as_deref(),
            server: server.as_ref().map(|(pool, server)| (&**pool, &**server)),
            client: client.as_deref().map(prefix).transpose()?,
        };
        told(py, || self.0.sessions(filter, limit))
    }

    /// The server that the next session of a client in a pool would get now; None where there is
    /// none.
    #[pyo3(signature = (*, pool, client))]
    fn next_server(&self, pool: &str, client: &str) -> PyResult<Option<(String, String)>> {
        Ok(self.0.next_server(pool, ip(client)?))
    }

    /// What would become of a client at a listener now, an `Admission` as JSON.
    #[pyo3(signature = (*, listener, client))]
    fn admission<'py>(
        &self,
        py: Python<'py>,
        listener: &str,
        client: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let client = ip(client)?;
        told(py, || self.0.admission(listener, client))
    }

    /// The sources that a listener, or any, refused most: a list of `RefusedSource` as JSON.
    #[pyo3(signature = (*, listener, limit))]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 gives owned text")]
    fn refused<'py>(
        &self,
        py: Python<'py>,
        listener: Option<String>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        told(py, || self.0.refused(listener.as_deref(), limit))
    }

    /// Ends every session of clients in a prefix; how many there were.
    #[pyo3(signature = (*, prefix))]
    fn kill_from(&self, py: Python<'_>, prefix: &str) -> PyResult<usize> {
        let from = self::prefix(prefix)?;
        Ok(py.detach(|| self.0.kill_from(from)))
    }

    /// Ends every session of a server, which is down; how many there were.
    #[pyo3(signature = (*, pool, server))]
    fn end_of_server(&self, py: Python<'_>, pool: &str, server: &str) -> usize {
        py.detach(|| self.0.end_of_server(pool, server))
    }

    /// Ends a session; False where there is none with that id.
    #[pyo3(signature = (*, id))]
    fn kill(&self, id: &str) -> bool {
        core::SessionId::parse(id).is_some_and(|id| self.0.kill(id))
    }

    /// Opens the session log's file anew, soon: it was moved away.
    fn reopen_logs(&self) {
        self.0.reopen_logs();
    }

    /// Readable while there are troubles or panics to take.
    #[getter]
    fn wake_fd(&self) -> RawFd {
        self.0.wake_fd()
    }

    /// At most one of a server since the last call: a list of `Trouble` as JSON.
    fn take_troubles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        told(py, || self.0.take_troubles())
    }

    /// Those of any thread since the last call, and how many more there were.
    fn take_panics(&self) -> (Vec<String>, u64) {
        self.0.take_panics()
    }

    /// Ends every session and joins the workers. A second call does nothing.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// What `ask` answers, as JSON; asked and written with Python's lock released.
fn told<'py, T: Serialize>(
    py: Python<'py>,
    ask: impl FnOnce() -> T + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let json = py.detach(|| serde_json::to_vec(&ask()));
    let json = json.map_err(|error| PlaneError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &json))
}

fn ip(text: &str) -> PyResult<IpAddr> {
    text.parse()
        .map_err(|_| SpecError::new_err(format!("{text:?} isn't an address")))
}

fn prefix(text: &str) -> PyResult<Prefix> {
    Prefix::parse(text).map_err(|why| SpecError::new_err(format!("{text:?} {why}")))
}

/// Raises SpecError as `apply` would; binds nothing.
#[pyfunction]
#[pyo3(signature = (*, spec))]
pub(crate) fn check(spec: &[u8]) -> PyResult<()> {
    decode::<PlaneSpec>(spec)
        .and_then(|spec| core::check(&spec))
        .map_err(|error| spec_error(&error))
}

/// How many sessions an instance has in the kernel, how many places beside them, and how many
/// sessions of other versions; None where there is nothing of it.
#[pyfunction]
#[pyo3(signature = (*, instance))]
pub(crate) fn kernel_path_left(instance: &str) -> PyResult<Option<(usize, usize, usize)>> {
    let left = core::left(instance);
    let left = left.map_err(|error| KernelPathError::new_err(error.to_string()))?;
    Ok(left.map(|left| (left.live, left.others, left.earlier)))
}

/// Whether the kernel path's program is in this build.
#[pyfunction]
pub(crate) fn kernel_path_is_built() -> bool {
    core::kernel_path_is_built()
}

/// Removes everything that an instance has in the kernel.
#[pyfunction]
#[pyo3(signature = (*, instance))]
pub(crate) fn kernel_path_flush(instance: &str) -> PyResult<()> {
    core::flush(instance).map_err(|error| KernelPathError::new_err(error.to_string()))
}

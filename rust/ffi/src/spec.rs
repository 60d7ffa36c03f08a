//! Specifications: from Python's values to the core's. Text is parsed here, once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mailweir_core::spec as core;
use pyo3::prelude::*;

use crate::errors::{SpecError, unknown};

/// How long a listener's sessions may wait, in seconds.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Timeouts(core::Timeouts);

#[pymethods]
impl Timeouts {
    #[new]
    #[pyo3(signature = (*, connect, greeting, accept_total, idle_client, idle_server, half_closed))]
    fn new(
        connect: f64,
        greeting: f64,
        accept_total: f64,
        idle_client: f64,
        idle_server: f64,
        half_closed: f64,
    ) -> PyResult<Self> {
        Ok(Self(core::Timeouts {
            connect: seconds("connect", connect)?,
            greeting: seconds("greeting", greeting)?,
            accept_total: seconds("accept_total", accept_total)?,
            idle_client: seconds("idle_client", idle_client)?,
            idle_server: seconds("idle_server", idle_server)?,
            half_closed: seconds("half_closed", half_closed)?,
        }))
    }
}

/// How sessions are taken off servers, in seconds.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Drain(core::DrainSpec);

#[pymethods]
impl Drain {
    #[new]
    #[pyo3(signature = (*, quiet, quiet_opaque, spread, deadline))]
    fn new(quiet: f64, quiet_opaque: f64, spread: f64, deadline: f64) -> PyResult<Self> {
        Ok(Self(core::DrainSpec {
            quiet: seconds("quiet", quiet)?,
            quiet_opaque: seconds("quiet_opaque", quiet_opaque)?,
            spread: seconds("spread", spread)?,
            deadline: seconds("deadline", deadline)?,
        }))
    }
}

/// Where the session log goes, and how a line looks.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct Log(core::LogSpec);

#[pymethods]
impl Log {
    #[new]
    #[pyo3(signature = (*, sessions, format))]
    fn new(sessions: &str, format: &str) -> PyResult<Self> {
        Ok(Self(core::LogSpec {
            sessions: core::LogTarget::parse(sessions)
                .ok_or_else(|| unknown("log target", sessions))?,
            format: core::LogFormat::parse(format).ok_or_else(|| unknown("log format", format))?,
        }))
    }
}

/// What the kernel path may use.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct Kernel(core::KernelSpec);

#[pymethods]
impl Kernel {
    #[new]
    #[pyo3(signature = (*, instance, source_ports, max_flows, counted))]
    fn new(instance: String, source_ports: (u16, u16), max_flows: u32, counted: bool) -> Self {
        Self(core::KernelSpec {
            instance,
            source_ports: source_ports.0..=source_ports.1,
            max_flows,
            counted,
        })
    }
}

/// What descriptors and memory are enough for.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Room(core::RoomSpec);

#[pymethods]
impl Room {
    #[new]
    #[pyo3(signature = (*, sessions, spare))]
    fn new(sessions: u64, spare: u64) -> Self {
        Self(core::RoomSpec { sessions, spare })
    }
}

/// Addresses that clients connect to.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct ListenerSpec(core::ListenerSpec);

#[pymethods]
impl ListenerSpec {
    #[new]
    #[pyo3(signature = (
        *, name, bind, protocol, pool, timeouts, max_sessions, max_age, forwarding, paused, allow,
        deny, admits_others, deny_code, refuse, per_source, dry_run
    ))]
    // One for each key, by name.
    #[expect(clippy::too_many_arguments)]
    fn new(
        name: String,
        bind: Vec<String>,
        protocol: &str,
        pool: String,
        timeouts: Timeouts,
        max_sessions: Option<u64>,
        max_age: Option<f64>,
        forwarding: &str,
        paused: bool,
        allow: Vec<String>,
        deny: Vec<String>,
        admits_others: bool,
        deny_code: u16,
        refuse: &str,
        per_source: Option<PerSource>,
        dry_run: Vec<String>,
    ) -> PyResult<Self> {
        let bind = bind.into_iter().map(|text| address(&text));
        Ok(Self(core::ListenerSpec {
            name,
            bind: bind.collect::<PyResult<_>>()?,
            protocol: core::Protocol::parse(protocol)
                .ok_or_else(|| unknown("protocol", protocol))?,
            pool,
            timeouts: timeouts.0,
            max_sessions,
            max_age: max_age.map(|age| seconds("max_age", age)).transpose()?,
            forwarding: core::Forwarding::parse(forwarding)
                .ok_or_else(|| unknown("forwarding", forwarding))?,
            paused,
            allow: prefixes(allow)?,
            deny: prefixes(deny)?,
            admits_others,
            deny_code: core::DenyCode::parse(deny_code)
                .ok_or_else(|| unknown("deny code", &deny_code.to_string()))?,
            refuse: core::Refuse::parse(refuse).ok_or_else(|| unknown("refuse", refuse))?,
            per_source: per_source.map(|limits| limits.0),
            dry_run: self::dry_run(dry_run)?,
        }))
    }
}

/// What one source may.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct PerSource(core::PerSourceSpec);

#[pymethods]
impl PerSource {
    #[new]
    #[pyo3(signature = (*, sessions, rate, prefix4, prefix6, exempt))]
    fn new(
        sessions: Option<u32>,
        rate: Option<Rate>,
        prefix4: u8,
        prefix6: u8,
        exempt: Vec<String>,
    ) -> PyResult<Self> {
        Ok(Self(core::PerSourceSpec {
            source: core::SourceSpec { prefix4, prefix6 },
            sessions,
            rate: rate.map(|rate| rate.0),
            exempt: prefixes(exempt)?,
        }))
    }
}

/// How fast something may come: `count` in so many seconds, `burst` of them at once.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Rate(core::RateSpec);

#[pymethods]
impl Rate {
    #[new]
    #[pyo3(signature = (*, count, seconds, burst))]
    fn new(count: u32, seconds: f64, burst: u32) -> PyResult<Self> {
        Ok(Self(core::RateSpec {
            count,
            period: self::seconds("rate", seconds)?,
            burst,
        }))
    }
}

/// A mail server of a pool.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct ServerSpec(core::ServerSpec);

#[pymethods]
impl ServerSpec {
    #[new]
    #[pyo3(signature = (
        *, name, address, weight, state, max_sessions, proxy, source, backup
    ))]
    // One for each key, by name.
    #[expect(clippy::too_many_arguments)]
    fn new(
        name: String,
        address: &str,
        weight: u32,
        state: &str,
        max_sessions: Option<u64>,
        proxy: &str,
        source: Vec<String>,
        backup: bool,
    ) -> PyResult<Self> {
        let source = source.into_iter().map(|text| ip(&text));
        Ok(Self(core::ServerSpec {
            name,
            address: self::address(address)?,
            weight,
            state: server_state(state)?,
            max_sessions,
            proxy: core::ProxyVersion::parse(proxy).ok_or_else(|| unknown("proxy", proxy))?,
            source: source.collect::<PyResult<_>>()?,
            backup,
        }))
    }
}

/// What is hashed where picking goes by hashes.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct HashKey(core::HashKeySpec);

#[pymethods]
impl HashKey {
    #[new]
    #[pyo3(signature = (*, prefix4, prefix6, seed))]
    fn new(prefix4: u8, prefix6: u8, seed: String) -> Self {
        Self(core::HashKeySpec {
            source: core::SourceSpec { prefix4, prefix6 },
            seed,
        })
    }
}

/// A source stays with its server for so many seconds.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Sticky(core::StickySpec);

#[pymethods]
impl Sticky {
    #[new]
    #[pyo3(signature = (*, prefix4, prefix6, ttl))]
    fn new(prefix4: u8, prefix6: u8, ttl: f64) -> PyResult<Self> {
        Ok(Self(core::StickySpec {
            source: core::SourceSpec { prefix4, prefix6 },
            ttl: seconds("ttl", ttl)?,
        }))
    }
}

/// The waiting room of a pool: how many, and for how many seconds.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone, Copy)]
pub(crate) struct Queue(core::QueueSpec);

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*, length, wait))]
    fn new(length: usize, wait: f64) -> PyResult<Self> {
        Ok(Self(core::QueueSpec {
            length,
            wait: seconds("wait", wait)?,
        }))
    }
}

/// Servers that share sessions.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct PoolSpec(core::PoolSpec);

#[pymethods]
impl PoolSpec {
    #[new]
    #[pyo3(signature = (*, name, balance, servers, hash_key, sticky, slow_start, queue))]
    fn new(
        name: String,
        balance: &str,
        servers: Vec<ServerSpec>,
        hash_key: HashKey,
        sticky: Option<Sticky>,
        slow_start: f64,
        queue: Option<Queue>,
    ) -> PyResult<Self> {
        Ok(Self(core::PoolSpec {
            name,
            balance: core::Balance::parse(balance).ok_or_else(|| unknown("balance", balance))?,
            servers: servers.into_iter().map(|server| server.0).collect(),
            hash_key: hash_key.0,
            sticky: sticky.map(|sticky| sticky.0),
            slow_start: seconds("slow_start", slow_start)?,
            queue: queue.map(|queue| queue.0),
        }))
    }
}

/// All that the data plane is to do.
#[pyclass(frozen, module = "mailweir._dataplane")]
pub(crate) struct PlaneSpec(pub(crate) core::PlaneSpec);

#[pymethods]
impl PlaneSpec {
    #[new]
    #[pyo3(signature = (
        *, hostname, max_sessions, room, drain, log, kernel, listeners, pools, denied
    ))]
    // One for each part, by name.
    #[expect(clippy::too_many_arguments)]
    fn new(
        hostname: String,
        max_sessions: u64,
        room: Room,
        drain: Drain,
        log: Log,
        kernel: Kernel,
        listeners: Vec<ListenerSpec>,
        pools: Vec<PoolSpec>,
        denied: Vec<String>,
    ) -> PyResult<Self> {
        Ok(Self(core::PlaneSpec {
            hostname,
            max_sessions,
            room: room.0,
            drain: drain.0,
            log: log.0,
            kernel: kernel.0,
            listeners: listeners.into_iter().map(|listener| listener.0).collect(),
            pools: pools.into_iter().map(|pool| pool.0).collect(),
            denied: prefixes(denied)?,
        }))
    }
}

/// What one server may be used for from now on.
#[pyclass(frozen, from_py_object, module = "mailweir._dataplane")]
#[derive(Clone)]
pub(crate) struct ServerState {
    pub(crate) pool: String,
    pub(crate) server: String,
    pub(crate) state: core::ServerState,
}

#[pymethods]
impl ServerState {
    #[new]
    #[pyo3(signature = (*, pool, server, state))]
    fn new(pool: String, server: String, state: &str) -> PyResult<Self> {
        Ok(Self {
            pool,
            server,
            state: server_state(state)?,
        })
    }
}

fn server_state(label: &str) -> PyResult<core::ServerState> {
    core::ServerState::parse(label).ok_or_else(|| unknown("state", label))
}

fn address(text: &str) -> PyResult<SocketAddr> {
    text.parse()
        .map_err(|_| SpecError::new_err(format!("{text:?} isn't an address and port")))
}

pub(crate) fn ip(text: &str) -> PyResult<IpAddr> {
    text.parse()
        .map_err(|_| SpecError::new_err(format!("{text:?} isn't an address")))
}

pub(crate) fn prefix(text: &str) -> PyResult<core::Prefix> {
    core::Prefix::parse(text).map_err(|why| SpecError::new_err(format!("{text:?} {why}")))
}

fn prefixes(texts: Vec<String>) -> PyResult<Vec<core::Prefix>> {
    texts.into_iter().map(|text| prefix(&text)).collect()
}

fn dry_run(words: Vec<String>) -> PyResult<core::DryRun> {
    let mut dry_run = core::DryRun::default();
    for word in words {
        match word.as_str() {
            "access" => dry_run.access = true,
            "source_sessions" => dry_run.source_sessions = true,
            "source_rate" => dry_run.source_rate = true,
            "sessions" => dry_run.sessions = true,
            other => return Err(unknown("dry run", other)),
        }
    }
    Ok(dry_run)
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| SpecError::new_err(format!("{name}: {value} isn't a time in seconds")))
}

//! What contradicts itself in a specification.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{
    ListenerSpec, MAX_WEIGHT, PerSourceSpec, PlaneSpec, PoolSpec, Prefix, ServerSpec, SourceSpec,
};

/// Longer than anybody means; adding it to a moment still is one.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// What contradicts itself in a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SpecError {
    /// The part that is wrong, as `pools.farm.servers.a`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Says what contradicts itself in `spec`, if anything does.
///
/// # Errors
/// The first contradiction.
pub fn check(spec: &PlaneSpec) -> Result<(), SpecError> {
    // It opens lines that are sent to clients: nothing in it may end a line or a word.
    let graphic = spec.hostname.bytes().all(|byte| byte.is_ascii_graphic());
    if spec.hostname.is_empty() || !graphic {
        return Err(wrong("hostname", "must be one word of printable ASCII"));
    }
    at_least_one("max_sessions", Some(spec.max_sessions))?;
    at_least_one("room.sessions", Some(spec.room.sessions))?;
    at_least_one("room.spare", Some(spec.room.spare))?;
    for (name, value) in [
        ("quiet", spec.drain.quiet),
        ("quiet_opaque", spec.drain.quiet_opaque),
        ("spread", spec.drain.spread),
        ("deadline", spec.drain.deadline),
    ] {
        not_too_long(&format!("drain.{name}"), value)?;
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if spec.kernel.instance.is_empty() || !spec.kernel.instance.bytes().all(word) {
        return Err(wrong("instance", "must be letters, digits and dashes"));
    }
    at_least_one("max_flows", Some(spec.kernel.max_flows.into()))?;
    if spec.kernel.source_ports.is_empty() || *spec.kernel.source_ports.start() < 1024 {
        return Err(wrong("source_ports", "must be from 1024 on and rise"));
    }
    unique("pools", spec.pools.iter().map(|pool| pool.name.as_str()))?;
    for pool in &spec.pools {
        check_pool(pool)?;
    }
    check_overflow(&spec.pools)?;
    let names = spec.listeners.iter().map(|listener| listener.name.as_str());
    unique("listeners", names)?;
    let pools: HashSet<&str> = spec.pools.iter().map(|pool| pool.name.as_str()).collect();
    let mut taken = HashSet::new();
    for listener in &spec.listeners {
        check_listener(listener, &pools, &mut taken)?;
    }
    Ok(())
}

fn check_pool(pool: &PoolSpec) -> Result<(), SpecError> {
    let path = format!("pools.{}", pool.name);
    if pool.servers.is_empty() {
        return Err(wrong(&path, "has no servers"));
    }
    if pool.servers.len() >= usize::from(u16::MAX) {
        return Err(wrong(&path, "has too many servers"));
    }
    let names = pool.servers.iter().map(|server| server.name.as_str());
    unique(&format!("{path}.servers"), names)?;
    check_ways(&path, pool)?;
    for server in &pool.servers {
        check_server(&format!("{path}.servers.{}", server.name), server)?;
    }
    Ok(())
}

fn check_ways(path: &str, pool: &PoolSpec) -> Result<(), SpecError> {
    not_too_long(&format!("{path}.slow_start"), pool.slow_start)?;
    check_source(&format!("{path}.hash_key"), pool.hash_key.source)?;
    if let Some(sticky) = pool.sticky {
        check_source(&format!("{path}.sticky"), sticky.source)?;
        not_too_long(&format!("{path}.sticky.ttl"), sticky.ttl)?;
    }
    let Some(queue) = pool.queue else {
        return Ok(());
    };
    at_least_one(&format!("{path}.queue.length"), Some(queue.length as u64))?;
    not_too_long(&format!("{path}.queue.wait"), queue.wait)
}

/// Each pool that is named is there, and none overflows into itself, on whatever way.
fn check_overflow(pools: &[PoolSpec]) -> Result<(), SpecError> {
    let named: HashMap<&str, &PoolSpec> = pools.iter().map(|one| (&*one.name, one)).collect();
    for pool in pools {
        let path = format!("pools.{}.overflow", pool.name);
        unique(&path, pool.overflow.iter().map(String::as_str))?;
        let mut seen = HashSet::new();
        let mut next: Vec<&String> = pool.overflow.iter().collect();
        while let Some(name) = next.pop() {
            if *name == pool.name {
                return Err(wrong(&path, "leads back to the pool itself"));
            }
            let Some(other) = named.get(name.as_str()) else {
                return Err(wrong(&path, format!("there is no pool {name}")));
            };
            if seen.insert(name) {
                next.extend(&other.overflow);
            }
        }
    }
    Ok(())
}

fn check_source(path: &str, source: SourceSpec) -> Result<(), SpecError> {
    if source.prefix4 > 32 || source.prefix6 > 128 {
        return Err(wrong(path, "has more bits than an address"));
    }
    Ok(())
}

fn check_server(path: &str, server: &ServerSpec) -> Result<(), SpecError> {
    if server.weight > MAX_WEIGHT {
        return Err(wrong(path, format!("weight is above {MAX_WEIGHT}")));
    }
    if server.address.port() == 0 || server.address.ip().is_unspecified() {
        return Err(wrong(
            path,
            format!("{} isn't a destination", server.address),
        ));
    }
    for source in &server.source {
        if source.is_ipv4() != server.address.is_ipv4() || source.is_unspecified() {
            return Err(wrong(
                path,
                format!("{source} can't reach {}", server.address),
            ));
        }
    }
    at_least_one(&format!("{path}.max_sessions"), server.max_sessions)
}

fn check_listener(
    listener: &ListenerSpec,
    pools: &HashSet<&str>,
    taken: &mut HashSet<SocketAddr>,
) -> Result<(), SpecError> {
    let path = format!("listeners.{}", listener.name);
    if !pools.contains(listener.pool.as_str()) {
        return Err(wrong(&path, format!("there is no pool {}", listener.pool)));
    }
    if listener.bind.is_empty() {
        return Err(wrong(&path, "binds nothing"));
    }
    for address in &listener.bind {
        if address.port() != 0 && !taken.insert(*address) {
            return Err(wrong(&path, format!("{address} is bound twice")));
        }
    }
    let timeouts = &listener.timeouts;
    for (name, value) in [
        ("connect", timeouts.connect),
        ("greeting", timeouts.greeting),
        ("accept_total", timeouts.accept_total),
        ("idle_client", timeouts.idle_client),
        ("idle_server", timeouts.idle_server),
        ("half_closed", timeouts.half_closed),
    ] {
        let path = format!("{path}.timeouts.{name}");
        if value.is_zero() {
            return Err(wrong(&path, "is zero"));
        }
        not_too_long(&path, value)?;
    }
    at_least_one(&format!("{path}.max_sessions"), listener.max_sessions)?;
    check_access(&path, listener)?;
    if let Some(limits) = &listener.per_source {
        check_per_source(&format!("{path}.per_source"), limits)?;
    }
    not_too_long(
        &format!("{path}.max_age"),
        listener.max_age.unwrap_or_default(),
    )
}

fn check_access(path: &str, listener: &ListenerSpec) -> Result<(), SpecError> {
    let denied: HashSet<&Prefix> = listener.access.deny.iter().collect();
    match listener
        .access
        .allow
        .iter()
        .find(|one| denied.contains(one))
    {
        Some(both) => Err(wrong(path, format!("{both} is both allowed and denied"))),
        None => Ok(()),
    }
}

fn check_per_source(path: &str, limits: &PerSourceSpec) -> Result<(), SpecError> {
    check_source(path, limits.source)?;
    at_least_one(&format!("{path}.sessions"), limits.sessions.map(u64::from))?;
    let Some(rate) = limits.rate else {
        return Ok(());
    };
    at_least_one(&format!("{path}.rate"), Some(rate.count.into()))?;
    at_least_one(&format!("{path}.burst"), Some(rate.burst.into()))?;
    if rate.period.is_zero() {
        return Err(wrong(path, "has a rate without a time"));
    }
    not_too_long(path, rate.period)
}

fn at_least_one(path: &str, limit: Option<u64>) -> Result<(), SpecError> {
    if limit == Some(0) {
        return Err(wrong(path, "must be above zero"));
    }
    Ok(())
}

fn not_too_long(path: &str, time: Duration) -> Result<(), SpecError> {
    if time > LONGEST {
        return Err(wrong(path, "is longer than 400 days"));
    }
    Ok(())
}

fn unique<'a>(path: &str, names: impl Iterator<Item = &'a str>) -> Result<(), SpecError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(wrong(path, format!("{name:?} is there twice, or empty")));
        }
    }
    Ok(())
}

fn wrong(path: &str, problem: impl Into<String>) -> SpecError {
    SpecError {
        path: path.into(),
        problem: problem.into(),
    }
}

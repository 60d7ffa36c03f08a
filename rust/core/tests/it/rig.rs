//! A data plane with one listener and one pool, on free ports of loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use mailweir_core::spec::{
    Balance, DrainSpec, Forwarding, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget,
    PlaneSpec, PoolSpec, Protocol, RoomSpec, ServerSpec, Timeouts,
};
use mailweir_core::{DataPlane, EndReason, ServerStats, Stats};
use mailweir_testkit::wait::LIMIT;
use tokio::time::{Instant, sleep};

/// All figures of a plane, those of servers read before the others.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) servers: Vec<ServerStats>,
    plane: Stats,
}

impl Deref for Figures {
    type Target = Stats;

    fn deref(&self) -> &Stats {
        &self.plane
    }
}

pub(crate) struct Rig {
    pub(crate) plane: DataPlane,
    pub(crate) spec: PlaneSpec,
}

/// Far beyond what a test takes: nothing ends by them unless a test shortens one.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(20),
    greeting: Duration::from_secs(20),
    accept_total: Duration::from_secs(25),
    idle_client: Duration::from_secs(60),
    idle_server: Duration::from_secs(60),
    half_closed: Duration::from_secs(60),
};

/// Nothing is cut by it unless a test makes it quicker.
const DRAIN: DrainSpec = DrainSpec {
    quiet: Duration::from_secs(60),
    quiet_opaque: Duration::from_secs(60),
    spread: Duration::ZERO,
    deadline: Duration::from_secs(120),
};

/// Listener `mx` in front of pool `farm`, whose servers are called `0`, `1`, ...
pub(crate) fn spec(servers: &[SocketAddr]) -> PlaneSpec {
    let server =
        |(index, address): (usize, &SocketAddr)| ServerSpec::new(&index.to_string(), *address);
    PlaneSpec {
        hostname: "mx.test".into(),
        max_sessions: 10_000,
        room: RoomSpec {
            sessions: 10_000,
            spare: 100,
        },
        drain: DRAIN,
        log: LogSpec {
            sessions: LogTarget::Off,
            format: LogFormat::Json,
        },
        kernel: KernelSpec {
            instance: "test".into(),
            source_ports: 10_000..=32_767,
            max_flows: 1000,
            counted: false,
        },
        listeners: vec![ListenerSpec {
            forwarding: Forwarding::Relay,
            ..ListenerSpec::new(
                "mx",
                vec![(Ipv4Addr::LOCALHOST, 0).into()],
                "farm",
                TIMEOUTS,
            )
        }],
        pools: vec![PoolSpec::new(
            "farm",
            Balance::RoundRobin,
            servers.iter().enumerate().map(server).collect(),
        )],
        denied: vec![],
    }
}

/// The same for bytes of any kind.
pub(crate) fn raw(servers: &[SocketAddr]) -> PlaneSpec {
    let mut spec = spec(servers);
    spec.listeners[0].protocol = Protocol::Tcp;
    spec
}

impl Rig {
    /// Two workers in front of `servers`.
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        Self::start_with(spec(servers))
    }

    /// The same without a word of SMTP: nobody's greeting is waited for.
    pub(crate) fn start_raw(servers: &[SocketAddr]) -> Self {
        Self::start_with(raw(servers))
    }

    pub(crate) fn start_with(spec: PlaneSpec) -> Self {
        let plane = DataPlane::start(2, &[]).unwrap();
        plane.apply(&spec).unwrap();
        Self { plane, spec }
    }

    /// Where clients connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.plane.stats().listeners[0].addresses[0]
    }

    /// All figures of this moment.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            servers: self.plane.servers(true),
            plane: self.plane.stats(),
        }
    }

    /// Waits until the figures satisfy `condition`, and returns them.
    pub(crate) async fn wait_for(&self, condition: impl Fn(&Figures) -> bool) -> Figures {
        let until = Instant::now() + LIMIT;
        loop {
            let stats = self.figures();
            if condition(&stats) {
                return stats;
            }
            assert!(Instant::now() < until, "still {stats:#?}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until no session is left, and none counts at a server, and returns the figures.
    pub(crate) async fn wait_for_ends(&self) -> Figures {
        let none = |stats: &Figures| stats.servers.iter().all(|one| one.active == 0);
        self.wait_for(|stats| stats.active == 0 && none(stats))
            .await
    }
}

/// How many sessions ended for this reason.
pub(crate) fn ended(stats: &Figures, reason: EndReason) -> u64 {
    let ended = stats.listeners.iter().flat_map(|one| &one.ended);
    ended
        .filter(|(why, _)| *why == reason)
        .map(|(_, n)| n)
        .sum()
}

/// The reasons that sessions ended for.
pub(crate) fn reasons(stats: &Figures) -> Vec<(EndReason, u64)> {
    let ended = stats.listeners.iter().flat_map(|one| &one.ended);
    ended.filter(|(_, n)| *n > 0).copied().collect()
}

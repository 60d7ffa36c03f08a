//! A working balancer without the control plane: one address in front of some servers.
//!
//!     cargo run --release -p mailweir-core --example static_lb -- 127.0.0.1:2525 10.0.0.1:25 10.0.0.2:25

use std::error::Error;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mailweir_core::DataPlane;
use mailweir_core::spec::{
    Balance, DrainSpec, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget, PlaneSpec,
    PoolSpec, RoomSpec, ServerSpec, Timeouts,
};

fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let [bind, servers @ ..] = addresses.as_slice() else {
        return Err("usage: static_lb LISTEN SERVER...".into());
    };
    let server = |address: &SocketAddr| ServerSpec::new(&address.to_string(), *address);
    let plane = DataPlane::start(thread::available_parallelism()?.get(), &[])?;
    plane.apply(&PlaneSpec {
        hostname: "static-lb.invalid".into(),
        max_sessions: 9000,
        room: RoomSpec {
            sessions: 9000,
            spare: 100,
        },
        drain: DrainSpec::default(),
        log: LogSpec {
            sessions: LogTarget::Off,
            format: LogFormat::Json,
        },
        kernel: KernelSpec {
            instance: "static-lb".into(),
            source_ports: 10_000..=32_767,
            max_flows: 65_536,
            counted: false,
        },
        listeners: vec![ListenerSpec::new(
            "mx",
            vec![*bind],
            "farm",
            Timeouts {
                connect: Duration::from_secs(3),
                greeting: Duration::from_secs(15),
                accept_total: Duration::from_secs(45),
                idle_client: Duration::from_secs(330),
                idle_server: Duration::from_secs(660),
                half_closed: Duration::from_secs(60),
            },
        )],
        pools: vec![PoolSpec::new(
            "farm",
            Balance::LeastConn,
            servers.iter().map(server).collect(),
        )],
        denied: vec![],
    })?;
    loop {
        thread::sleep(Duration::from_secs(1));
        let stats = plane.stats();
        let servers = plane.servers(false);
        let sessions: Vec<u64> = servers.iter().map(|one| one.sessions).collect();
        eprintln!("{} sessions now, {sessions:?} so far", stats.active);
    }
}

//! A balancer on the kernel path that dies at a named step of a session, for tests.
//!
//!     cargo run -p mailweir-core --example victim --features failpoints -- STEP LISTEN SERVER LOG
//!
//! It says `ready`, then twenty times a second how many sessions, flows and places there are, how many
//! sessions it found, how many were handed over, keys that linger, records that were lost, how often
//! the flows' thread began again, how many keepalives it said, and how many flows ended for want of an
//! answer. At STEP it kills itself as `kill -9` does; `never` is none, `late`
//! stands still in the middle of each hand-over for longer than an acknowledgement waits, `dozes` for a
//! second behind each look at flows, `unwritten` doesn't write its log, `panics` has that thread panic three times: twice as it looks, and when
//! it closes the second record; `panics_between` has it panic before the first session that comes and
//! before the first errand. With `asks` it asks silent peers after a second, and gives them six, and
//! so it does with `asks_relay`, which has no kernel path and says how many sessions there are.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use mailweir_core::DataPlane;
use mailweir_core::spec::{
    Balance, DrainSpec, Forwarding, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget,
    PlaneSpec, PoolSpec, RoomSpec, ServerSpec, Timeouts,
};
use rustix::process::{Signal, getpid, kill_process};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [step, listen, server, log] = arguments.as_slice() else {
        return Err("usage: victim STEP LISTEN SERVER LOG".into());
    };
    let die = || {
        let _ = kill_process(getpid(), Signal::KILL);
    };
    match step.as_str() {
        "never" => {}
        "asks" | "asks_relay" => {
            fail::cfg("keepalive", "return(1)")?;
            fail::cfg("user_timeout", "return(6)")?;
        }
        "late" => fail::cfg("hand_over_live", "sleep(100)")?,
        "dozes" => fail::cfg("flows_looked", "sleep(1000)")?,
        "unwritten" => fail::cfg("log_writes", "pause")?,
        "panics" => {
            fail::cfg("flows_look", "25*off->1*panic->25*off->1*panic->off")?;
            fail::cfg("flow_closes", "1*off->1*panic->off")?;
        }
        "panics_between" => {
            fail::cfg("flow_arrives", "1*panic->off")?;
            fail::cfg("flows_errand", "1*panic->off")?;
        }
        step => fail::cfg_callback(step, die)?,
    }
    let plane = DataPlane::start(2, &[])?;
    let mut spec = spec(listen.parse()?, server.parse()?, log.into());
    match step.as_str() {
        // It is measured with many flows; others are to run out of ports.
        "asks" => spec.kernel.source_ports = 10_000..=11_999,
        "asks_relay" => spec.listeners[0].forwarding = Forwarding::Relay,
        _ => {}
    }
    plane.apply(&spec)?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    loop {
        let stats = plane.stats();
        if let Some(path) = stats.kernel_path {
            let (active, adopted) = (stats.active, path.adopted);
            writeln!(
                out,
                "{active} {} {} {adopted} {} {} {} {} {} {}",
                path.flows,
                path.places_taken,
                path.handed_over,
                path.lingering,
                stats.log.dropped,
                path.restarts,
                path.keepalives,
                path.unanswered
            )?;
            let refused = path.refusals.iter().find(|(_, count)| *count > 0);
            if let Some((why, _)) = refused.filter(|_| step != "unwritten") {
                return Err(format!("a session takes the relay: {why:?}").into());
            }
        } else {
            writeln!(out, "{}", stats.active)?;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn spec(listen: SocketAddr, server: SocketAddr, log: PathBuf) -> PlaneSpec {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        connect: 3 * second,
        greeting: 15 * second,
        accept_total: 45 * second,
        idle_client: 330 * second,
        idle_server: 660 * second,
        half_closed: 60 * second,
    };
    PlaneSpec {
        hostname: "victim.invalid".into(),
        max_sessions: 2000,
        room: RoomSpec {
            sessions: 2000,
            spare: 100,
        },
        drain: DrainSpec::default(),
        log: LogSpec {
            sessions: LogTarget::File(log),
            format: LogFormat::Json,
        },
        kernel: KernelSpec {
            instance: "victim".into(),
            source_ports: 10_000..=10_100,
            max_flows: 2000,
            counted: false,
        },
        listeners: vec![ListenerSpec {
            forwarding: Forwarding::Kernel,
            ..ListenerSpec::new("mx", vec![listen], "farm", timeouts)
        }],
        pools: vec![PoolSpec::new(
            "farm",
            Balance::LeastConn,
            vec![ServerSpec::new("a", server)],
        )],
        denied: vec![],
    }
}

//! Specifications, with a leaning to what is at the edge.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mailweir_core::spec::{
    Balance, DrainSpec, Forwarding, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget, MAX_WEIGHT, PlaneSpec,
    PoolSpec, Protocol, ProxyVersion, ServerSpec, ServerState, Timeouts,
};

use crate::choose::Choices;

const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// What the whole is; wrong exactly if `choices` say so.
pub fn plane(choices: &mut Choices<'_>) -> PlaneSpec {
    let count = choices.pick(&[1, 2, 3, 0], &[]);
    let mut pool_names = vec![];
    let pools = (0..count).map(|_| pool(choices, &mut pool_names)).collect();
    let count = choices.pick(&[1, 2, 3, 0], &[]);
    let (mut names, mut addresses) = (vec![], vec![]);
    let listeners = (0..count)
        .map(|_| listener(choices, &mut names, &pool_names, &mut addresses))
        .collect();
    PlaneSpec {
        hostname: choices.pick(
            &["mx.test".to_owned(), "~".to_owned(), "h".repeat(300)],
            &["", "two words", "mx\r\n250", "mx\0", "m\u{fc}"].map(str::to_owned),
        ),
        max_sessions: choices.pick(&[1000, 1, u64::MAX], &[0]),
        drain: DrainSpec {
            quiet: wait(choices),
            quiet_opaque: wait(choices),
            spread: wait(choices),
            deadline: wait(choices),
        },
        log: LogSpec {
            sessions: choices.pick(
                &[
                    LogTarget::Off,
                    LogTarget::Stderr,
                    LogTarget::Syslog,
                    LogTarget::File("/var/log/mailweir".into()),
                ],
                &[],
            ),
            format: choices.pick(&[LogFormat::Json, LogFormat::Logfmt], &[]),
        },
        kernel: KernelSpec {
            instance: choices.pick(&["one".to_owned()], &["", "../two", "a.b"].map(str::to_owned)),
            source_ports: choices.pick(&[10_000..=32_767, 1024..=1024], &[0..=5, 9..=8]),
            max_flows: choices.pick(&[65_536, 1], &[0]),
            counted: choices.pick(&[false, true], &[]),
        },
        listeners,
        pools,
    }
}

fn pool(choices: &mut Choices<'_>, names: &mut Vec<String>) -> PoolSpec {
    let mut server_names = vec![];
    PoolSpec {
        name: choices.name(names),
        balance: choices.pick(&[Balance::LeastConn, Balance::RoundRobin], &[]),
        servers: choices.some(|choices| server(choices, &mut server_names)),
    }
}

fn server(choices: &mut Choices<'_>, names: &mut Vec<String>) -> ServerSpec {
    let name = choices.name(names);
    // Few, so that servers share them, within pools and across.
    let address: SocketAddr = choices
        .pick(
            &[
                "10.0.0.1:25",
                "10.0.0.1:65535",
                "[2001:db8::1]:25",
                "[::ffff:10.0.0.1]:25",
            ],
            &["10.0.0.1:0", "0.0.0.0:25", "[2001:db8::1]:0", "[::]:25"],
        )
        .parse()
        .expect("an address");
    let (same, other) = if address.is_ipv4() {
        (["10.0.0.9", "10.0.0.8"], ["2001:db8::9", "0.0.0.0"])
    } else {
        (["2001:db8::9", "::1"], ["10.0.0.9", "::"])
    };
    let sources = choices.pick(&[0, 1, 2, 40], &[]);
    ServerSpec {
        name,
        address,
        weight: choices.pick(&[1, 0, 2, MAX_WEIGHT], &[MAX_WEIGHT + 1, u32::MAX]),
        state: choices.pick(
            &[
                ServerState::Up,
                ServerState::Down,
                ServerState::Drain,
                ServerState::Maint,
            ],
            &[],
        ),
        max_sessions: limit(choices),
        proxy: choices.pick(
            &[ProxyVersion::Off, ProxyVersion::V1, ProxyVersion::V2],
            &[],
        ),
        source: (0..sources)
            .map(|_| {
                choices
                    .pick(&same, &other)
                    .parse::<IpAddr>()
                    .expect("an address")
            })
            .collect(),
    }
}

fn listener(
    choices: &mut Choices<'_>,
    names: &mut Vec<String>,
    pools: &[String],
    taken: &mut Vec<SocketAddr>,
) -> ListenerSpec {
    ListenerSpec {
        name: choices.name(names),
        bind: choices.some(|choices| bind(choices, taken)),
        protocol: choices.pick(&[Protocol::Smtp, Protocol::Smtps, Protocol::Tcp], &[]),
        pool: choices.pick(pools, &["nowhere".to_owned()]),
        timeouts: Timeouts {
            connect: time_out(choices),
            greeting: time_out(choices),
            accept_total: time_out(choices),
            idle_client: time_out(choices),
            idle_server: time_out(choices),
            half_closed: time_out(choices),
        },
        max_sessions: limit(choices),
        max_age: choices.pick(
            &[None, Some(Duration::from_secs(3600)), Some(LONGEST)],
            &[Some(Duration::MAX)],
        ),
        forwarding: choices.pick(
            &[Forwarding::Auto, Forwarding::Kernel, Forwarding::Relay],
            &[],
        ),
    }
}

/// Port 0 as often as anything likes, any other address once.
fn bind(choices: &mut Choices<'_>, taken: &mut Vec<SocketAddr>) -> SocketAddr {
    let next = 1 + u16::try_from(taken.len()).unwrap_or_default();
    let right = [
        ([127, 0, 0, 1], next).into(),
        ([0, 0, 0, 0], next).into(),
        ([0, 0, 0, 0, 0, 0, 0, 0_u16], next).into(),
        ([127, 0, 0, 1], 0).into(),
        ([0, 0, 0, 0, 0, 0, 0, 1_u16], 0).into(),
    ];
    let address: SocketAddr = choices.pick(&right, taken);
    if address.port() != 0 {
        taken.push(address);
    }
    address
}

fn limit(choices: &mut Choices<'_>) -> Option<u64> {
    choices.pick(&[None, Some(1), Some(u64::MAX)], &[Some(0)])
}

fn wait(choices: &mut Choices<'_>) -> Duration {
    let too_long = LONGEST + Duration::from_nanos(1);
    choices.pick(
        &[Duration::from_secs(2), Duration::ZERO, LONGEST],
        &[too_long, Duration::MAX],
    )
}

fn time_out(choices: &mut Choices<'_>) -> Duration {
    choices.pick(
        &[Duration::from_secs(30), Duration::from_nanos(1), LONGEST],
        &[Duration::ZERO, Duration::MAX],
    )
}

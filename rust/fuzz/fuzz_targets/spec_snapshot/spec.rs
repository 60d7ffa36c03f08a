//! Specifications, with a leaning to what is at the edge.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mailweir_core::spec::{
    AccessSpec, Balance, DenyCode, DrainSpec, DryRun, Forwarding, HashKeySpec, KernelSpec,
    ListenerSpec, LogFormat, LogSpec, LogTarget, MAX_WEIGHT, PerSourceSpec, PlaneSpec, PoolSpec,
    Prefix, Protocol, ProxyVersion, QueueSpec, RateSpec, Refuse, RoomSpec, ServerSpec, ServerState,
    SourceSpec, StickySpec, Timeouts,
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
            instance: choices.pick(
                &["one".to_owned()],
                &["", "../two", "a.b"].map(str::to_owned),
            ),
            source_ports: choices.pick(&[10_000..=32_767, 1024..=1024], &[0..=5, 9..=8]),
            max_flows: choices.pick(&[65_536, 1], &[0]),
            counted: choices.pick(&[false, true], &[]),
        },
        listeners,
        pools,
        denied: prefixes(choices, &["192.0.2.0/24", "::/0"]),
        // New choices stand last: what seeds chose before stays what it was.
        room: RoomSpec {
            sessions: choices.pick(&[1000, 1, u64::MAX], &[0]),
            spare: choices.pick(&[100, 1, u64::MAX], &[0]),
        },
    }
}

fn prefixes(choices: &mut Choices<'_>, from: &[&str]) -> Vec<Prefix> {
    let number = choices.pick(&[0, 1, 2], &[]);
    let prefix = |text: &str| Prefix::parse(text).expect("a prefix");
    (0..number)
        .map(|_| prefix(choices.pick(from, &[])))
        .collect()
}

fn source(choices: &mut Choices<'_>) -> SourceSpec {
    SourceSpec {
        prefix4: choices.pick(&[32, 24, 0], &[33]),
        prefix6: choices.pick(&[128, 64, 0], &[129]),
    }
}

fn pool(choices: &mut Choices<'_>, names: &mut Vec<String>) -> PoolSpec {
    let mut server_names = vec![];
    let overflow = if names.is_empty() {
        vec![]
    } else {
        let number = choices.pick(&[0, 1], &[]);
        let other = |_| choices.pick(names, &["nowhere".to_owned()]);
        (0..number).map(other).collect()
    };
    PoolSpec {
        name: choices.name(names),
        overflow,
        balance: choices.pick(&Balance::ALL, &[]),
        servers: choices.some(|choices| server(choices, &mut server_names)),
        hash_key: HashKeySpec {
            source: source(choices),
            seed: choices.pick(&["".to_owned(), "s".repeat(300)], &[]),
        },
        sticky: choices.pick(&[false, true], &[]).then(|| StickySpec {
            source: source(choices),
            ttl: wait(choices),
        }),
        slow_start: wait(choices),
        queue: choices.pick(&[false, true], &[]).then(|| QueueSpec {
            length: choices.pick(&[1, 200, usize::MAX], &[0]),
            wait: wait(choices),
        }),
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
                ServerState::Panic,
                ServerState::Drain,
                ServerState::Maint,
                ServerState::Ejected,
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
        backup: choices.pick(&[false, true], &[]),
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
        paused: choices.pick(&[false, true], &[]),
        access: AccessSpec {
            allow: prefixes(choices, &["10.0.0.0/8", "2001:db8::/32"]),
            // What is allowed as well makes it wrong.
            deny: prefixes(choices, &["10.1.0.0/16", "::/0"]),
            admits_others: choices.pick(&[false, true], &[]),
            deny_code: choices.pick(&[DenyCode::Never, DenyCode::NotNow], &[]),
        },
        refuse: choices.pick(&[Refuse::Reply, Refuse::Reset, Refuse::Drop], &[]),
        per_source: choices
            .pick(&[false, true], &[])
            .then(|| per_source(choices)),
        dry_run: DryRun {
            access: choices.pick(&[false, true], &[]),
            source_sessions: choices.pick(&[false, true], &[]),
            source_rate: choices.pick(&[false, true], &[]),
            sessions: choices.pick(&[false, true], &[]),
        },
    }
}

fn per_source(choices: &mut Choices<'_>) -> PerSourceSpec {
    PerSourceSpec {
        source: source(choices),
        sessions: choices.pick(&[None, Some(1), Some(u32::MAX)], &[Some(0)]),
        rate: choices.pick(&[false, true], &[]).then(|| RateSpec {
            count: choices.pick(&[100, 1, u32::MAX], &[0]),
            period: time_out(choices),
            burst: choices.pick(&[100, 1, u32::MAX], &[0]),
        }),
        exempt: prefixes(choices, &["127.0.0.0/8", "::1"]),
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

//! Says again what it is told, and anything that the data plane tells: for tests that keep the
//! values of Python and Rust the same.
//!
//! `spec JSON` is answered by the same specification as Rust writes it, or by `error: ...`;
//! `told NUMBER` by figures, sessions and troubles that follow from the number.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::time::Duration;

use mailweir_core::spec::{PlaneSpec, Prefix, ServerState, decode};
use mailweir_core::{
    Admission, BoundsStats, ConnectFailure, EndReason, GreetingFailure, HistogramStats,
    KernelPathStats, ListenerStats, LogStats, NoKernelPathStats, OverflowCourse, OverflowStats,
    Path, PoolConduct, PoolStats, QueueEnd, Refusal, RefusedSource, RelayStats, RoomStats,
    SegmentCounter, ServerConduct, ServerStats, ServerTimes, SessionId, SessionStats, Side,
    SourcesStats, Spoiled, Stats, StickyStats, Trouble, WorkerStats, WouldRefuse,
};

fn main() -> Result<(), Box<dyn Error>> {
    for line in stdin().lines() {
        let line = line?;
        let answer = match line.split_once(' ') {
            Some(("spec", json)) => match decode::<PlaneSpec>(json.as_bytes()) {
                Ok(spec) => serde_json::to_string(&spec)?,
                Err(error) => format!("error: {error}"),
            },
            Some(("told", number)) => told(number.parse()?)?,
            _ => return Err("neither `spec JSON` nor `told NUMBER`".into()),
        };
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

fn told(number: u64) -> serde_json::Result<String> {
    let mut any = Any(number);
    let (stats, servers) = (any.stats(), any.some_of(Any::server));
    let (sessions, troubles) = (any.some_of(Any::session), any.troubles());
    let conduct = any.some_of(Any::conduct);
    let (admission, refused) = (any.admission(), any.some_of(Any::refused));
    serde_json::to_string(&(
        stats, servers, conduct, sessions, troubles, admission, refused,
    ))
}

/// Values of all kinds, one after the other.
struct Any(u64);

impl Any {
    fn number(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn admission(&mut self) -> Admission {
        Admission {
            refused: self.bool().then(|| self.one(&EndReason::ALL)),
            would_refuse: self.some_of(|any| any.one(&WouldRefuse::ALL)),
        }
    }

    fn bool(&mut self) -> bool {
        self.number().is_multiple_of(2)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let number = usize::try_from(self.number() >> 1).unwrap_or_default();
        of[number % of.len()]
    }

    fn text(&mut self) -> String {
        let number = self.number();
        self.one(&["", "\"\\\n\u{0}", "\u{fc}\u{1f4e8}", "plain"])
            .to_owned()
            + &number.to_string()
    }

    fn time(&mut self) -> Duration {
        Duration::from_nanos(self.number() >> 8)
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.bool().then(|| value(self))
    }

    fn some_of<T>(&mut self, value: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.number() % 3).map(|_| value(self)).collect()
    }

    fn counts<T: Copy>(&mut self, of: &[T]) -> Vec<(T, u64)> {
        of.iter().map(|what| (*what, self.number())).collect()
    }

    fn address(&mut self) -> std::net::SocketAddr {
        self.one(&[
            ([192, 0, 2, 1], 25).into(),
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 2525).into(),
        ])
    }

    fn histogram(&mut self) -> HistogramStats {
        HistogramStats {
            counts: self.some_of(Self::number),
            sum: self.time(),
        }
    }

    fn stats(&mut self) -> Stats {
        Stats {
            generation: self.number(),
            workers: self.some_of(|any| WorkerStats {
                lag: any.time(),
                stuck: any.bool(),
            }),
            draining: self.bool(),
            active: self.number(),
            max_sessions: self.number(),
            room: RoomStats {
                sessions: self.number(),
                held: self.number(),
                spare: self.number(),
                lingering: self.number(),
                overdue: self.number(),
                hurried: self.number(),
            },
            bounds: BoundsStats {
                session: self.some_of(Self::time),
                connect: self.some_of(Self::time),
                greeting: self.some_of(Self::time),
                queue: self.some_of(Self::time),
            },
            listeners: self.some_of(Self::listener),
            pools: self.some_of(Self::pool),
            relay: RelayStats {
                copied_bytes: self.number(),
                spliced_bytes: self.number(),
                pipes: self.number(),
                pipe_budget: self.number(),
                pipe_fallbacks: self.number(),
            },
            kernel_path: self.maybe(Self::kernel_path),
            no_kernel_path: self.maybe(|any| NoKernelPathStats {
                reason: any.one(&["not_built", "refused"]),
                told: any.text(),
            }),
            log: LogStats {
                lines: self.number(),
                dropped: self.number(),
                errors: self.number(),
                last_error: self.text(),
            },
        }
    }

    fn listener(&mut self) -> ListenerStats {
        ListenerStats {
            name: self.text(),
            addresses: self.some_of(Self::address),
            accepted: self.number(),
            active: self.number(),
            places: self.number(),
            received_bytes: self.number(),
            sent_bytes: self.number(),
            accept_pauses: self.number(),
            paused: self.bool(),
            would_refuse: self.counts(&WouldRefuse::ALL),
            sources: self.maybe(|any| SourcesStats {
                entries: any.number(),
                places: any.number(),
                evicted: any.number(),
                untracked: any.number(),
            }),
            ended: self.counts(&EndReason::ALL),
            session_time: self.histogram(),
        }
    }

    fn pool(&mut self) -> PoolStats {
        PoolStats {
            name: self.text(),
            waiting: self.number(),
            queued: self.number(),
            queue_ends: self.counts(&QueueEnd::ALL),
            queue_time: self.histogram(),
            sticky: self.maybe(|any| StickyStats {
                entries: any.number(),
                found: any.number(),
                made: any.number(),
                broken: any.number(),
                evicted: any.number(),
            }),
            overflow: self.maybe(|any| OverflowStats {
                course: any.one(&[
                    OverflowCourse::Home,
                    OverflowCourse::Elsewhere,
                    OverflowCourse::ComingBack,
                ]),
                share: any.one(&[0.0, 0.1, 1.0]),
                begun: any.number(),
                sessions: any
                    .some_of(|any| (any.text(), any.number()))
                    .into_iter()
                    .collect(),
            }),
        }
    }

    fn server(&mut self) -> ServerStats {
        ServerStats {
            pool: self.text(),
            name: self.text(),
            address: self.address(),
            weight: self.one(&[0, 1000, u32::MAX]),
            state: self.one(&ServerState::ALL),
            backup: self.bool(),
            ramp: self.one(&[0.0, 0.1, 1.0]),
            active: self.number(),
            sessions: self.number(),
            connect_failures: self.counts(&ConnectFailure::ALL),
            greeting_failures: self.counts(&GreetingFailure::ALL),
            spoiled: self.counts(&Spoiled::ALL),
            ended: self.counts(&EndReason::ALL),
            session_time: self.time(),
            received_bytes: self.number(),
            sent_bytes: self.number(),
            times: self.maybe(|any| ServerTimes {
                connect: any.histogram(),
                greeting: any.histogram(),
            }),
        }
    }

    fn conduct(&mut self) -> PoolConduct {
        PoolConduct {
            name: self.text(),
            bad: self.number(),
            servers: self.some_of(|any| ServerConduct {
                name: any.text(),
                taken: any.number(),
                refused: any.number(),
                cut: any.number(),
                in_vain: any.number(),
                in_a_row: any.one(&[0, 1, u32::MAX]),
            }),
        }
    }

    fn kernel_path(&mut self) -> KernelPathStats {
        KernelPathStats {
            flows: self.number(),
            places_taken: self.number(),
            lingering: self.number(),
            restarts: self.number(),
            tables_bytes: self.number(),
            max_flows: self.number(),
            wanted_flows: self.number(),
            handed_over: self.number(),
            adopted: self.number(),
            keepalives: self.number(),
            unanswered: self.number(),
            given_up: self.number(),
            taken_off: self.number(),
            earlier: self.number(),
            unpinned: self.number(),
            moved: self.number(),
            not_at: BTreeMap::from([(self.text(), self.text())]),
            bytes: self.number(),
            ends_with_process: self.maybe(Self::text),
            refusals: self.counts(&Refusal::ALL),
            segments: self.counts(&SegmentCounter::ALL),
        }
    }

    fn session(&mut self) -> SessionStats {
        let number = format!("{:016x}", self.number());
        SessionStats {
            id: SessionId::parse(&number).unwrap_or_else(|| unreachable!("{number}")),
            listener: self.text(),
            client: self.address(),
            pool: self.text(),
            server: self.maybe(Self::text),
            age: self.time(),
            silent: self.time(),
            spoke_last: self.maybe(|any| any.one(&[Side::Client, Side::Server])),
            received_bytes: self.number(),
            sent_bytes: self.number(),
            tls: self.bool(),
            path: self.one(&[Path::Copy, Path::Splice, Path::Kernel]),
            source: self.maybe(Self::address),
        }
    }

    fn refused(&mut self) -> RefusedSource {
        RefusedSource {
            listener: self.text(),
            source: Prefix::parse(self.one(&["192.0.2.1", "2001:db8::/64"]))
                .unwrap_or_else(|error| unreachable!("{error}")),
            sessions: self.number(),
            reasons: self.counts(&EndReason::REFUSALS),
            last_reason: self.one(&EndReason::REFUSALS),
            age: self.time(),
        }
    }

    fn troubles(&mut self) -> Vec<Trouble> {
        self.some_of(|any| Trouble {
            pool: any.text().into(),
            server: any.text().into(),
            step: "greeting",
            cause: "4xx",
        })
    }
}

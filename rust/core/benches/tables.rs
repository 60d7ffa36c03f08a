//! How long it takes to look a client up, to note that it is refused, to pick its server and to
//! listen to its dialogue, and how much memory sources take: `make bench-core`.
//!
//! Every address that is looked up is another one, so that caches help no more than they would
//! with clients.

use std::hint::black_box;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mailweir_core::bench::{Farm, Limited, MaglevTable, PrefixTable, RefusedClients, follow};

use mailweir_core::spec::{Balance, Prefix, PrefixError};

/// Numbers that look random, and are the same each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn v4(&mut self) -> IpAddr {
        IpAddr::V4((self.next() as u32).into())
    }

    /// Of those that are given out.
    fn v6(&mut self) -> IpAddr {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        IpAddr::V6((1 << 125 | bits >> 3).into())
    }
}

type Draw = fn(&mut Numbers) -> IpAddr;

fn prefixes(number: usize, draw: Draw, lengths: Range<u8>) -> Vec<(Prefix, bool)> {
    let mut numbers = Numbers(1);
    let prefix = |_| {
        let length = lengths.start + numbers.next() as u8 % (lengths.end - lengths.start);
        let allow = numbers.next().is_multiple_of(2);
        match Prefix::new(draw(&mut numbers), length) {
            Ok(prefix) | Err(PrefixError::HostBits(prefix)) => (prefix, allow),
            Err(error) => panic!("{error}"),
        }
    };
    (0..number).map(prefix).collect()
}

fn access(criterion: &mut Criterion) {
    let families: [(&str, Draw, Range<u8>); 2] =
        [("v4", Numbers::v4, 12..33), ("v6", Numbers::v6, 24..65)];
    for (family, draw, lengths) in families {
        let mut numbers = Numbers(2);
        let clients: Vec<IpAddr> = (0..1 << 20).map(|_| draw(&mut numbers)).collect();
        for number in [1_000, 100_000] {
            let table = PrefixTable::new(&prefixes(number, draw, lengths.clone()));
            let mut next = clients.iter().cycle();
            criterion.bench_function(&format!("access/find/{family}/{number}"), |bencher| {
                bencher.iter(|| next.next().and_then(|client| table.find(*client)));
            });
        }
        let many = prefixes(100_000, draw, lengths);
        criterion.bench_function(&format!("access/build/{family}/100000"), |bencher| {
            bencher.iter_batched(|| (), |()| PrefixTable::new(&many), BatchSize::PerIteration);
        });
    }
}

/// Time that passes between two sessions: 100 000 come each second.
const STEP: u64 = 10_000;

fn sources(criterion: &mut Criterion) {
    for number in [1_u64, 10_000, 1_000_000] {
        let limited = Limited::new();
        let clock = AtomicU64::new(0);
        let pass = |threads, rounds| timed(&limited, number, &clock, threads, rounds);
        // All have been here.
        pass(1, number);
        for threads in [1, 2] {
            let name = format!("sources/pass/{number}/threads={threads}");
            criterion.bench_function(&name, |bencher| {
                bencher.iter_custom(|rounds| pass(threads, rounds));
            });
        }
    }
}

/// Clients of a flood are refused: of many sources, all of them new, and of few.
fn refused(criterion: &mut Criterion) {
    for number in [10_u64, 1_000_000] {
        let (refused, began) = (RefusedClients::none(), Instant::now());
        let mut count = 0_u64;
        criterion.bench_function(&format!("refused/note/{number}"), |bencher| {
            bencher.iter(|| {
                count += 1;
                let client = ((count % number) as u32).wrapping_mul(2_654_435_761);
                let now = began + Duration::from_nanos(count * STEP);
                refused.note(IpAddr::V4(client.into()), now);
            });
        });
    }
}

/// How long `rounds` sessions of `number` sources in turn take in each of `threads`.
fn timed(limited: &Limited, number: u64, clock: &AtomicU64, threads: u64, rounds: u64) -> Duration {
    let from = clock.fetch_add(rounds * threads, Relaxed);
    let run = |thread: u64| {
        for count in (from + thread..)
            .step_by(threads as usize)
            .take(rounds as usize)
        {
            // No two sources in turn are neighbours.
            let client = ((count % number) as u32).wrapping_mul(2_654_435_761);
            black_box(limited.pass(IpAddr::V4(client.into()), count * STEP));
        }
    };
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || run(thread));
        }
    });
    began.elapsed()
}

/// A session is given a server, and ends: while each server has ten, and a hundredth of them more.
fn picks(criterion: &mut Criterion) {
    let mut numbers = Numbers(4);
    let clients: Vec<IpAddr> = (0..1 << 16).map(|_| numbers.v4()).collect();
    for servers in [10_u32, 100, 1_000] {
        for balance in Balance::ALL {
            let farm = Farm::new(balance, servers).expect("it has servers");
            let now = Instant::now();
            let mut next = clients.iter().cycle();
            let mut pick = || next.next().and_then(|client| farm.pick(*client, now));
            let _held: Vec<_> = (0..servers * 10 + servers / 100).map(|_| pick()).collect();
            let name = format!("pick/{balance:?}/{servers}");
            criterion.bench_function(&name, |bencher| bencher.iter(&mut pick));
        }
        let table = MaglevTable::new(servers);
        let mut next = clients.iter().cycle();
        criterion.bench_function(&format!("maglev/find/{servers}"), |bencher| {
            bencher.iter(|| next.next().and_then(|client| table.find(*client)));
        });
        criterion.bench_function(&format!("maglev/build/{servers}"), |bencher| {
            bencher.iter_batched(
                || (),
                |()| MaglevTable::new(servers),
                BatchSize::PerIteration,
            );
        });
    }
}

/// The relay listens to a session with one message: of 1 KB, and of as much as it ever copies.
fn dialogue(criterion: &mut Criterion) {
    for size in [1 << 10, 32 << 10] {
        let mut message = b"Subject: bench\r\n\r\n".to_vec();
        while message.len() < size {
            message.extend_from_slice(&[b'x'; 74]);
            message.extend_from_slice(b".\r\n");
        }
        message.extend_from_slice(b".\r\n");
        let pieces: [(bool, &[u8]); 13] = [
            (false, b"220 mx.server.test ESMTP\r\n"),
            (true, b"EHLO client.test\r\n"),
            (
                false,
                b"250-mx.server.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n",
            ),
            (true, b"MAIL FROM:<sender@client.test>\r\n"),
            (false, b"250 2.1.0 Ok\r\n"),
            (true, b"RCPT TO:<box@server.test>\r\n"),
            (false, b"250 2.1.5 Ok\r\n"),
            (true, b"DATA\r\n"),
            (false, b"354 End data with <CR><LF>.<CR><LF>\r\n"),
            (true, &message),
            (false, b"250 2.0.0 Ok: taken\r\n"),
            (true, b"QUIT\r\n"),
            (false, b"221 2.0.0 Bye\r\n"),
        ];
        criterion.bench_function(&format!("dialogue/{size}"), |bencher| {
            bencher.iter(|| follow(black_box(&pieces)));
        });
    }
}

/// What a table takes: empty, with some sources, full, and after a flood.
fn memory(_: &mut Criterion) {
    let before = resident();
    let limited = Limited::new();
    let mut numbers = Numbers(3);
    let mut come = 0;
    for number in [0, 1_000, 10_000, 262_144, 3_000_000] {
        while come < number {
            black_box(limited.pass(numbers.v6(), 0));
            come += 1;
        }
        let (entries, kib) = (limited.entries(0), resident().saturating_sub(before) / 1024);
        eprintln!("sources/memory: {number} came, {entries} remembered, {kib} KiB resident");
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    number.unwrap_or_default() * 1024
}

criterion_group! {
    name = tables;
    // What is measured doesn't vary; half a minute for all of it.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .without_plots();
    targets = memory, access, sources, refused, picks, dialogue
}
criterion_main!(tables);

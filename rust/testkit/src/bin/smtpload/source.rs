//! The source: runs sessions, so many at a time or so many per second, to the bound given.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mailweir_testkit::message::Messages;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::SourceArgs;
use crate::record::Record;
use crate::session::{self, Plan};

/// Hands out the sessions to whoever is free, across threads.
struct Schedule {
    begun: Instant,
    next: AtomicU64,
    sessions: Option<u64>,
    duration: Option<Duration>,
    rate: Option<f64>,
    /// TERM came.
    stopped: AtomicBool,
}

/// One source of load.
struct Source {
    plan: Plan,
    schedule: Schedule,
    source_ips: Vec<IpAddr>,
    /// Differs from run to run, so that a sink tells their messages apart.
    run: String,
}

/// Runs to the bound and reports.
pub(crate) fn run(args: SourceArgs, json: bool) -> io::Result<ExitCode> {
    let size = args.size;
    let (threads, concurrency) = (u32::from(args.threads), args.concurrency);
    let source = Arc::new(Source::new(args));
    stop_at_term(&source)?;
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            let workers = concurrency / threads + u32::from(thread < concurrency % threads);
            let source = Arc::clone(&source);
            std::thread::spawn(move || run_thread(&source, workers))
        })
        .collect();
    let mut total = Record::new();
    for handle in handles {
        let record = handle
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
        total.merge(&record);
    }
    let report = total.report(source.schedule.begun.elapsed(), size);
    let text = if json {
        serde_json::to_string(&report)?
    } else {
        report.text()
    };
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(if report.all_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn stop_at_term(source: &Arc<Source>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut terminate = {
        let _inside = runtime.enter();
        signal(SignalKind::terminate())?
    };
    let source = Arc::clone(source);
    std::thread::spawn(move || {
        runtime.block_on(terminate.recv());
        source.schedule.stopped.store(true, Relaxed);
    });
    Ok(())
}

fn run_thread(source: &Arc<Source>, workers: u32) -> io::Result<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Never contended: all its users run on this thread.
    let record = Arc::new(Mutex::new(Record::new()));
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..workers {
            tasks.spawn(work(Arc::clone(source), Arc::clone(&record)));
        }
        tasks.join_all().await;
    });
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::replace(&mut record, Record::new()))
}

async fn work(source: Arc<Source>, record: Arc<Mutex<Record>>) {
    while let Some(number) = source.schedule.next().await {
        let ip = source.source_ip(number);
        let name = format!("{}-{number}", source.run);
        let result = session::run(&source.plan, &record, ip, &name).await;
        record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended(result);
    }
}

impl Source {
    fn new(args: SourceArgs) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            plan: Plan {
                connect: args.connect,
                messages: args.messages,
                content: Messages::of_size(args.size),
                pipelining: args.pipelining,
                think: args.think,
                timeout: args.timeout,
            },
            schedule: Schedule {
                begun: Instant::now(),
                next: AtomicU64::new(0),
                sessions: args.sessions,
                duration: args.duration,
                rate: args.rate,
                stopped: AtomicBool::new(false),
            },
            source_ips: args.source_ips,
            run: format!("{:x}-{:x}", now.as_nanos(), process::id()),
        }
    }

    fn source_ip(&self, number: u64) -> Option<IpAddr> {
        let count = self.source_ips.len().max(1) as u64;
        self.source_ips.get((number % count) as usize).copied()
    }
}

impl Schedule {
    /// Waits for the turn of the next session and returns its number, or `None` at the end.
    async fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        if self.sessions.is_some_and(|limit| number >= limit) {
            return None;
        }
        let now = self.begun.elapsed();
        let due = self
            .rate
            .map_or(now, |rate| Duration::from_secs_f64(number as f64 / rate));
        if self.duration.is_some_and(|limit| due.max(now) >= limit) {
            return None;
        }
        if due > now {
            tokio::time::sleep(due - now).await;
        }
        (!self.stopped.load(Relaxed)).then_some(number)
    }
}

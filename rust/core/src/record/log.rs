//! The session log: a line for each session that has ended, written by a thread of its own.
//!
//! Workers only push onto a queue. They never wait, and wake nobody as long as the queue is
//! less than half full: a wake-up for each session would cost 2 to 5 % of a short one. The thread
//! looks by itself every 100 ms. Where it can't keep up, sessions are missing from the log and
//! are counted.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::{io, mem};

use crossbeam_queue::ArrayQueue;
use fail::fail_point;
use serde::Serialize;

use crate::metrics::Counter;
use crate::spec::LogSpec;
use crate::sys;

use super::account::Account;
use super::format;
pub(crate) use super::sink::Sink;

/// Sessions that wait to be written; a few MB at most.
const CAPACITY: usize = 16_384;
/// How often the thread looks.
const TICK: Duration = Duration::from_millis(100);
/// Text is written once it is as long as this: with another line it stays below 64 KiB.
const BATCH: usize = 60 * 1024;
/// How long the thread writes, about, before it looks what else it is to do.
const TURN: Duration = Duration::from_millis(250);
/// How long the thread writes, about, after it was told to stop. Less than [`STOP`].
const LAST_TURN: Duration = Duration::from_secs(1);
/// How long to wait for the thread to end.
const STOP: Duration = Duration::from_secs(2);
/// A single write that takes longer than this is one that nobody reads: its end isn't waited for.
const STUCK: Duration = Duration::from_millis(400);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How the session log does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LogStats {
    /// Sessions written.
    pub lines: u64,
    /// Sessions that weren't: the queue was full, or writing failed.
    pub dropped: u64,
    /// Times that writing or opening failed.
    pub errors: u64,
    /// The last of those in words; empty where there was none.
    pub last_error: String,
}

/// Who is told when a session was written.
pub(crate) trait Told: std::fmt::Debug + Send {
    /// In the log's thread.
    fn written(&self);
}

#[derive(Debug)]
struct Entry {
    account: Box<Account>,
    told: Option<Box<dyn Told>>,
}

/// The log, as workers and the one who configures it see it.
#[derive(Debug)]
pub(crate) struct SessionLog {
    shared: Arc<SharedLog>,
    wake: Thread,
    /// The thread, and what closes when that ends, however it does. None once it was stopped.
    running: Mutex<Option<(JoinHandle<()>, Receiver<Infallible>)>>,
}

#[derive(Debug)]
struct SharedLog {
    queue: ArrayQueue<Entry>,
    on: AtomicBool,
    /// Whether the thread was woken since it looked last.
    hurried: AtomicBool,
    orders: Mutex<Orders>,
    /// Since when the thread is in a write; None where it isn't.
    writing: Mutex<Option<Instant>>,
    lines: Counter,
    dropped: Counter,
    errors: Counter,
    last_error: Mutex<String>,
}

/// What the thread is to do besides writing.
#[derive(Debug, Default)]
struct Orders {
    /// To write to from now on; more than one where changes come fast.
    sinks: Vec<Sink>,
    reopen: bool,
    /// Who wants to know when all that was pushed before is written.
    settled: Vec<Sender<Infallible>>,
    stop: bool,
}

impl SessionLog {
    /// Starts the thread; nothing is logged until [`switch`](Self::switch).
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_with(TICK)
    }

    fn start_with(tick: Duration) -> io::Result<Self> {
        let shared = Arc::new(SharedLog {
            queue: ArrayQueue::new(CAPACITY),
            on: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            orders: Mutex::default(),
            writing: Mutex::default(),
            lines: Counter::default(),
            dropped: Counter::default(),
            errors: Counter::default(),
            last_error: Mutex::default(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            sink: Sink::off(),
            text: Vec::with_capacity(BATCH + 4096),
            lines: 0,
            told: vec![],
            settled: vec![],
        };
        let (ends, ended) = channel();
        let thread = thread::Builder::new()
            .name("mailweir-log".into())
            .spawn(move || {
                let _ends = ends;
                sys::block_signals();
                writer.run(tick);
            })?;
        Ok(Self {
            shared,
            wake: thread.thread().clone(),
            running: Mutex::new(Some((thread, ended))),
        })
    }

    /// Opens what `spec` names, for [`switch`](Self::switch).
    ///
    /// # Errors
    /// What the system says, with the path.
    pub(crate) fn open(spec: &LogSpec) -> io::Result<Sink> {
        Sink::open(spec)
    }

    /// Whether sessions are to be pushed at all.
    pub(crate) fn is_on(&self) -> bool {
        self.shared.on.load(Relaxed)
    }

    /// A session has ended; `told` hears of it once it was written. Never waits. Whether there was
    /// room for it.
    pub(crate) fn push(&self, account: Box<Account>, told: Option<Box<dyn Told>>) -> bool {
        let shared = &*self.shared;
        let has_room = shared.queue.push(Entry { account, told }).is_ok();
        if !has_room {
            shared.dropped.add(1);
        }
        let half = shared.queue.len() >= CAPACITY / 2;
        if half && !shared.hurried.load(Relaxed) && !shared.hurried.swap(true, Relaxed) {
            self.wake.unpark();
        }
        has_room
    }

    /// Writes there from now on. What was pushed before goes there or to the one before.
    pub(crate) fn switch(&self, sink: Sink) {
        self.order(|orders| {
            // Within the lock: otherwise of two changes the first could have the last word.
            self.shared.on.store(sink.is_on() && !orders.stop, Relaxed);
            orders.sinks.push(sink);
        });
    }

    /// Opens the file again, which was renamed, as soon as the thread comes to it. If that fails
    /// it goes on with the one it has.
    pub(crate) fn reopen(&self) {
        self.order(|orders| orders.reopen = true);
    }

    /// Waits until what was pushed before is written, for a while at most: where nobody reads, or
    /// nothing is logged, it isn't.
    pub(crate) fn settle(&self) {
        let (settled, is_settled) = channel();
        self.order(|orders| orders.settled.push(settled));
        // Nothing is said: it ends when the other end is dropped.
        let _ = is_settled.recv_timeout(STOP);
    }

    /// How it does.
    pub(crate) fn stats(&self) -> LogStats {
        let shared = &self.shared;
        LogStats {
            lines: shared.lines.value(),
            dropped: shared.dropped.value(),
            errors: shared.errors.value(),
            last_error: lock(&shared.last_error).clone(),
        }
    }

    /// Writes what was pushed and ends the thread. Whoever pushes must have stopped before.
    ///
    /// Takes 2 s at most, and less where the thread is stuck in a write: it is left alone then.
    pub(crate) fn stop(&self) {
        self.stop_within(STOP);
    }

    fn stop_within(&self, limit: Duration) {
        let Some((thread, ended)) = lock(&self.running).take() else {
            return;
        };
        self.order(|orders| {
            orders.stop = true;
            self.shared.on.store(false, Relaxed);
        });
        let until = Instant::now() + limit;
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() >= until || self.shared.is_stuck() {
                self.shared.discard();
                return;
            }
        }
        // A panic of the thread was printed already, and it has ended, which is asked for here.
        let _ = thread.join();
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut lock(&self.shared.orders));
        self.wake.unpark();
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl SharedLog {
    /// Counts what is in the queue as lost.
    fn discard(&self) {
        while self.queue.pop().is_some() {
            self.dropped.add(1);
        }
    }

    fn is_stuck(&self) -> bool {
        lock(&self.writing).is_some_and(|since| since.elapsed() > STUCK)
    }

    fn failed(&self, error: &io::Error) {
        self.errors.add(1);
        *lock(&self.last_error) = error.to_string();
    }
}

/// The thread.
#[derive(Debug)]
struct Writer {
    shared: Arc<SharedLog>,
    sink: Sink,
    /// Lines to be written with one call, and how many.
    text: Vec<u8>,
    lines: u64,
    /// Who hears of that.
    told: Vec<Box<dyn Told>>,
    /// Who hears of it when the queue is empty, by the end of these.
    settled: Vec<Sender<Infallible>>,
}

impl Writer {
    fn run(mut self, tick: Duration) {
        while !self.obey() {
            let more = self.drain(TURN);
            if !more {
                self.settled.clear();
            }
            if !self.sink.is_on() {
                // What is in the queue came too late for the last sink; it is for the next one.
                thread::park();
            } else if !more {
                thread::park_timeout(tick);
            }
        }
        self.finish();
    }

    /// Carries out what was ordered; true to stop.
    fn obey(&mut self) -> bool {
        let mut orders = lock(&self.shared.orders);
        let sinks = mem::take(&mut orders.sinks);
        let reopen = mem::take(&mut orders.reopen);
        self.settled.append(&mut orders.settled);
        let stop = orders.stop;
        drop(orders);
        self.switch(sinks);
        if reopen && let Err(error) = self.sink.reopen() {
            self.shared.failed(&error);
        }
        stop
    }

    /// Takes the last of these sinks. What is in the queue is written to that, or, if it takes
    /// nothing, to the one before.
    fn switch(&mut self, mut sinks: Vec<Sink>) {
        let off = sinks.pop_if(|sink| !sink.is_on());
        if let Some(mut sink) = sinks.into_iter().rfind(Sink::is_on) {
            sink.follow(&self.sink);
            self.sink = sink;
        }
        if let Some(off) = off {
            self.finish();
            self.sink = off;
        }
    }

    /// Writes what is in the queue if that can be done in a little time.
    fn finish(&mut self) {
        if self.sink.is_on() {
            self.drain(LAST_TURN);
            self.shared.discard();
        }
    }

    /// Writes what is in the queue, for so long; true if there is more that could be written.
    fn drain(&mut self, limit: Duration) -> bool {
        self.shared.hurried.store(false, Relaxed);
        if !self.sink.is_on() {
            return false;
        }
        let begun = Instant::now();
        while let Some(Entry { account, told }) = self.shared.queue.pop() {
            self.told.extend(told);
            format::line(&account, self.sink.format, &mut self.text);
            self.lines += 1;
            if self.text.len() < BATCH {
                continue;
            }
            if !self.flush() {
                return false;
            }
            if begun.elapsed() >= limit {
                return true;
            }
        }
        self.flush();
        false
    }

    /// Writes the lines there are; false if nobody reads, so that what is still in the queue
    /// should wait there. Any other failure may last: lines are lost then, rather than that the
    /// queue stays full and workers wake the thread all the time.
    fn flush(&mut self) -> bool {
        if self.lines == 0 {
            return true;
        }
        fail_point!("log_writes");
        *lock(&self.shared.writing) = Some(Instant::now());
        let written = self.sink.write(&self.text, self.lines);
        *lock(&self.shared.writing) = None;
        fail_point!("log_written");
        self.shared.lines.add(written.lines);
        let lost = self.lines.saturating_sub(written.lines);
        self.shared.dropped.add(lost);
        self.text.clear();
        self.lines = 0;
        for told in self.told.drain(..) {
            // Also where that failed: then they are counted as lost.
            told.written();
        }
        if let Some(error) = &written.failure {
            self.shared.failed(error);
        }
        !written.is_stuck()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! The thread behind the log: what is pushed is written once, or counted as dropped.

use std::{fs, ops::Range, path::Path};

use super::super::account::SessionId;
use super::super::format::tests::empty;
use super::super::sink::tests::{Folder, file};
use super::*;

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);
/// A tick that never comes: what is written then was written for another reason.
const NEVER: Duration = Duration::from_secs(3600);
const SIZE: u64 = CAPACITY as u64;

fn push(log: &SessionLog, numbers: Range<u64>) {
    for number in numbers {
        let id = SessionId(number);
        log.push(Box::new(Account { id, ..empty() }), None);
    }
}

fn until(log: &SessionLog, what: impl Fn(&LogStats) -> bool) {
    let begun = Instant::now();
    while !what(&log.stats()) {
        assert!(begun.elapsed() < LIMIT, "still {:?}", log.stats());
        thread::sleep(Duration::from_millis(1));
    }
}

/// What to do, and the file that has something in it afterwards.
type Doing<'a> = (&'a str, &'a dyn Fn(&Folder, &SessionLog));

/// Pushes sessions without a pause while each step is taken. Then `names` have everything
/// once, in order.
fn lossless(steps: &[Doing<'_>], names: &[&str]) {
    let folder = Folder::new(names[0]);
    let log = SessionLog::start().unwrap();
    let done = AtomicBool::new(false);
    let pushed = thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let mut pushed = 0;
            while !done.load(Relaxed) {
                // Not faster than they can be written: that would lose some.
                until(&log, |stats| pushed < stats.lines + SIZE / 2);
                push(&log, pushed..pushed + 100);
                pushed += 100;
            }
            pushed
        });
        for (name, step) in steps {
            step(&folder, &log);
            let file = folder.0.join(name);
            let size = || fs::metadata(&file).map_or(0, |file| file.len());
            until(&log, |_| size() > 0);
        }
        done.store(true, Relaxed);
        pushing.join().unwrap()
    });
    // What the end of the process would give up on a busy machine isn't looked at here.
    until(&log, |stats| stats.lines + stats.dropped == pushed);
    log.stop();
    let stats = log.stats();
    assert_eq!((stats.lines, stats.dropped, stats.errors), (pushed, 0, 0));
    assert_eq!(folder.numbers(names), Vec::from_iter(0..pushed));
}

#[test]
fn a_change_of_the_file_loses_nothing() {
    let to = |name| move |folder: &Folder, log: &SessionLog| log.switch(folder.file(name));
    let (a, b, c) = (to("a"), to("b"), to("c"));
    lossless(&[("a", &a), ("b", &b), ("c", &c)], &["a", "b", "c"]);
}

#[test]
fn rotation_loses_nothing() {
    let open = |folder: &Folder, log: &SessionLog| log.switch(folder.file("new"));
    let rotate = |folder: &Folder, log: &SessionLog| {
        fs::rename(folder.0.join("new"), folder.0.join("old")).unwrap();
        log.reopen();
    };
    lossless(&[("new", &open), ("new", &rotate)], &["old", "new"]);
}

#[test]
fn a_file_that_cannot_be_opened_again_is_kept() {
    let folder = Folder::new("kept");
    fs::create_dir(folder.0.join("in")).unwrap();
    let log = SessionLog::start().unwrap();
    log.switch(folder.file("in/log"));
    push(&log, 0..1);
    until(&log, |stats| stats.lines == 1);
    fs::rename(folder.0.join("in"), folder.0.join("out")).unwrap();
    log.reopen();
    until(&log, |stats| stats.errors == 1);
    assert!(log.stats().last_error.contains("in/log: No such file"));
    push(&log, 1..2);
    log.stop();
    assert_eq!(folder.numbers(&["out/log"]), [0, 1]);
}

#[test]
fn what_a_full_queue_does_not_take_is_counted() {
    let folder = Folder::new("full");
    let log = SessionLog::start().unwrap();
    // Nothing is taken from it while the log is off.
    push(&log, 0..SIZE + 10);
    assert_eq!(log.stats().dropped, 10);
    log.switch(folder.file("log"));
    until(&log, |stats| stats.lines == SIZE);
    assert_eq!(folder.numbers(&["log"]), Vec::from_iter(0..SIZE));
}

#[test]
fn a_queue_that_is_half_full_wakes_the_thread() {
    let log = SessionLog::start_with(NEVER).unwrap();
    log.switch(file(Path::new("/dev/null")).unwrap());
    for _ in 0..3 {
        let before = log.stats().lines;
        push(&log, 0..SIZE);
        until(&log, |stats| stats.lines > before);
        // An order wakes it as well: for what came after.
        log.reopen();
        until(&log, |_| log.shared.queue.is_empty());
    }
    assert_eq!(log.stats().dropped, 0);
}

#[test]
fn stopping_or_switching_off_writes_what_is_queued() {
    let folder = Folder::new("stop");
    let log = SessionLog::start_with(NEVER).unwrap();
    log.switch(folder.file("log"));
    assert!(log.is_on());
    push(&log, 0..100);
    log.switch(Sink::off());
    assert!(!log.is_on());
    until(&log, |stats| stats.lines == 100);
    log.switch(folder.file("log"));
    push(&log, 100..200);
    log.stop();
    log.stop();
    log.switch(folder.file("log"));
    assert!(!log.is_on());
    assert_eq!(folder.numbers(&["log"]), Vec::from_iter(0..200));
}

#[derive(Debug)]
struct Teller(Arc<Counter>);

impl Told for Teller {
    fn written(&self) {
        self.0.add(1);
    }
}

#[test]
fn who_wants_to_know_is_told_once_it_is_written() {
    let folder = Folder::new("told");
    let log = SessionLog::start().unwrap();
    let heard = Arc::new(Counter::default());
    let push = || {
        let teller = Teller(Arc::clone(&heard));
        log.push(Box::new(empty()), Some(Box::new(teller)))
    };
    assert!(push());
    // Nothing is written while the log is off.
    log.reopen();
    push_many(&log);
    assert!(!push(), "it is full");
    assert_eq!(heard.value(), 0);
    log.switch(folder.file("log"));
    until(&log, |_| heard.value() == 1);
    assert!(fs::metadata(folder.0.join("log")).unwrap().len() > 0);
}

fn push_many(log: &SessionLog) {
    push(log, 1..SIZE);
}

#[test]
fn a_full_disk_is_counted() {
    let log = SessionLog::start().unwrap();
    log.switch(file(Path::new("/dev/full")).unwrap());
    push(&log, 0..1000);
    until(&log, |stats| stats.dropped == 1000);
    log.stop();
    assert!(log.stats().lines == 0 && log.stats().errors > 0);
    assert!(log.stats().last_error.starts_with("/dev/full: No space"));
}

#[test]
fn a_thread_that_is_stuck_does_not_hold_up_the_end() {
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let log = SessionLog::start().unwrap();
    log.switch(Sink::blocking(writer.into()));
    push(&log, 0..10_000);
    thread::sleep(2 * STUCK);
    let begun = Instant::now();
    log.stop();
    // It has been in one write for longer than anybody waits for.
    assert!(begun.elapsed() < STOP / 2);
    // What it has in hand is neither written nor lost as yet; what it hasn't is lost.
    let LogStats { lines, dropped, .. } = log.stats();
    assert!(dropped > 0 && lines + dropped < 10_000);
}

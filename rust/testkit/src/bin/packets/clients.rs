//! Clients: begins sessions at a rate, has them go on, and says how they ended.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::ClientsArgs;
use super::say;
use super::stop::Stop;
use super::table::{End, News, Plan, Table};
use super::tally::Times;
use super::wire::Wire;

/// Between looks at sessions that are to begin or to go on, and at whether TERM has come.
const SHORT_LOOK: Duration = Duration::from_millis(1);
const LONG_LOOK: Duration = Duration::from_millis(50);
/// Sessions that begin, or go on, before anything else is done; and those that say something again.
const TURN: u32 = 16;
const TURN_AGAIN: usize = 256;

/// Runs all sessions to their end.
///
/// # Errors
/// What the system says.
pub(crate) fn run(args: &ClientsArgs) -> io::Result<ExitCode> {
    let stop = Stop::by_signal()?;
    let mut wire = Wire::open(&args.interface, Some(args.addresses))?;
    let plan = Plan {
        to: args.to,
        addresses: args.addresses,
        first_port: args.first_port,
        messages: args.messages,
        rests: args.rest,
        every: args.every.map(Duration::from_millis),
    };
    let mut table = Table::new(plan);
    let mut tally = Tally::new();
    let began = Instant::now();
    // Since when they go on that have rested.
    let mut roused: Option<Duration> = None;
    let mut all_rest = !args.rest;
    while tally.over() < args.sessions {
        let now = began.elapsed();
        let mut is_busy = wire.hear(|segment| table.hear(began.elapsed(), segment))?;
        let due = args.sessions.min(passed(now, args.rate));
        for _ in table.begun()..due.min(table.begun() + TURN) {
            let Some(said) = table.begin(began.elapsed()) else {
                let most = format!("there are ports for {} sessions", table.begun());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, most));
            };
            wire.say(args.router, &said)?;
            is_busy = true;
        }
        for _ in 0..TURN_AGAIN {
            let Some(said) = table.due(began.elapsed()) else {
                break;
            };
            wire.say(args.router, &said)?;
            is_busy = true;
        }
        if stop.has_come() && table.begun() == args.sessions {
            let since = *roused.get_or_insert(now);
            let due = args.sessions.min(passed(now - since, args.rate));
            for _ in table.roused()..due.min(table.roused() + TURN) {
                if let Some(said) = table.rouse(began.elapsed()) {
                    wire.say(args.router, &said)?;
                }
                is_busy = true;
            }
        }
        tally.count(&mut table.news);
        if !all_rest && tally.rested + tally.restless == args.sessions {
            all_rest = true;
            say(&json!({"rested": tally.rested, "took_s": began.elapsed().as_secs_f64()}))?;
        }
        if !is_busy {
            let all_begun = table.begun() == args.sessions && roused.is_none();
            let look = if all_begun { LONG_LOOK } else { SHORT_LOOK };
            let due = table.next_due().map_or(look, |due| due.saturating_sub(now));
            wire.wait(due.min(look))?;
        }
    }
    let mut report = tally.report();
    report["frames"] = wire.report();
    report["took_s"] = began.elapsed().as_secs_f64().into();
    say(&report)?;
    Ok(ExitCode::from(u8::from(tally.failed() > 0)))
}

/// How many of so many a second there are after this time.
fn passed(time: Duration, rate: u32) -> u32 {
    let passed = time.as_micros() * u128::from(rate) / 1_000_000;
    u32::try_from(passed).unwrap_or(u32::MAX)
}

/// What has become of them.
struct Tally {
    /// As in [`End::ALL`].
    ends: [u32; End::ALL.len()],
    /// Those that have begun to rest, and those that are over and never did.
    rested: u32,
    restless: u32,
    again: u64,
    sessions: Times,
    replies: Times,
}

impl Tally {
    fn new() -> Self {
        Self {
            ends: [0; End::ALL.len()],
            rested: 0,
            restless: 0,
            again: 0,
            sessions: Times::new(),
            replies: Times::new(),
        }
    }

    fn count(&mut self, news: &mut Vec<News>) {
        for one in news.drain(..) {
            match one {
                News::Answered(time) => self.replies.record(time),
                News::Rests(time) => {
                    self.rested += 1;
                    self.sessions.record(time);
                }
                News::Over(end, time, had_rested) => {
                    self.ends[end as usize] += 1;
                    if !had_rested {
                        self.restless += 1;
                        self.sessions.record(time);
                    }
                }
                News::Again => self.again += 1,
            }
        }
    }

    fn over(&self) -> u32 {
        self.ends.iter().sum()
    }

    fn failed(&self) -> u32 {
        self.over() - self.ends[End::Done as usize]
    }

    fn report(&self) -> Value {
        let failed = End::ALL.iter().filter(|(end, _)| *end != End::Done);
        let failed =
            failed.map(|(end, name)| ((*name).to_owned(), self.ends[*end as usize].into()));
        json!({
            "done": self.ends[End::Done as usize],
            "failed": Value::Object(failed.collect()),
            "rested": self.rested,
            "said_again": self.again,
            // Of those that rest: until they do.
            "session_us": self.sessions.report(),
            "reply_us": self.replies.report(),
        })
    }
}

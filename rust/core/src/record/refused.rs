//! Whom a listener refused, and why: those whom it refused most and last. For an operator who asks;
//! nothing is decided by it.
//!
//! What is remembered is [`bounded`](crate::bounded): a flood of sources takes no more room than it,
//! and forgets first who was refused seldom and long ago.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bounded::{Bounded, Value};
use crate::moment::nanos;
use crate::prefixes::Prefix;
use crate::spec::{SourceSpec, wire};

use super::EndReason;

/// Of a listener: more than anybody reads. Some 110 bytes each, taken once sources come.
const PLACES: usize = 4096;
/// Who wasn't refused for so long is forgotten, in nanoseconds: a day.
const FORGOTTEN_AFTER: u64 = 24 * 3600 * 1_000_000_000;
/// By so much longer each refusal keeps a source where others want its place: a minute.
const KEPT_FOR_EACH: u64 = 60 * 1_000_000_000;

/// The sources that a listener refused.
#[derive(Debug)]
pub(crate) struct Refused(Bounded<TurnedAway>);

/// What is remembered of a source.
#[derive(Debug, Default, Clone, Copy)]
struct TurnedAway {
    /// None until it was refused.
    prefix: Option<Prefix>,
    /// How often for each of `EndReason::REFUSALS`.
    counts: [u32; EndReason::REFUSALS.len()],
    /// When it was refused last, and for which of those.
    last: u64,
    last_reason: u8,
}

impl Value for TurnedAway {
    fn is_idle(&self, now: u64) -> bool {
        self.last.saturating_add(FORGOTTEN_AFTER) <= now
    }

    fn is_pinned(&self) -> bool {
        false
    }

    fn worth(&self) -> u64 {
        let credit = self.sessions().saturating_mul(KEPT_FOR_EACH);
        self.last.saturating_add(credit)
    }
}

/// A source that was refused, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedSource {
    /// The listener's name.
    pub listener: String,
    /// An address, or of IPv6 what limits count as one source.
    pub source: Prefix,
    /// Sessions, since it was last not refused for a day.
    pub sessions: u64,
    /// The same by reason, without those that are zero.
    #[serde(serialize_with = "wire::counts")]
    pub reasons: Vec<(EndReason, u64)>,
    /// Why it was refused last.
    pub last_reason: EndReason,
    /// Since then.
    #[serde(with = "wire::seconds")]
    pub age: Duration,
}

impl Refused {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(PLACES))
    }

    /// A client was told so, if that is a refusal. `source` is what counts as one.
    pub(crate) fn note(&self, client: IpAddr, source: SourceSpec, why: EndReason, now: Instant) {
        let Some(reason) = EndReason::REFUSALS.iter().position(|one| *one == why) else {
            return;
        };
        let now = nanos(now);
        // There is a place always, since none is pinned.
        self.0.with(source.key(client), now, |known| {
            if known.is_idle(now) {
                *known = TurnedAway::default();
            }
            known.prefix = Some(source.prefix(client));
            known.counts[reason] = known.counts[reason].saturating_add(1);
            known.last = now;
            known.last_reason = reason as u8;
        });
    }

    /// All that are remembered, in no order.
    pub(crate) fn read(&self, listener: &str, now: Instant) -> Vec<RefusedSource> {
        let now = nanos(now);
        let mut found = vec![];
        self.0.each(now, |source| {
            found.extend(source.read(listener, now));
        });
        found
    }
}

impl TurnedAway {
    fn sessions(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    fn read(&self, listener: &str, now: u64) -> Option<RefusedSource> {
        let reasons = EndReason::REFUSALS.into_iter().zip(self.counts);
        let reasons = reasons.filter(|(_, count)| *count > 0);
        Some(RefusedSource {
            listener: listener.to_owned(),
            source: self.prefix?,
            sessions: self.sessions(),
            reasons: reasons.map(|(why, count)| (why, count.into())).collect(),
            last_reason: EndReason::REFUSALS[usize::from(self.last_reason)],
            age: Duration::from_nanos(now.saturating_sub(self.last)),
        })
    }
}

/// The first of all, who was refused most, `limit` at most.
pub(crate) fn most_refused(mut all: Vec<RefusedSource>, limit: usize) -> Vec<RefusedSource> {
    all.sort_by(|a, b| b.sessions.cmp(&a.sessions).then(a.age.cmp(&b.age)));
    all.truncate(limit);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SOURCE: SourceSpec = SourceSpec {
        prefix4: 32,
        prefix6: 64,
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn told(refused: &Refused, now: Instant) -> Vec<(String, u64, EndReason, u64)> {
        let all = most_refused(refused.read("mx", now), 10);
        let told = |one: RefusedSource| {
            let age = one.age.as_secs();
            (one.source.to_string(), one.sessions, one.last_reason, age)
        };
        all.into_iter().map(told).collect()
    }

    #[test]
    fn who_was_refused_most_comes_first() {
        use EndReason::{ClientQuit, Denied, Full, SourceRate};

        let (refused, start) = (Refused::new(), Instant::now());
        for (client, why, second) in [
            ("192.0.2.1", Denied, 1),
            ("2001:db8::1", SourceRate, 2),
            ("::ffff:192.0.2.1", Full, 3),
            ("2001:db8::ffff:2", SourceRate, 4),
            ("2001:db8:0:1::1", SourceRate, 5),
            ("192.0.2.1", Denied, 6),
            ("192.0.2.9", ClientQuit, 7),
        ] {
            refused.note(ip(client), SOURCE, why, after(start, second));
        }
        let expected = [
            ("192.0.2.1/32".to_owned(), 3, Denied, 4),
            ("2001:db8::/64".to_owned(), 2, SourceRate, 6),
            ("2001:db8:0:1::/64".to_owned(), 1, SourceRate, 5),
        ];
        assert_eq!(told(&refused, after(start, 10)), expected);
        let all = refused.read("mx", after(start, 10));
        let [first] = &most_refused(all, 1)[..] else {
            panic!("one");
        };
        assert_eq!(first.reasons, [(Full, 1), (Denied, 2)]);
    }

    #[test]
    fn a_day_later_it_is_forgotten() {
        let (refused, start) = (Refused::new(), Instant::now());
        let (client, day) = (ip("192.0.2.1"), 24 * 3600);
        refused.note(client, SOURCE, EndReason::Denied, start);
        refused.note(client, SOURCE, EndReason::Denied, after(start, day - 1));
        assert_eq!(told(&refused, after(start, day))[0].1, 2);
        assert_eq!(told(&refused, after(start, 2 * day - 1)), []);
        refused.note(client, SOURCE, EndReason::Full, after(start, 2 * day));
        let again = [("192.0.2.1/32".to_owned(), 1, EndReason::Full, 0)];
        assert_eq!(told(&refused, after(start, 2 * day)), again);
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room_and_hides_nobody() {
        let (refused, start) = (Refused::new(), Instant::now());
        let spammer = ip("198.51.100.7");
        for number in 0..200_000_u32 {
            // 2000 a second, of which one in a hundred is the spammer's.
            let now = start + Duration::from_micros(500) * number;
            let one = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let client = if number.is_multiple_of(100) {
                spammer
            } else {
                one
            };
            refused.note(client, SOURCE, EndReason::Denied, now);
        }
        let now = after(start, 100);
        let all = refused.read("mx", now);
        assert!(all.len() <= PLACES, "{}", all.len());
        let of: HashMap<String, u64> = all
            .into_iter()
            .map(|one| (one.source.to_string(), one.sessions))
            .collect();
        let seen = of["198.51.100.7/32"];
        assert!(seen > 1900, "{seen} of 2000");
        assert!(size_of::<TurnedAway>() <= 96, "{}", size_of::<TurnedAway>());
    }
}

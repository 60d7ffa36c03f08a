//! Figures, as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// How long something took, many times.
pub(crate) struct Times(Histogram<u64>);

/// In microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

impl Times {
    pub(crate) fn new() -> Self {
        // Two digits are as much as anybody looks at.
        let times = Histogram::new_with_max(LONGEST, 2);
        Self(times.unwrap_or_else(|error| unreachable!("both are allowed: {error}")))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    /// In microseconds.
    pub(crate) fn report(&self) -> Value {
        let at = |quantile| self.0.value_at_quantile(quantile);
        json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": self.0.max()})
    }
}

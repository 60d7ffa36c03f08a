//! Who may connect to a listener, and what a source may there.

use std::net::IpAddr;

use crate::prefixes::Prefixes;
use crate::sources::{Rate, SourceLimits};
use crate::spec::{AccessSpec, PerSourceSpec, SourceSpec};

/// By which prefixes clients are let in.
#[derive(Debug)]
pub(crate) struct Access {
    /// Whether the clients of each are.
    prefixes: Prefixes<bool>,
    /// Whether those of none are.
    others: bool,
}

impl Access {
    pub(super) fn new(spec: &AccessSpec) -> Self {
        let allowed = spec.allow.iter().map(|prefix| (*prefix, true));
        let denied = spec.deny.iter().map(|prefix| (*prefix, false));
        Self {
            prefixes: Prefixes::new(allowed.chain(denied)),
            others: spec.admits_others,
        }
    }

    pub(crate) fn lets_in(&self, client: IpAddr) -> bool {
        self.prefixes.find(client).unwrap_or(self.others)
    }
}

/// What a source may.
#[derive(Debug)]
pub(crate) struct SourceTerms {
    pub(crate) source: SourceSpec,
    pub(crate) limits: SourceLimits,
    exempt: Prefixes<()>,
}

impl SourceTerms {
    pub(super) fn new(spec: &PerSourceSpec) -> Self {
        let rate = |rate: &crate::spec::RateSpec| Rate::new(rate.count, rate.period, rate.burst);
        Self {
            source: spec.source,
            limits: SourceLimits {
                sessions: spec.sessions,
                rate: spec.rate.as_ref().map(rate),
            },
            exempt: Prefixes::new(spec.exempt.iter().map(|prefix| (*prefix, ()))),
        }
    }

    pub(super) fn exempts(&self, client: IpAddr) -> bool {
        self.exempt.find(client).is_some()
    }
}

//! Whether there is a kernel path: how much the configuration wants it, and what became of that.

use std::sync::{Arc, OnceLock};

use crate::kernel_path::{KernelPath, NoKernelPath, Sweeper};
use crate::spec::{Forwarding, ListenerSpec, PlaneSpec, Protocol};
use crate::stats::NoKernelPathStats;

/// How much a configuration wants the kernel path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    None,
    /// Without it sessions take the relay.
    WherePossible,
    /// Without it the configuration doesn't run.
    Insisted,
}

impl Wish {
    pub(super) fn of(spec: &PlaneSpec) -> Self {
        let insists = |one: &ListenerSpec| one.forwarding == Forwarding::Kernel;
        if spec.listeners.iter().any(insists) {
            Self::Insisted
        } else if spec.listeners.iter().any(could_leave) {
            Self::WherePossible
        } else {
            Self::None
        }
    }
}

/// What became of the wish for the kernel path.
#[derive(Debug, Default)]
pub(super) enum KernelStart {
    #[default]
    NotWanted,
    Failed(NoKernelPath),
    Runs(Sweeper),
}

/// A kernel path that was started, for a change that isn't made yet. It has its source ports and
/// places to its end, so one whose change fails is no use for the next.
#[derive(Debug)]
#[must_use]
pub(super) struct Fresh(Sweeper);

impl Fresh {
    /// The change isn't made: as if it had never been started. Waits for that.
    pub(super) fn give_up(self) {
        self.0.give_up();
    }
}

impl KernelStart {
    /// Starts the kernel path where it is wanted for the first time, or couldn't be had before.
    ///
    /// # Errors
    /// Why there is none, where that is insisted on. Then nothing has changed.
    pub(super) fn act_on(
        &mut self,
        wish: Wish,
        start: impl FnOnce() -> Result<KernelPath, NoKernelPath>,
    ) -> Result<Option<Fresh>, NoKernelPath> {
        if matches!(self, Self::Runs(_)) || wish == Wish::None {
            return Ok(None);
        }
        match start().and_then(|path| Sweeper::start(&Arc::new(path))) {
            Ok(sweeper) => return Ok(Some(Fresh(sweeper))),
            Err(why) if wish == Wish::Insisted => return Err(why),
            Err(why) => *self = Self::Failed(why),
        }
        Ok(None)
    }

    /// The change is made: `path` has it from now on.
    pub(super) fn now_runs(&mut self, fresh: Fresh, path: &OnceLock<Arc<KernelPath>>) {
        // Nobody else sets it.
        let _ = path.set(Arc::clone(fresh.0.path()));
        *self = Self::Runs(fresh.0);
    }

    /// This is what the running configuration wants: where that is nothing, a failure is none.
    pub(super) fn now_wanted(&mut self, wish: Wish) {
        if wish == Wish::None && matches!(self, Self::Failed(_)) {
            *self = Self::NotWanted;
        }
    }

    /// Why there is none although it is wanted.
    pub(super) fn why_failed(&self) -> Option<NoKernelPathStats> {
        match self {
            Self::Failed(why) => Some(NoKernelPathStats {
                reason: why.label(),
                told: why.to_string(),
            }),
            Self::NotWanted | Self::Runs(_) => None,
        }
    }

    /// Stops what runs; waits for that.
    pub(super) fn stop(&mut self) {
        if let Self::Runs(sweeper) = std::mem::take(self) {
            sweeper.stop();
        }
    }
}

/// Whether sessions of a listener could take the kernel path, as far as it says itself.
fn could_leave(listener: &ListenerSpec) -> bool {
    let suits = |address: &std::net::SocketAddr| address.is_ipv4() && !address.ip().is_loopback();
    listener.forwarding == Forwarding::Auto
        && listener.protocol == Protocol::Smtp
        && listener.bind.iter().any(suits)
}

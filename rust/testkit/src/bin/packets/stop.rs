//! TERM, as a flag.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Whether TERM has come.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// # Errors
    /// What the system says.
    pub(crate) fn by_signal() -> io::Result<Self> {
        let stop = Self::default();
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            signal(SignalKind::terminate())?
        };
        let told = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(signals.recv());
            told.0.store(true, Relaxed);
        });
        Ok(stop)
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Relaxed)
    }
}

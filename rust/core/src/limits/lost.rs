//! When a peer that says nothing is asked whether it is there, and when it is taken for gone.

use std::time::Duration;

use fail::fail_point;

/// Between the last that a peer said and the first keepalive. Firewalls on the way forget a silent
/// connection after some minutes; a server may think about a message for ten.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Above both idle limits' defaults, which are to come first; what a longer limit allows, a peer that
/// is gone doesn't get.
const USER_TIMEOUT: Duration = Duration::from_secs(720);

/// Between the last that a peer said and the first keepalive.
pub(crate) fn keepalive() -> Duration {
    // For tests, which wait for it.
    fail_point!("keepalive", |seconds| said(seconds, KEEPALIVE));
    KEEPALIVE
}

/// For a peer to acknowledge what was sent to it, a keepalive too.
pub(crate) fn user_timeout() -> Duration {
    fail_point!("user_timeout", |seconds| said(seconds, USER_TIMEOUT));
    USER_TIMEOUT
}

#[cfg(feature = "failpoints")]
fn said(seconds: Option<String>, usual: Duration) -> Duration {
    let seconds = seconds.and_then(|said| said.parse().ok());
    seconds.map_or(usual, Duration::from_secs)
}

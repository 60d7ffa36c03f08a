//! A limit for everything that waits, so that a test that hangs says where.

use std::future::Future;
use std::io;
use std::time::Duration;

/// Far longer than any step takes on loopback, far shorter than a test run's patience.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Awaits `step` for at most [`LIMIT`].
///
/// # Errors
/// `TimedOut` with the name of the step, else what the step says.
pub async fn within_limit<T>(
    name: &str,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(LIMIT, step).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("{name}: nothing for {} s", LIMIT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

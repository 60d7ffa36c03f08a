//! The clock that the program tells time by: the kernel's monotonic one. In a time namespace
//! (time_namespaces(7)) a process has another one, by an offset that stays.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// By how many nanoseconds our own clock is ahead.
static AHEAD: LazyLock<i128> = LazyLock::new(|| {
    let offsets = fs::read_to_string("/proc/self/timens_offsets");
    // A kernel without such namespaces has no offsets.
    offsets.ok().and_then(|text| ahead(&text)).unwrap_or(0)
});

/// Since the kernel began.
pub(super) fn kernel_time() -> Duration {
    let own = clock_gettime(ClockId::Monotonic);
    let nanos = nanoseconds(own.tv_sec.into(), own.tv_nsec.into()) - *AHEAD;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// The same in the unit of [`ticks`](mailweir_flow::ticks).
pub(super) fn kernel_ticks() -> u32 {
    ticks(kernel_time())
}

/// A duration in that unit.
pub(super) fn ticks(duration: Duration) -> u32 {
    mailweir_flow::ticks(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// How long ago that was; nothing where another CPU is ahead of this one.
pub(super) fn since(now: u32, then: u32) -> Duration {
    let ago = now.wrapping_sub(then);
    let ago = if ago > i32::MAX as u32 { 0 } else { ago };
    Duration::from_nanos(u64::from(ago) << 20)
}

/// What `monotonic` is ahead by, of lines of a clock, seconds and nanoseconds.
fn ahead(offsets: &str) -> Option<i128> {
    let line = offsets.lines().find(|line| line.starts_with("monotonic"))?;
    let mut numbers = line.split_whitespace().skip(1).map(str::parse);
    let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(nanoseconds(seconds, nanos))
}

fn nanoseconds(seconds: i128, nanos: i128) -> i128 {
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_was_said_in_the_future() {
        let tick = Duration::from_nanos(1 << 20);
        assert_eq!(since(1_000, 990), 10 * tick);
        assert_eq!(since(5, u32::MAX), 6 * tick);
        for ahead in [1, 3, 1 << 20] {
            assert_eq!(since(1_000, 1_000 + ahead), Duration::ZERO);
        }
    }

    #[test]
    fn offsets_are_read() {
        let offsets = "monotonic     -86400 500000000\nboottime        7         0\n";
        assert_eq!(ahead(offsets), Some(-86_399_500_000_000));
        assert_eq!(ahead("boottime 7 0\n"), None);
        // Where there is no such namespace it is our own.
        assert!(kernel_time() > Duration::ZERO);
    }
}

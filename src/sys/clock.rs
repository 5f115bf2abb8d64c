//! *Operating time*: the time the appliance has been running, over all its starts. What
//! policies are given: no change of the wall clock moves it.

use std::time::Duration;

use tokio::time::Instant;

/// A monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// What it showed at its start.
    base: Duration,
}

impl Clock {
    /// A clock that shows `base` now.
    pub fn start_at(base: Duration) -> Self {
        Self { start: Instant::now(), base }
    }

    pub fn now(&self) -> Duration {
        self.base + self.start.elapsed()
    }

    /// Waits until it shows `time`.
    pub async fn until(&self, time: Duration) {
        tokio::time::sleep_until(self.start + time.saturating_sub(self.base)).await;
    }
}

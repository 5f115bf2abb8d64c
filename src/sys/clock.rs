//! Time since the supervisor's start: what the policies are given.

use std::time::Duration;

use tokio::time::Instant;

/// A monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since its start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until it shows `time`.
    pub async fn until(&self, time: Duration) {
        tokio::time::sleep_until(self.start + time).await;
    }
}

//! When a worker counts as hung: it no longer answers pings, or it does but its card
//! thread has been inside one call for too long.

use std::time::Duration;

use crate::fault::{Failure, Fault};

/// A ping is sent this often.
pub const INTERVAL: Duration = Duration::from_secs(3);
/// A ping that stays unanswered this long means the worker hangs.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Longest a single call to the card may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    pub serving: Duration,
    pub loading: Duration,
}

/// A call to the card that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    pub name: &'a str,
    pub since: Duration,
    pub loading: bool,
}

/// Pings sent and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    nonce: u64,
    /// When the ping that is still unanswered was sent.
    unanswered: Option<Duration>,
    /// When the next ping is due.
    due: Duration,
}

impl Pulse {
    /// A worker whose link opened `now`.
    pub fn new(now: Duration) -> Self {
        Self { nonce: 0, unanswered: None, due: now }
    }

    /// The ping to send, where one is due. One is under way at a time.
    pub fn ping(&mut self, now: Duration) -> Option<u64> {
        if now < self.due || self.unanswered.is_some() {
            return None;
        }
        self.nonce += 1;
        self.unanswered = Some(now);
        self.due = now + INTERVAL;
        Some(self.nonce)
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] for a nonce that was never sent, [`Fault::CardCall`] where
    /// the card thread has been inside one call for too long.
    pub fn pong(&mut self, nonce: u64, inside: Option<Call<'_>>, limits: CallLimits) -> Result<(), Failure> {
        if nonce != self.nonce || self.unanswered.take().is_none() {
            return Err(Failure::new(
                Fault::WorkerLink,
                format!("an answer to ping {nonce} was not expected"),
            ));
        }
        let Some(Call { name, since, loading }) = inside else { return Ok(()) };
        let limit = if loading { limits.loading } else { limits.serving };
        if since <= limit {
            return Ok(());
        }
        let (since, limit) = (since.as_secs_f64(), limit.as_secs_f64());
        let detail = format!("{name} has not returned for {since:.1} s, the limit is {limit:.1} s");
        Err(Failure::new(Fault::CardCall, detail))
    }

    /// Judges silence.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] where a ping was not answered in time.
    pub fn check(&self, now: Duration) -> Result<(), Failure> {
        match self.unanswered {
            Some(sent) if now.saturating_sub(sent) >= PATIENCE => Err(Failure::new(
                Fault::WorkerLink,
                format!("the worker has not answered for {} s", PATIENCE.as_secs()),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the worker answers promptly, as far as is known.
    pub fn prompt(&self, now: Duration) -> bool {
        self.unanswered.is_none_or(|sent| now.saturating_sub(sent) < 2 * INTERVAL)
    }

    /// When to look again.
    pub fn deadline(&self) -> Duration {
        self.unanswered.map_or(self.due, |sent| sent + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CallLimits =
        CallLimits { serving: Duration::from_secs(10), loading: Duration::from_secs(100) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn inside(loading: bool, seconds: u64) -> Option<Call<'static>> {
        Some(Call { name: "axclrtEngineExecute", since: at(seconds), loading })
    }

    #[test]
    fn pings_go_out_at_intervals_and_one_at_a_time() {
        let mut pulse = Pulse::new(at(1));
        assert_eq!(pulse.ping(at(0)), None);
        assert_eq!(pulse.ping(at(1)), Some(1));
        assert_eq!(pulse.ping(at(9)), None, "the first is unanswered");
        pulse.pong(1, None, LIMITS).unwrap();
        assert_eq!(pulse.ping(at(9)), Some(2));
        pulse.pong(2, None, LIMITS).unwrap();
        assert_eq!((pulse.ping(at(11)), pulse.ping(at(12))), (None, Some(3)));
    }

    #[test]
    fn silence_is_a_hang_after_fifteen_seconds() {
        let mut pulse = Pulse::new(at(0));
        pulse.ping(at(0));
        assert!(pulse.prompt(at(5)) && !pulse.prompt(at(6)));
        pulse.check(at(14)).unwrap();
        assert_eq!(pulse.deadline(), at(15));
        assert_eq!(pulse.check(at(15)).unwrap_err().fault, Fault::WorkerLink);
    }

    #[test]
    fn a_call_may_take_longer_while_loading() {
        for (loading, seconds, hangs) in
            [(false, 10, false), (false, 11, true), (true, 100, false), (true, 101, true)]
        {
            let mut pulse = Pulse::new(at(0));
            let nonce = pulse.ping(at(0)).unwrap();
            assert_eq!(
                pulse.pong(nonce, inside(loading, seconds), LIMITS).is_err(),
                hangs,
                "{loading} {seconds}"
            );
        }
    }

    #[test]
    fn an_unexpected_answer_is_a_link_fault() {
        let mut pulse = Pulse::new(at(0));
        assert!(pulse.pong(0, None, LIMITS).is_err());
        let nonce = pulse.ping(at(0)).unwrap();
        assert!(pulse.pong(nonce + 1, None, LIMITS).is_err());
        let mut pulse = Pulse::new(at(0));
        let nonce = pulse.ping(at(0)).unwrap();
        pulse.pong(nonce, None, LIMITS).unwrap();
        assert!(pulse.pong(nonce, None, LIMITS).is_err(), "answered twice");
    }
}

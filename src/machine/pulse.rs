//! When a worker counts as hung: it no longer answers pings, or it does but its card
//! thread has been inside one call for too long.

use std::time::Duration;

use crate::fault::{Failure, Fault};

/// A ping is sent this often: together with the floor of a call's limit it decides how
/// soon a stall is noticed.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// A ping that stays unanswered this long means the worker hangs.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Unanswered for this long it does not look well.
const DOUBT: Duration = Duration::from_secs(6);
/// A call may take this many times as long as it ever took.
const FACTOR: u32 = 5;
/// The driver itself may hold these for 50 s.
const SLOW_CALLS: [&str; 3] = ["axclInit", "axclrtSetDevice", "axclrtResetDevice"];
const SLOW: Duration = Duration::from_secs(75);
/// Functions whose times are remembered; the runtime has fewer.
const MOST: usize = 64;

/// Longest a single call to the card may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// However short the calls were so far.
    pub floor: Duration,
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

/// How long each function took at most, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits(Vec<(String, Duration)>);

impl Habits {
    /// A call of `name` took `time`.
    pub fn learn(&mut self, name: &str, time: Duration) {
        if let Some((_, slowest)) = self.0.iter_mut().find(|(known, _)| known == name) {
            *slowest = time.max(*slowest);
        } else if self.0.len() < MOST {
            self.0.push((name.to_owned(), time));
        }
    }

    /// Longest `call` may take.
    pub fn limit(&self, call: &Call<'_>, limits: CallLimits) -> Duration {
        let most = if call.loading { limits.loading } else { limits.serving };
        let floor = if SLOW_CALLS.contains(&call.name) { SLOW } else { limits.floor };
        match self.0.iter().find(|(known, _)| known == call.name) {
            Some((_, slowest)) => (*slowest * FACTOR).max(floor).min(most),
            None => most,
        }
    }
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
    /// [`Fault::WorkerLink`] for a nonce that was never sent, [`Fault::CardStall`] where
    /// the card thread has been inside one call for too long.
    pub fn pong(
        &mut self,
        nonce: u64,
        inside: Option<Call<'_>>,
        limit: impl FnOnce(&Call<'_>) -> Duration,
    ) -> Result<(), Failure> {
        if nonce != self.nonce || self.unanswered.take().is_none() {
            return Err(Failure::new(
                Fault::WorkerLink,
                format!("an answer to ping {nonce} was not expected"),
            ));
        }
        let Some(call) = inside else { return Ok(()) };
        let limit = limit(&call);
        if call.since <= limit {
            return Ok(());
        }
        let (name, since, limit) = (call.name, call.since.as_secs_f64(), limit.as_secs_f64());
        let detail = format!("{name} has not returned for {since:.1} s, the limit is {limit:.1} s");
        Err(Failure::new(Fault::CardStall, detail))
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
        self.unanswered.is_none_or(|sent| now.saturating_sub(sent) < DOUBT)
    }

    /// When to look again.
    pub fn deadline(&self) -> Duration {
        self.unanswered.map_or(self.due, |sent| sent + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CallLimits = CallLimits {
        floor: Duration::from_secs(10),
        serving: Duration::from_secs(60),
        loading: Duration::from_secs(300),
    };

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
        pulse.pong(1, None, |_| at(10)).unwrap();
        assert_eq!(pulse.ping(at(9)), Some(2));
        pulse.pong(2, None, |_| at(10)).unwrap();
        let soon = at(9) + INTERVAL / 2;
        assert_eq!((pulse.ping(soon), pulse.ping(at(10))), (None, Some(3)));
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
    fn a_call_may_take_five_times_its_longest_and_ten_seconds() {
        let mut habits = Habits::default();
        let call = |name, loading| Call { name, since: at(0), loading };
        assert_eq!(habits.limit(&call("axclrtMemcpy", false), LIMITS), at(60), "nothing is known of it");
        assert_eq!(habits.limit(&call("axclrtMemcpy", true), LIMITS), at(300));
        habits.learn("axclrtMemcpy", Duration::from_millis(3));
        habits.learn("axclrtEngineLoadFromFile", at(4));
        habits.learn("axclrtEngineLoadFromFile", at(1));
        habits.learn("axclrtSetDevice", at(1));
        assert_eq!(habits.limit(&call("axclrtMemcpy", false), LIMITS), at(10));
        assert_eq!(habits.limit(&call("axclrtEngineLoadFromFile", true), LIMITS), at(20));
        assert_eq!(habits.limit(&call("axclrtEngineLoadFromFile", false), LIMITS), at(20));
        assert_eq!(habits.limit(&call("axclrtSetDevice", true), LIMITS), at(75), "the driver holds it");
        habits.learn("axclrtMemcpy", at(100));
        assert_eq!(habits.limit(&call("axclrtMemcpy", false), LIMITS), at(60), "never above the cap");
    }

    #[test]
    fn a_call_beyond_its_limit_is_a_stall() {
        for (seconds, stalls) in [(10, false), (11, true)] {
            let mut pulse = Pulse::new(at(0));
            let nonce = pulse.ping(at(0)).unwrap();
            let judged = pulse.pong(nonce, inside(false, seconds), |_| at(10));
            assert_eq!(judged.err().map(|f| f.fault), stalls.then_some(Fault::CardStall));
        }
    }

    #[test]
    fn functions_remembered_are_bounded() {
        let mut habits = Habits::default();
        (0..1000).for_each(|i| habits.learn(&format!("f{i}"), at(1)));
        assert_eq!(habits.0.len(), MOST);
    }

    #[test]
    fn an_unexpected_answer_is_a_link_fault() {
        let mut pulse = Pulse::new(at(0));
        assert!(pulse.pong(0, None, |_| at(10)).is_err());
        let nonce = pulse.ping(at(0)).unwrap();
        assert!(pulse.pong(nonce + 1, None, |_| at(10)).is_err());
        let mut pulse = Pulse::new(at(0));
        let nonce = pulse.ping(at(0)).unwrap();
        pulse.pong(nonce, None, |_| at(10)).unwrap();
        assert!(pulse.pong(nonce, None, |_| at(10)).is_err(), "answered twice");
    }
}

//! When a light is told what. Pure: the time is passed in.

use std::time::Duration;

use super::pattern::Pattern;

/// A light that plays by itself is told again after at most this long.
const REARM_MS: u32 = 5000;
/// A pattern is not begun anew more often: tokens may come faster than eyes see.
const FLICKER: Duration = Duration::from_millis(100);

/// What a light is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Play this from its beginning, for a while.
    Play(Pattern),
    /// Be this bright.
    Set(u8),
}

/// Plays a pattern on one light.
#[derive(Debug)]
pub struct Player {
    pattern: Pattern,
    begun: Duration,
    /// When the next command is due, and of which step.
    due: Duration,
    step: usize,
}

impl Player {
    pub fn new(pattern: Pattern, now: Duration) -> Self {
        Self { pattern, begun: now, due: now, step: 0 }
    }

    /// Goes over to `pattern`; the same one goes on, or begins `anew`.
    pub fn show(&mut self, pattern: Pattern, anew: bool, now: Duration) {
        if pattern != self.pattern || (anew && now.saturating_sub(self.begun) >= FLICKER) {
            *self = Self::new(pattern, now);
        }
    }

    /// Has everything told again: the light may have been taken over by another driver.
    pub fn restart(&mut self, now: Duration) {
        (self.begun, self.due, self.step) = (now, now, 0);
    }

    /// What the light is to be told at `now`; `plays` if it plays patterns by itself.
    pub fn command(&mut self, plays: bool, now: Duration) -> Option<Command> {
        if now < self.due {
            return None;
        }
        if plays {
            let period = self.pattern.period().clamp(1, REARM_MS);
            // Whole periods, so that the eye does not notice.
            self.due = now + Duration::from_millis(u64::from(REARM_MS / period * period));
            return Some(Command::Play(self.pattern.clone()));
        }
        let (brightness, ms) = self.pattern.steps.get(self.step).copied()?;
        self.step = (self.step + 1) % self.pattern.steps.len().max(1);
        self.due = now + Duration::from_millis(u64::from(ms));
        Some(Command::Set(brightness))
    }

    /// When [`Player::command`] has something to say again.
    pub fn due(&self) -> Duration {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lights::pattern::Look;
    use crate::machine::state::State;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn status(state: State) -> Pattern {
        Look { state, ..Look::default() }.lamps().status
    }

    /// Commands over `ms` with their times.
    fn played(state: State, plays: bool, ms: u64) -> Vec<(u64, Command)> {
        let mut player = Player::new(status(state), at(0));
        let mut commands = Vec::new();
        while player.due() <= at(ms) {
            let now = player.due();
            let command = player.command(plays, now).unwrap();
            commands.push((u64::try_from(now.as_millis()).unwrap(), command));
        }
        commands
    }

    #[test]
    fn a_light_without_patterns_is_told_each_step() {
        use Command::Set;
        let steps = [(0, Set(255)), (250, Set(0)), (500, Set(255)), (750, Set(0)), (1000, Set(255))];
        assert_eq!(played(State::Probing, false, 1000), steps);
    }

    #[test]
    fn a_light_that_plays_is_told_again_after_whole_periods_of_at_most_five_seconds() {
        for state in [State::Booting, State::Ready, State::Busy, State::Degraded, State::Parked] {
            let commands = played(state, true, 20_000);
            let times: Vec<u64> = commands.iter().map(|(time, _)| *time).collect();
            assert_eq!(times, [0, 5000, 10_000, 15_000, 20_000], "{state:?}");
            assert!(commands.iter().all(|(_, c)| *c == Command::Play(status(state))));
        }
        let slow = Look { state: State::ThermalHold, ..Look::default() }.lamps().fault;
        let mut player = Player::new(slow, at(0));
        player.command(true, at(0));
        assert_eq!(player.due(), at(4000), "two seconds each");
    }

    #[test]
    fn tokens_begin_the_flicker_anew_but_not_too_often() {
        let mut player = Player::new(status(State::Busy), at(0));
        player.command(false, at(0));
        player.show(status(State::Busy), true, at(99));
        assert_eq!(player.command(false, at(99)), Some(Command::Set(255)), "the step after 50 ms");
        player.show(status(State::Busy), true, at(100));
        assert_eq!(player.command(false, at(100)), Some(Command::Set(0)));
        player.show(status(State::Busy), false, at(500));
        assert_eq!(player.command(false, at(500)), Some(Command::Set(255)), "goes on");
        player.show(status(State::Ready), false, at(501));
        assert_eq!(player.command(true, at(501)), Some(Command::Play(status(State::Ready))));
    }
}

//! What the lights show. Pure: the table is in docs/lights.md.

use serde::Serialize;

use crate::machine::state::State;

/// Brightness from 0 to 255, and for how many milliseconds.
pub type Step = (u8, u32);

/// What there is to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub state: State,
    /// Defaults stand in for something wrong in the configuration file.
    pub config_error: bool,
    /// How many tokens were ever written: each lets the status light flicker.
    pub tokens: u64,
    /// The button is being held. Before all else: who holds it looks at nothing else.
    pub button: bool,
}

/// What a light does, over and over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern {
    pub name: &'static str,
    /// Whether brightness glides from step to step. Lights that cannot glide jump.
    pub smooth: bool,
    pub steps: Vec<Step>,
}

/// Both lights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lamps {
    pub status: Pattern,
    pub fault: Pattern,
}

/// Patterns with flashes repeat after this long: slow enough to be counted.
const COUNTED_MS: u32 = 5000;
const FLASH_MS: u32 = 200;

impl Pattern {
    fn new(name: &'static str, steps: &[Step]) -> Self {
        Self { name, smooth: false, steps: steps.into() }
    }

    fn gliding(name: &'static str, steps: &[Step]) -> Self {
        Self { name, smooth: true, steps: steps.into() }
    }

    pub fn off() -> Self {
        Self::new("off", &[(0, 1000)])
    }

    fn steady() -> Self {
        Self::new("steady", &[(255, 1000)])
    }

    fn fast() -> Self {
        Self::new("blink 5 Hz", &[(255, 100), (0, 100)])
    }

    fn breath() -> Self {
        Self::gliding("breath", &[(0, 1250), (255, 1250)])
    }

    fn slow() -> Self {
        Self::new("slow blink", &[(255, 1000), (0, 1000)])
    }

    /// `count` flashes and a pause.
    fn flashes(count: u8) -> Self {
        let name = match count {
            1 => "1 flash",
            2 => "2 flashes",
            3 => "3 flashes",
            4 => "4 flashes",
            5 => "5 flashes",
            6 => "6 flashes",
            _ => "7 flashes",
        };
        let mut steps = [(255, FLASH_MS), (0, FLASH_MS)].repeat(usize::from(count));
        let rest = COUNTED_MS.saturating_sub(2 * FLASH_MS * u32::from(count));
        if let Some((_, last)) = steps.last_mut() {
            *last += rest;
        }
        Self::new(name, &steps)
    }

    /// How long it takes until it begins anew, in milliseconds.
    pub fn period(&self) -> u32 {
        self.steps.iter().map(|(_, ms)| ms).sum()
    }
}

impl Look {
    /// What the lights show for it.
    pub fn lamps(&self) -> Lamps {
        if self.button {
            return Lamps { status: Pattern::fast(), fault: Pattern::fast() };
        }
        let (status, fault) = (self.status(), self.fault());
        // A fault of the moment matters more than one of the configuration.
        let quiet = fault.name == "off" && self.state != State::Stopping;
        let fault = if self.config_error && quiet { Pattern::flashes(6) } else { fault };
        Lamps { status, fault }
    }

    fn status(&self) -> Pattern {
        match self.state {
            State::Booting => Pattern::fast(),
            State::Probing => Pattern::new("blink 2 Hz", &[(255, 250), (0, 250)]),
            State::Loading => Pattern::gliding("slow fade", &[(0, 2500), (255, 2500)]),
            State::Ready | State::Suspect => Pattern::breath(),
            // Begun anew with each token.
            State::Busy => Pattern::new("flicker", &[(0, 50), (255, 4950)]),
            State::Degraded => {
                let steps = [(0, 500), (255, 500), (0, 500), (255, 500), (0, 3000)];
                Pattern::gliding("double breath", &steps)
            }
            State::Recovering(_) | State::Parked | State::NoCard | State::ThermalHold | State::Stopping => {
                Pattern::off()
            }
        }
    }

    fn fault(&self) -> Pattern {
        match self.state {
            State::Suspect => Pattern::flashes(1),
            State::Recovering(rung) => Pattern::flashes(rung.number()),
            State::Degraded | State::ThermalHold => Pattern::slow(),
            State::Parked => Pattern::steady(),
            // Not five: those are a restart of the host, which mends itself.
            State::NoCard => Pattern::flashes(7),
            State::Booting
            | State::Probing
            | State::Loading
            | State::Ready
            | State::Busy
            | State::Stopping => Pattern::off(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::state::Rung;

    fn states() -> Vec<State> {
        let mut states =
            vec![State::Booting, State::Probing, State::Loading, State::Ready, State::Busy, State::Suspect];
        states.extend(Rung::ALL.map(State::Recovering));
        states.extend([State::Degraded, State::Parked, State::NoCard, State::ThermalHold, State::Stopping]);
        states
    }

    fn look(state: State, config_error: bool) -> Lamps {
        Look { state, config_error, ..Look::default() }.lamps()
    }

    fn row(name: &str, lamps: &Lamps) -> String {
        format!("| {name} | {} | {} |\n", lamps.status.name, lamps.fault.name)
    }

    fn table() -> String {
        let mut table = "| state | status light | fault light |\n|---|---|---|\n".to_owned();
        for state in states() {
            let name = match state {
                State::Recovering(rung) => format!("recovering, {rung}"),
                other => other.name().to_owned(),
            };
            table += &row(&name, &look(state, false));
        }
        table += &row("ready, with an error in the configuration", &look(State::Ready, true));
        let held = Look { button: true, ..Look::default() };
        table + &row("the button is held", &held.lamps())
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = include_str!("../../docs/lights.md");
        assert!(documented.contains(&table()), "docs/lights.md should hold this:\n\n{}", table());
    }

    #[test]
    fn every_pattern_fits_between_two_armings() {
        for state in states() {
            for lamps in [look(state, false), look(state, true)] {
                for pattern in [lamps.status, lamps.fault] {
                    assert!((1..=5000).contains(&pattern.period()), "{pattern:?}");
                    assert!(pattern.steps.iter().all(|(_, ms)| *ms > 0), "{pattern:?}");
                }
            }
        }
    }

    #[test]
    fn flashes_can_be_counted() {
        for rung in Rung::ALL {
            let fault = look(State::Recovering(rung), true).fault;
            let lit = fault.steps.iter().filter(|(brightness, _)| *brightness > 0).count();
            assert_eq!(lit, usize::from(rung.number()));
            assert_eq!(fault.period(), COUNTED_MS);
            let dark = fault.steps.last().unwrap();
            assert!(dark.0 == 0 && dark.1 >= 2000, "the pause is longer than any gap: {fault:?}");
        }
    }

    #[test]
    fn a_configuration_error_shows_where_no_graver_fault_does() {
        for state in states() {
            let (plain, wrong) = (look(state, false), look(state, true));
            assert_eq!(plain.status, wrong.status);
            let shown = plain.fault.name == "off" && state != State::Stopping;
            assert_eq!(wrong.fault.name, if shown { "6 flashes" } else { plain.fault.name }, "{state:?}");
        }
    }

    #[test]
    fn a_held_button_shows_whatever_goes_on() {
        let held = |state| Look { state, config_error: true, tokens: 7, button: true }.lamps();
        let all: Vec<Lamps> = states().into_iter().map(held).collect();
        assert!(all.iter().all(|lamps| *lamps == all[0] && lamps.status == lamps.fault));
        assert!(states().into_iter().all(|state| look(state, false) != all[0]));
    }

    #[test]
    fn a_pattern_is_told_with_name_and_steps() {
        let told = serde_json::to_string(&look(State::Probing, false)).unwrap();
        let status = r#"{"name":"blink 2 Hz","smooth":false,"steps":[[255,250],[0,250]]}"#;
        assert!(told.starts_with(&format!("{{\"status\":{status},\"fault\":{{")), "{told}");
    }
}

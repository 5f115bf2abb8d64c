//! RAUC's custom bootloader backend: what it calls this program with, and what it reads.
//! <https://rauc.readthedocs.io/en/latest/integration.html#custom>

use clap::Subcommand;

use super::firmware::Firmware;
use super::keeper::Keeper;
use super::policy;
use super::record::Slot;
use crate::fault::Result;

fn slot(name: &str) -> std::result::Result<Slot, String> {
    Slot::named(name).ok_or_else(|| format!("there are slots {} and {}", Slot::A, Slot::B))
}

/// As RAUC tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Said {
    Good,
    Bad,
}

/// RAUC's verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Backend {
    /// Print the slot that is started next.
    GetPrimary,
    /// Have a slot tried at the next restart.
    SetPrimary {
        #[arg(value_parser = slot)]
        slot: Slot,
    },
    /// Print whether a slot was judged good.
    GetState {
        #[arg(value_parser = slot)]
        slot: Slot,
    },
    /// Tell that a slot is good or bad.
    SetState {
        #[arg(value_parser = slot)]
        slot: Slot,
        state: Said,
    },
    /// Print the slot that runs.
    GetCurrent,
}

impl Backend {
    /// Does it: what is to be printed.
    ///
    /// # Errors
    /// What the keeper says; RAUC then ends what it is doing.
    pub fn run<F: Firmware>(&self, keeper: &mut Keeper<F>) -> Result<String> {
        let said = match *self {
            Self::GetPrimary => keeper.look(policy::primary)?.name(),
            Self::GetCurrent => keeper.look(|_, facts| facts.running)?.name(),
            Self::GetState { slot } => {
                if keeper.look(|record, _| record.is_good(slot))? {
                    "good"
                } else {
                    "bad"
                }
            }
            Self::SetPrimary { slot } => {
                keeper.decide(|record, facts| policy::set_primary(record, facts, slot))?;
                ""
            }
            Self::SetState { slot, state } => {
                keeper.decide(|record, facts| policy::set_state(record, facts, slot, state == Said::Good))?;
                ""
            }
        };
        Ok(said.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::tests::keeper;
    use super::*;

    #[test]
    fn raucs_calls_around_an_installation_order_a_trial() {
        let (_directory, mut keeper) = keeper();
        let mut run = |verb: Backend| verb.run(&mut keeper).unwrap();
        assert_eq!(run(Backend::GetPrimary), "a");
        assert_eq!(run(Backend::GetCurrent), "a");
        assert_eq!(run(Backend::GetState { slot: Slot::A }), "bad", "not judged yet");
        run(Backend::SetState { slot: Slot::A, state: Said::Good });
        assert_eq!(run(Backend::GetState { slot: Slot::A }), "good");
        run(Backend::SetState { slot: Slot::B, state: Said::Bad });
        run(Backend::SetPrimary { slot: Slot::B });
        assert_eq!(run(Backend::GetPrimary), "b");
        assert_eq!(run(Backend::GetState { slot: Slot::B }), "bad");
        assert_eq!(keeper.firmware().committed(), Some(Slot::A), "a trial commits nothing");
    }
}

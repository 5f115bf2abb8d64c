//! What the process ends with: a number per class of fault, for whoever started it.

use crate::fault::Fault;

/// A stop got stuck in a call to the card.
pub const STUCK: i32 = 75;

/// The exit code after `fault`. 0 is a clean stop; 2 is a wrong command line; 101 a panic.
pub const fn exit_code(fault: Fault) -> u8 {
    match fault {
        Fault::Config => 10,
        Fault::RuntimeOpen | Fault::RuntimeSymbol => 11,
        Fault::CardAbsent | Fault::CardDriver | Fault::CardPorts => 12,
        Fault::CardCall => 13,
        Fault::CardMemory => 14,
        Fault::CardOutput | Fault::SelfTest => 15,
        Fault::ModelMissing | Fault::ModelInvalid | Fault::ModelEngine => 20,
        Fault::ModelChecksum => 21,
        Fault::Tokenizer | Fault::Template => 22,
        Fault::WorkerLink => 30,
        Fault::RequestInvalid | Fault::ContextLength => 40,
        _ => 70,
    }
}

/// Whether the card (or what runs on it) is at fault, so that the worker cannot go on;
/// everything else concerns one request.
pub const fn is_cards(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::CardAbsent
            | Fault::CardDriver
            | Fault::CardPorts
            | Fault::CardCall
            | Fault::CardMemory
            | Fault::CardOutput
            | Fault::ModelEngine
            | Fault::SelfTest
    )
}

/// Whether it concerns the model that was to be loaded, not the card.
pub const fn is_models(fault: Fault) -> bool {
    !is_cards(fault) || matches!(fault, Fault::CardMemory | Fault::ModelEngine | Fault::SelfTest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_looks_like_a_clean_stop_or_a_stuck_one() {
        for &fault in Fault::ALL {
            assert!(![0, 2, 101].contains(&exit_code(fault)), "{fault}");
            assert_ne!(i32::from(exit_code(fault)), STUCK);
        }
    }
}

//! Whether library and firmware belong together.

use crate::fault::{Failure, Fault, Result};

/// The release in a version text: `3.10.2` of `V3.10.2_20251215140224`.
fn release(version: &str) -> Option<&str> {
    let digits = version.trim().trim_start_matches(['V', 'v']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    digits.get(..end).map(|text| text.trim_end_matches('.')).filter(|text| text.contains('.'))
}

/// Refuses a pair that is known to be unstable. Versions that cannot be read are let pass.
///
/// # Errors
/// [`Fault::Versions`], naming both.
pub fn check(library: &str, firmware: &str) -> Result<()> {
    match (release(library), release(firmware)) {
        (Some(ours), Some(cards)) if ours != cards => {
            Err(Failure::new(Fault::Versions, format!("library {library}, firmware {firmware}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_are_compared() {
        check("V3.10.2_emulated", "V3.10.2_20251215140224").unwrap();
        check("V3.6.5-m5stack1", "v3.6.5").unwrap();
        check("unknown", "V3.10.2").unwrap();
        check("V3.10.2", "").unwrap();
        let failure = check("V3.10.2_20251215", "V3.6.5-m5stack1").unwrap_err();
        assert_eq!(failure.fault, Fault::Versions);
        assert!(failure.detail.contains("V3.6.5-m5stack1"));
    }
}

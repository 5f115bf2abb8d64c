//! What calls cost on the real card, and waiting until a cost is paid.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Costs of the card's operations. The default is the profile `llm8850`, fitted to
/// measurements of an LLM8850 on a Raspberry Pi 5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// Microseconds of every execute, besides its weights.
    pub execute_us: f64,
    /// Weight bytes streamed per second, in 10⁹.
    pub weights_gb_per_s: f64,
    /// Microseconds of a message and its answer.
    pub rpc_us: f64,
    /// Microseconds of every transfer, besides its bytes.
    pub transfer_us: f64,
    /// Bytes transferred between host and card per second, in 10⁶.
    pub bulk_mb_per_s: f64,
    /// Bytes copied on the card per second, in 10⁹.
    pub copy_gb_per_s: f64,
    /// Microseconds a call spends sending a message it awaits no answer to.
    pub send_us: f64,
    /// Milliseconds of reading the device's properties (shell commands on the card).
    pub properties_ms: f64,
    /// Milliseconds of a card reboot.
    pub reboot_ms: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            execute_us: 457.0,
            weights_gb_per_s: 25.0,
            rpc_us: 150.0,
            transfer_us: 300.0,
            bulk_mb_per_s: 400.0,
            copy_gb_per_s: 10.0,
            send_us: 20.0,
            properties_ms: 100.0,
            reboot_ms: 12_000.0,
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Byte counts are far below 2^53.
fn seconds(fixed_us: f64, bytes: u64, bytes_per_s: f64) -> Duration {
    Duration::try_from_secs_f64(fixed_us / 1e6 + bytes as f64 / bytes_per_s).unwrap_or_default()
}

impl Latency {
    /// The model to use: a named profile, changed by the numbers of `file` if it exists.
    /// `None` when neither is given.
    ///
    /// # Errors
    /// An unknown profile or an unusable file, in words.
    pub fn choose(profile: Option<&str>, file: Option<&Path>) -> Result<Option<Self>, String> {
        let named = match profile {
            None | Some("" | "off") => None,
            Some("llm8850") => Some(Self::default()),
            Some(other) => {
                return Err(format!("AXCL_EMU_LATENCY={other}: no such profile; use llm8850 or off"));
            }
        };
        let Some(path) = file.filter(|path| path.exists()) else { return Ok(named) };
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let latency: Self = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let rates = [latency.weights_gb_per_s, latency.bulk_mb_per_s, latency.copy_gb_per_s];
        if rates.iter().any(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(format!("{}: rates must be above zero", path.display()));
        }
        Ok(Some(latency))
    }

    /// NPU time of one execute that streams `weights` bytes.
    pub fn execute(&self, weights: u64) -> Duration {
        seconds(self.execute_us, weights, self.weights_gb_per_s * 1e9)
    }

    /// A message and its answer.
    pub fn rpc(&self) -> Duration {
        seconds(self.rpc_us, 0, 1.0)
    }

    /// A transfer between host and card.
    pub fn transfer(&self, bytes: u64) -> Duration {
        seconds(self.transfer_us, bytes, self.bulk_mb_per_s * 1e6)
    }

    /// A copy or fill on the card, without its message.
    pub fn copy(&self, bytes: u64) -> Duration {
        seconds(0.0, bytes, self.copy_gb_per_s * 1e9)
    }

    /// A message without an answer.
    pub fn send(&self) -> Duration {
        seconds(self.send_us, 0, 1.0)
    }

    /// Reading the device's properties.
    pub fn properties(&self) -> Duration {
        seconds(self.properties_ms * 1e3, 0, 1.0)
    }

    /// A card reboot.
    pub fn reboot(&self) -> Duration {
        seconds(self.reboot_ms * 1e3, 0, 1.0)
    }
}

/// Sleeps may end this much late; the rest is spent spinning.
const SPIN: Duration = Duration::from_micros(300);

/// Returns at `end`, as exactly as the machine allows.
pub fn wait_until(end: Instant) {
    let left = end.saturating_duration_since(Instant::now());
    if let Some(sleep) = left.checked_sub(SPIN)
        && !sleep.is_zero()
    {
        std::thread::sleep(sleep);
    }
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llm8850_costs_are_the_measured_fit() {
        let latency = Latency::choose(Some("llm8850"), None).unwrap().unwrap();
        assert_eq!(latency.execute(0), Duration::from_micros(457));
        assert_eq!(latency.execute(125_000_000), Duration::from_micros(5457));
        assert_eq!(latency.rpc(), Duration::from_micros(150));
        assert_eq!(latency.transfer(4), Duration::from_nanos(300_010));
        assert_eq!(latency.transfer(400_000_000), Duration::from_micros(1_000_300));
    }

    #[test]
    fn a_file_changes_single_numbers_and_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("latency.json");
        assert_eq!(Latency::choose(None, Some(&file)), Ok(None));
        std::fs::write(&file, r#"{"rpc_us": 50}"#).unwrap();
        let latency = Latency::choose(None, Some(&file)).unwrap().unwrap();
        assert_eq!(latency, Latency { rpc_us: 50.0, ..Latency::default() });
        std::fs::write(&file, r#"{"rpc_ms": 50}"#).unwrap();
        assert!(Latency::choose(None, Some(&file)).unwrap_err().contains("latency.json"));
        std::fs::write(&file, r#"{"bulk_mb_per_s": 0}"#).unwrap();
        assert!(Latency::choose(None, Some(&file)).is_err());
        assert!(Latency::choose(Some("fast"), None).unwrap_err().contains("fast"));
    }
}

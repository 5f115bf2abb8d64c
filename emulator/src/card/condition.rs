//! What the emulated machine says about the card, kept where the calls of this process find it
//! without asking.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::code::Code;

/// What becomes of calls that reach the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    #[default]
    Open,
    /// The channel is offline.
    Fail,
    /// Calls that wait for the card wait for ever.
    Hang,
}

/// A temperature on its way, in thousandths of °C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    pub from: i32,
    pub to: i32,
    pub began_unix_ms: u64,
    pub over_ms: u64,
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Ramp {
    /// The temperature at a time.
    pub fn at(&self, unix_ms: u64) -> i32 {
        let passed = i64::try_from(unix_ms.saturating_sub(self.began_unix_ms).min(self.over_ms)).unwrap_or(0);
        let over = i64::try_from(self.over_ms.max(1)).unwrap_or(i64::MAX);
        let passed = if self.over_ms == 0 { over } else { passed };
        let way = (i64::from(self.to) - i64::from(self.from)).saturating_mul(passed) / over;
        i32::try_from(i64::from(self.from) + way).unwrap_or(self.to)
    }
}

/// All the machine says, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub gate: Gate,
    /// Executes take this many times as long.
    pub slow: f64,
    /// Every execute computes wrongly.
    pub wrong: bool,
    pub heat: Option<Ramp>,
    /// The firmware's version, where it is not the library's.
    pub firmware: Option<CString>,
    /// Card memory that ended processes did not give back.
    pub retained_kib: u64,
}

impl Default for Condition {
    fn default() -> Self {
        Self { gate: Gate::Open, slow: 1.0, wrong: false, heat: None, firmware: None, retained_kib: 0 }
    }
}

#[derive(Debug, Default)]
struct Rare {
    heat: Option<Ramp>,
    firmware: Option<CString>,
}

/// The condition in force.
#[derive(Debug)]
pub struct Live {
    gate: AtomicU8,
    slow: AtomicU64,
    wrong: AtomicBool,
    retained_kib: AtomicU64,
    rare: Mutex<Rare>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            gate: AtomicU8::new(0),
            slow: AtomicU64::new(1f64.to_bits()),
            wrong: AtomicBool::new(false),
            retained_kib: AtomicU64::new(0),
            rare: Mutex::default(),
        }
    }
}

/// Never returns.
pub fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

impl Live {
    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a condition in force.
    pub fn set(&self, condition: Condition) {
        self.slow.store(condition.slow.to_bits(), Ordering::Relaxed);
        self.wrong.store(condition.wrong, Ordering::Relaxed);
        self.retained_kib.store(condition.retained_kib, Ordering::Relaxed);
        *self.rare() = Rare { heat: condition.heat, firmware: condition.firmware };
        self.gate.store(condition.gate as u8, Ordering::Release);
    }

    /// The channel is offline from now on.
    pub fn lose(&self) {
        self.gate.store(Gate::Fail as u8, Ordering::Release);
    }

    /// A call is about to reach the card.
    ///
    /// # Errors
    /// [`Code::CHANNEL_OFFLINE`]. With the card silent a blocking call does not come back.
    pub fn pass(&self, blocking: bool) -> Result<(), Code> {
        match self.gate.load(Ordering::Acquire) {
            0 => Ok(()),
            1 => Err(Code::CHANNEL_OFFLINE),
            _ if blocking => hang(),
            _ => Ok(()),
        }
    }

    /// A blocking call has been answered: does not come back if the card went silent meanwhile,
    /// because then the answer never came.
    pub fn answered(&self) {
        if self.gate.load(Ordering::Acquire) != 0 {
            hang();
        }
    }

    /// Executes take this many times as long.
    pub fn slow(&self) -> f64 {
        f64::from_bits(self.slow.load(Ordering::Relaxed))
    }

    /// Whether executes compute wrongly.
    pub fn wrong(&self) -> bool {
        self.wrong.load(Ordering::Relaxed)
    }

    /// Bytes of card memory that ended processes did not give back.
    pub fn retained(&self) -> u64 {
        self.retained_kib.load(Ordering::Relaxed) << 10
    }

    /// The temperature now, where the machine has a say.
    pub fn temperature(&self) -> Option<i32> {
        self.rare().heat.map(|ramp| ramp.at(unix_ms()))
    }

    /// The firmware's version, or `own`.
    pub fn firmware(&self, own: &CStr) -> CString {
        self.rare().firmware.clone().unwrap_or_else(|| own.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_goes_straight_and_stays_at_its_end() {
        let ramp = Ramp { from: 40_000, to: 90_000, began_unix_ms: 1000, over_ms: 100 };
        assert_eq!(
            [900, 1000, 1050, 1100, 9000].map(|at| ramp.at(at)),
            [40_000, 40_000, 65_000, 90_000, 90_000]
        );
        assert_eq!(Ramp { over_ms: 0, ..ramp }.at(1000), 90_000);
        assert_eq!(Ramp { from: 90_000, to: 40_000, ..ramp }.at(1010), 85_000);
    }

    #[test]
    fn the_gate_lets_through_or_refuses() {
        let live = Live::default();
        assert_eq!(live.pass(true), Ok(()));
        live.set(Condition { gate: Gate::Hang, ..Condition::default() });
        assert_eq!(live.pass(false), Ok(()), "nobody waits for an answer");
        live.lose();
        assert_eq!(live.pass(true), Err(Code::CHANNEL_OFFLINE));
        assert_eq!(live.pass(false), Err(Code::CHANNEL_OFFLINE));
    }
}

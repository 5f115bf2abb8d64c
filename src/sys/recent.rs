//! The last lines of this program's log, kept in memory for who asks.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes kept.
const MOST: usize = 256 << 10;
/// A longer line is cut.
const LONGEST: usize = 4 << 10;

/// Lines, oldest first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Recent {
    /// All of them, as text.
    pub fn text(&self) -> String {
        let lines = self.lock();
        lines.lines.iter().map(|line| String::from_utf8_lossy(line)).collect()
    }

    fn push(&self, line: &[u8]) {
        let mut line: Vec<u8> = line.iter().copied().take(LONGEST).collect();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let mut lines = self.lock();
        lines.bytes += line.len();
        lines.lines.push_back(line.into());
        while lines.bytes > MOST
            && let Some(oldest) = lines.lines.pop_front()
        {
            lines.bytes -= oldest.len();
        }
    }

    /// Held for a moment only: nobody who logs waits for somebody who reads.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes whole lines: each event is written at once.
impl io::Write for Recent {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Recent {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_newest_lines_stay_within_bounds() {
        let recent = Recent::default();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(recent.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(code = "E-X", "first");
            assert!(recent.text().trim_end().ends_with("first code=\"E-X\""), "{}", recent.text());
            tracing::info!("{}", "y".repeat(2 * LONGEST));
            assert_eq!(recent.text().lines().last().unwrap().len(), LONGEST);
            (0..10_000).for_each(|number| tracing::info!("line {number}"));
        });
        let text = recent.text();
        assert!(text.len() <= MOST && text.len() > MOST / 2, "{}", text.len());
        assert!(text.ends_with("line 9999\n") && !text.contains("first"));
    }
}

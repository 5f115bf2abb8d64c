//! Where the kernel's files are looked for.

use std::path::{Path, PathBuf};

/// The directory that stands for `/`: the real one on the appliance, a made-up one in
/// tests and beside the emulated card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysRoot(PathBuf);

impl Default for SysRoot {
    fn default() -> Self {
        Self("/".into())
    }
}

impl SysRoot {
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self(prefix.into())
    }

    /// `path`, absolute or not, below this root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_the_root() {
        assert_eq!(SysRoot::default().path("sys/class"), Path::new("/sys/class"));
        assert_eq!(SysRoot::default().path("/sys/class"), Path::new("/sys/class"));
        assert_eq!(SysRoot::new("/tmp/x").path("/dev/kmsg"), Path::new("/tmp/x/dev/kmsg"));
    }
}

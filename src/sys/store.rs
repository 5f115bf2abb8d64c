//! Files that are whole after a power cut, whatever moment it comes at.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Puts `bytes` in place of the file at `path`: a reader finds the old content or the
/// new, also after a power cut.
///
/// # Errors
/// Those of the file system; the old content then stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, None)
}

/// As [`replace`], for a file that only those may read whom `mode` names.
///
/// # Errors
/// Those of the file system; the old content then stays.
pub fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, Some(mode))
}

fn put(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode.unwrap_or(0o666))
        .open(&fresh)?;
    if let Some(mode) = mode {
        // One may have been left behind by a power cut.
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_directory(path)
}

/// Makes the name of the file at `path` last.
///
/// # Errors
/// Those of the file system.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

//! The host log: the vendor's format, in a file; failing to open it is harmless.

use std::ffi::{CStr, c_char};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::pointer::Text;
use super::process::thread_id;
use super::{Kind, call};

pub const DEBUG: i32 = 1;
pub const INFO: i32 = 2;
pub const ERROR: i32 = 4;
pub const CRITICAL: i32 = 5;
const OFF: i32 = 6;

/// Where the log goes unless the configuration says otherwise.
pub const DEFAULT_PATH: &str = "/tmp/axcl/axcl_logs.txt";

pub struct Log {
    file: Mutex<Option<File>>,
    level: AtomicI32,
}

impl Default for Log {
    fn default() -> Self {
        Self { file: Mutex::default(), level: AtomicI32::new(INFO) }
    }
}

/// Local time to the millisecond.
fn timestamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or(0);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live locals; all-zero is a valid `tm` should it fail.
    let parts = unsafe {
        libc::localtime_r(&raw const seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec,
        now.subsec_millis()
    )
}

impl Log {
    /// Appends to `path` from now on, or to nothing if it cannot be opened.
    pub fn open(&self, path: &Path) {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let file = OpenOptions::new().append(true).create(true).open(path).ok();
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Leaves out what is below `level` (0 trace … 5 critical, 6 off).
    pub fn set_level(&self, level: i32) {
        self.level.store(level.clamp(0, OFF), Ordering::Relaxed);
    }

    /// Writes one record.
    pub fn write(&self, level: i32, module: &str, function: &str, line: u32, message: &str) {
        if level < self.level.load(Ordering::Relaxed) || level >= OFF {
            return;
        }
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = guard.as_mut() else { return };
        let letter = usize::try_from(level).ok().and_then(|n| "TDIWEC".get(n..=n)).unwrap_or("T");
        let record = format!(
            "[{}][{}][{letter}][{module}][{function}][{line}]: {message}\n",
            timestamp(),
            thread_id()
        );
        let _ = file.write_all(record.as_bytes());
    }
}

/// `begin 7` or `end 7`.
fn boundary(message: &str) -> Option<(bool, u64)> {
    let (verb, id) = message.trim().split_once(' ')?;
    let begins = match verb {
        "begin" => true,
        "end" => false,
        _ => return None,
    };
    Some((begins, id.parse().ok()?))
}

#[unsafe(no_mangle)]
extern "C" fn axclSetLogLevel(level: i32) -> i32 {
    call("axclSetLogLevel", Kind::Local, |process| {
        process.log.set_level(level);
        Ok(0)
    })
}

/// What `axclAppLog` (in `app_log.c`) hands on once it has formatted its message.
#[unsafe(no_mangle)]
extern "C" fn axcl_emu_app_log(level: i32, function: Text, file: Text, line: u32, message: Text) {
    call("axclAppLog", Kind::Local, |process| {
        let text = |text: Option<&CStr>| text.unwrap_or_default().to_string_lossy().into_owned();
        let (function, file) = (text(function.optional()), text(file.optional()));
        let message = text(message.optional());
        let file = Path::new(&file).file_name().unwrap_or_default().to_string_lossy();
        process.log.write(level, &file, &function, line, &message);
        if function == "request"
            && let Some((begins, id)) = boundary(&message)
        {
            let trace = &process.card.trace;
            if begins { trace.begin(id, Instant::now()) } else { trace.end(id, Instant::now()) }
        }
        Ok(())
    });
}

unsafe extern "C" {
    fn axcl_emu_app_log_variadic(level: i32, function: *const c_char, file: *const c_char, line: u32);
}

/// `void axclAppLog(int32_t level, const char *func, const char *file, uint32_t line, const char *fmt, ...)`.
///
/// Rust cannot define variadic functions and does not export those of linked C objects,
/// so the exported name jumps to the C function with every argument in its place.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[cfg(target_arch = "x86_64")]
extern "C" fn axclAppLog() {
    core::arch::naked_asm!("jmp {}", sym axcl_emu_app_log_variadic)
}

/// As above.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[cfg(target_arch = "aarch64")]
extern "C" fn axclAppLog() {
    core::arch::naked_asm!("b {}", sym axcl_emu_app_log_variadic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_vendors_form_and_obey_the_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/log.txt");
        let log = Log::default();
        log.write(ERROR, "device", "nowhere", 1, "no file yet");
        log.open(&path);
        log.write(DEBUG, "device", "quiet", 1, "below the level");
        log.write(CRITICAL, "device", "print", 20, "[0x149200000] : 0xc00 bytes");
        let text = std::fs::read_to_string(&path).unwrap();
        let tid = thread_id();
        assert!(
            text.ends_with(&format!("][{tid}][C][device][print][20]: [0x149200000] : 0xc00 bytes\n")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
        log.open(Path::new("/proc/none/log.txt"));
        log.write(CRITICAL, "device", "print", 20, "nowhere");
    }

    #[test]
    fn only_announcements_are_request_boundaries() {
        assert_eq!(boundary("begin 7"), Some((true, 7)));
        assert_eq!(boundary("end 18446744073709551615"), Some((false, u64::MAX)));
        assert_eq!(boundary("begin"), None);
        assert_eq!(boundary("begin x"), None);
        assert_eq!(boundary("began 7"), None);
    }
}

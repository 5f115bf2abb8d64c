//! One run of a system program, with its complaint.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What is kept of a program's complaint.
const COMPLAINT: u64 = 2 << 10;
const POLL: Duration = Duration::from_millis(20);

/// Runs `program` to its end, or to `until`, when it is killed and no longer waited for.
/// It inherits `lock` as its standard input: what hangs in the kernel keeps it locked.
///
/// # Errors
/// What it wrote on standard error, or how it ended.
pub fn run(
    program: &Path,
    arguments: &[&str],
    lock: Option<&File>,
    until: Option<Instant>,
) -> Result<(), String> {
    match ended(program, arguments, lock, until)? {
        Ended { code: Some(0), .. } => Ok(()),
        Ended { complaint, .. } => Err(complaint),
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Nothing where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote on standard error, or how it ended.
    pub complaint: String,
}

/// As [`run`], for a program whose exit code tells more than success.
///
/// # Errors
/// It could not be started, or did not end in time.
pub fn ended(
    program: &Path,
    arguments: &[&str],
    lock: Option<&File>,
    until: Option<Instant>,
) -> Result<Ended, String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |e: io::Error| format!("{}: {e}", program.display());
    let input = match lock {
        Some(file) => Stdio::from(file.try_clone().map_err(failed)?),
        None => Stdio::null(),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let complaint = child.stderr.take().map(collect);
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => {
                if status.success() {
                    return Ok(Ended { code: Some(0), complaint: String::new() });
                }
                // Something it left behind may hold its standard error open.
                let told = complaint.and_then(|c| c.recv_timeout(Duration::from_secs(1)).ok());
                let text = told.unwrap_or_default();
                let text = text.trim().replace('\n', "; ");
                let complaint = if text.is_empty() { format!("{name}: {status}") } else { text };
                return Ok(Ended { code: status.code(), complaint });
            }
            None if until.is_some_and(|until| Instant::now() >= until) => {
                // It is gone, or stuck in the kernel: either way nothing more can be done.
                let _ = child.kill();
                return Err(format!("{name} did not end in time"));
            }
            None => thread::sleep(POLL),
        }
    }
}

/// Reads everything, so that the program never waits for us; keeps the beginning.
fn collect(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut stream).take(COMPLAINT).read_to_end(&mut kept);
        let _ = io::copy(&mut stream, &mut io::sink());
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Option<Duration>) -> Result<(), String> {
        run(Path::new("/bin/sh"), &["-c", script], None, limit.map(|l| Instant::now() + l))
    }

    #[test]
    fn a_programs_end_and_complaint_are_told() {
        assert_eq!(shell("exit 0", None), Ok(()));
        assert_eq!(shell("echo no room >&2; exit 1", None), Err("no room".into()));
        assert_eq!(shell("exit 3", None), Err("sh: exit status: 3".into()));
        assert!(run(Path::new("/no/such"), &[], None, None).unwrap_err().starts_with("/no/such: "));
        let long = shell("head -c 300000 /dev/zero >&2; exit 1", None).unwrap_err();
        assert_eq!(long.len() as u64, COMPLAINT);
    }

    #[test]
    fn a_program_that_does_not_end_is_left() {
        let late = shell("exec sleep 1000", Some(Duration::from_millis(50)));
        assert_eq!(late, Err("sh did not end in time".into()));
    }
}

//! This process, in the names that all exporters use.

use std::fs;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

/// What there is to tell; what cannot be read is left out.
pub fn registry(started: u64) -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: Option<u64>| {
        let Some(value) = value else { return };
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, ConstGauge::new(value)),
            None => registry.register(name, help, ConstGauge::new(value)),
        }
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key| field(&status, key).map(|kibibytes| kibibytes * 1024);
    gauge("process_resident_memory", "Memory in use", Some(Unit::Bytes), bytes("VmRSS"));
    gauge("process_virtual_memory", "Address space in use", Some(Unit::Bytes), bytes("VmSize"));
    gauge("process_threads", "Threads", None, field(&status, "Threads"));
    // The one that lists them is among them.
    let open = fs::read_dir("/proc/self/fd").ok().map(|listed| (listed.count() as u64).saturating_sub(1));
    gauge("process_open_fds", "Open file descriptors", None, open);
    gauge("process_max_fds", "Most open file descriptors", None, getrlimit(Resource::Nofile).current);
    let help = "When the process started, since 1970";
    gauge("process_start_time", help, Some(Unit::Seconds), Some(started));
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| ticks(&stat)) {
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let help = "Time spent on a processor";
        registry.register_with_unit("process_cpu", help, Unit::Seconds, ConstCounter::new(seconds));
    }
    registry
}

/// A number of /proc/self/status.
fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time, of user and kernel, from /proc/self/stat. The name before may hold blanks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, kernel): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let mut told = String::new();
        text::encode(&mut told, &registry(7)).unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_cpu_seconds_total",
        ] {
            let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{name} {value}");
        }
        assert!(told.contains("process_start_time_seconds 7\n"), "{told}");
    }

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        assert_eq!(ticks("7 (a ) b) S 1 1 1 0 -1 4 9 0 0 0 12 30 0 0 20"), Some(42));
        assert_eq!(ticks("nonsense"), None);
    }
}

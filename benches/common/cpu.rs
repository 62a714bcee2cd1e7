//! Processor time of processes.

use std::fs;
use std::time::Duration;

/// User and system time of a process so far.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    // Fields 14 and 15 of `/proc/<pid>/stat`, in hundredths of a second.
    Duration::from_millis(10 * ticks.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

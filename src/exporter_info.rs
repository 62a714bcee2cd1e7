//! What the exporter knows about itself.

use std::fs;

use crate::reload::Reload;

/// Read once per page.
#[derive(Clone, Debug, Default)]
pub struct ExporterInfo {
    /// The release, e.g. `0.1.0`.
    pub version: &'static str,
    /// The commit, or `unknown`.
    pub revision: &'static str,
    /// The compiler's version, or `unknown`.
    pub rustc: &'static str,
    /// What the operating system says of the process.
    pub process: Process,
    /// How the last reading of the configuration went; none where it cannot change.
    pub config: Option<Reload>,
    /// How the last reading of the web configuration file went; none without the file.
    pub web_config: Option<Reload>,
}

/// The standard process metrics; absent where the platform does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// User and system time since the start.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// Most file descriptors that may be open (soft limit).
    pub max_fds: Option<f64>,
    /// All address space.
    pub virtual_memory_bytes: Option<f64>,
    /// What of it is in memory.
    pub resident_memory_bytes: Option<f64>,
    /// Unix time.
    pub start_time_seconds: Option<f64>,
}

impl ExporterInfo {
    /// The build, and the process as it is now.
    pub(crate) fn read() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("LLM_RELAY_EXPORTER_REVISION").unwrap_or("unknown"),
            rustc: option_env!("LLM_RELAY_EXPORTER_RUSTC").unwrap_or("unknown"),
            process: Process::read(),
            config: None,
            web_config: None,
        }
    }
}

impl Process {
    /// From `/proc`; where there is none, all is absent.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ticks = ticks_per_second();
        let seconds = |field| Some(stat_field(&stat, field)? / ticks?);
        Self {
            cpu_seconds: seconds(14).zip(seconds(15)).map(|(user, system)| user + system),
            open_fds: open_fds(),
            max_fds: max_fds(),
            virtual_memory_bytes: status_bytes(&status, "VmSize:"),
            resident_memory_bytes: status_bytes(&status, "VmRSS:"),
            start_time_seconds: boot_time().zip(seconds(22)).map(|(boot, since)| boot + since),
        }
    }
}

/// A field of `/proc/self/stat` by its number in proc(5); the second, the program's name, may hold spaces and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    from_third.split_whitespace().nth(number - 3)?.parse().ok()
}

/// A size in `/proc/self/status`, which is given in KiB.
fn status_bytes(status: &str, name: &str) -> Option<f64> {
    let size = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = size.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024.0)
}

/// The kernel's unit of CPU time, from the vector of facts that it gives to every program.
fn ticks_per_second() -> Option<f64> {
    const AT_CLKTCK: usize = 17;
    const WORD: usize = size_of::<usize>();
    let facts = fs::read("/proc/self/auxv").ok()?;
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).ok();
    facts
        .chunks_exact(2 * WORD)
        .find(|fact| word(&fact[..WORD]) == Some(AT_CLKTCK))
        .and_then(|fact| word(&fact[WORD..]))
        .map(|ticks| ticks as f64)
}

/// Start of the system in seconds since the epoch.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_fds() -> Option<f64> {
    // The listing itself holds one open.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// The soft limit; absent when unlimited.
fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    limit.split_whitespace().next()?.parse().ok()
}

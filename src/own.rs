//! What the exporter knows about itself.

/// Read once per page.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub version: &'static str,
    pub revision: &'static str,
    pub rustc: &'static str,
    pub process: Process,
}

/// The standard process metrics; absent where the platform does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    pub open_fds: Option<f64>,
    pub max_fds: Option<f64>,
    pub virtual_memory_bytes: Option<f64>,
    pub resident_memory_bytes: Option<f64>,
    pub start_time_seconds: Option<f64>,
}

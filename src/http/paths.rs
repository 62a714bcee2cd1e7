//! Under which paths everything is served, and reached from outside.

use std::sync::Arc;

/// The paths of one exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Of the metrics, below the prefix; `/` gives up the landing page.
    pub(super) telemetry: Arc<str>,
    /// Before every path that is served: empty, or like `/llm`.
    pub(super) prefix: Arc<str>,
    /// Before every path that a browser asks for: the prefix, or what a reverse proxy makes of it.
    pub(super) external: Arc<str>,
}

impl Paths {
    /// `telemetry` like `/metrics`; `prefix` and `external` like `/llm/`, or `/` for none.
    ///
    /// # Errors
    /// A sentence that names the argument and says what is wrong with it.
    pub fn new(telemetry: &str, prefix: &str, external: &str) -> Result<Self, String> {
        for (argument, path) in
            [("--web.telemetry-path", telemetry), ("--web.route-prefix", prefix), ("--web.external-url", external)]
        {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
            if !path.starts_with('/') || !path.chars().all(plain) || path.contains("//") {
                return Err(format!(
                    "{argument}: {path:?} must start with / and hold only letters, digits and / - _ . ~"
                ));
            }
        }
        if matches!(telemetry, "/healthz" | "/readyz" | "/-/reload") {
            return Err(format!(
                "--web.telemetry-path: {telemetry:?} has another meaning; choose another, e.g. /metrics"
            ));
        }
        let bare = |path: &str| path.trim_end_matches('/').into();
        Ok(Self { telemetry: telemetry.into(), prefix: bare(prefix), external: bare(external) })
    }

    /// Of the metrics, as served.
    pub fn metrics(&self) -> String {
        format!("{}{}", self.prefix, self.telemetry)
    }

    /// Of the landing page, as served.
    pub fn root(&self) -> String {
        format!("{}/", self.prefix)
    }
}

impl From<&str> for Paths {
    /// Nothing but the path of the metrics.
    ///
    /// # Panics
    /// When it is no path.
    fn from(telemetry: &str) -> Self {
        Self::new(telemetry, "/", "/").expect("a path like /metrics")
    }
}

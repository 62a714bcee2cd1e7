//! The shipped rules and alerts, as files for whoever evaluates them.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::dialect::Dialect;

/// By their path below `prometheus`.
pub(crate) const SHIPPED: [(&str, &str); 13] = [
    ("rules/thresholds.yml", include_str!("../../prometheus/rules/thresholds.yml")),
    ("rules/traffic.yml", include_str!("../../prometheus/rules/traffic.yml")),
    ("rules/cost.yml", include_str!("../../prometheus/rules/cost.yml")),
    ("rules/quality.yml", include_str!("../../prometheus/rules/quality.yml")),
    (NATIVE_HISTOGRAMS, include_str!("../../prometheus/rules/native.yml")),
    ("rules/state.yml", include_str!("../../prometheus/rules/state.yml")),
    ("rules/trends.yml", include_str!("../../prometheus/rules/trends.yml")),
    ("alerts/cost.yml", include_str!("../../prometheus/alerts/cost.yml")),
    ("alerts/errors.yml", include_str!("../../prometheus/alerts/errors.yml")),
    ("alerts/capacity.yml", include_str!("../../prometheus/alerts/capacity.yml")),
    ("alerts/quality.yml", include_str!("../../prometheus/alerts/quality.yml")),
    ("alerts/upkeep.yml", include_str!("../../prometheus/alerts/upkeep.yml")),
    ("alerts/trust.yml", include_str!("../../prometheus/alerts/trust.yml")),
];

/// In words that MetricsQL has not.
const NATIVE_HISTOGRAMS: &str = "rules/native.yml";

/// Writes all files below a directory; files of the same names are replaced.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dialect: Dialect, out: &Path) -> anyhow::Result<()> {
    let has = |name: &str| dialect == Dialect::Promql || name != NATIVE_HISTOGRAMS;
    for (name, text) in SHIPPED.into_iter().filter(|(name, _)| has(name)) {
        let (file, text) = (out.join(name), dialect.of(text));
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, &*text));
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

//! Logs to stderr, in logfmt or JSON. No log line holds a secret: errors are worded without them where they arise.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Logfmt,
    Json,
}

/// Starts logging; once per process, later calls change nothing.
pub(crate) fn start(level: Level, format: Format) {
    let ours = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    // Drivers log statements and connection details on their lower levels.
    let others = if level == Level::Error { "error" } else { "warn" };
    let filter = EnvFilter::new(format!("{others},llm_relay_exporter={ours}"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Logfmt => registry
            .with(
                tracing_logfmt::builder()
                    .with_target(false)
                    .with_span_name(false)
                    .with_span_path(false)
                    .layer()
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        Format::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_span_list(false)
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    // A test may have started it already.
    started.ok();
}

/// What is logged in it names the relay.
pub(crate) fn relay_span(name: &str) -> tracing::Span {
    tracing::error_span!("relay", relay = name)
}

//! Prometheus exporter for self-hosted LLM relays.
//!
//! One straight line; data only moves to the right:
//!
//! ```text
//!  relay's own store            one folder per relay           pure, no I/O               bytes, once per refresh
//!  Postgres Redis   ──read──▶   Relay (ledger, live,  ──▶  Tally (totals, windows,  ──▶  Page (OpenMetrics, text, ──▶  GET /metrics
//!                               directory)                 boards, quotas)               plain and gzip)               copies an Arc
//!                                      ▲
//!                               poll (timer, single flight, timeout, back-off)
//! ```
//!
//! No task waits for a scrape, no scrape waits for a database, no source waits for another source.
//!
//! # Layout
//! * [`settings`]: what the user wrote, checked as a whole, every problem at once; the result is a `Plan`.
//! * [`model`]: the words of the domain. No I/O.
//! * [`relays`]: one folder per relay product; translates its store into our words. Keeps no metrics.
//! * [`check`]: what can be read and what cannot, for people.
//! * [`sql`], [`kv`]: the one place each that opens PostgreSQL and Redis.
//! * [`tally`]: what the rows amount to. Pure and deterministic.
//! * [`follow`]: the cursor: what is new, what may have changed, history, audit.
//! * [`store`]: a checkpoint of each follower, so that a restart goes on where the last process was.
//! * [`poll`]: when to read; one refresh in flight per part; staleness.
//! * [`view`]: the numbers of one relay at one moment, ready to be written down.
//! * [`metrics`]: the catalogue, the only list of metrics.
//! * [`page`]: views rendered to bytes, once per refresh.
//! * [`http`]: `/`, `/metrics`, `/healthz`, `/readyz`.
//! * [`demo`]: a private relay store with believable traffic.
#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod demo;
pub mod follow;
pub mod http;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod model;
pub mod own;
pub mod page;
pub mod poll;
pub mod relays;
pub mod serve;
pub mod settings;
pub mod sql;
pub mod store;
pub mod tally;
pub mod view;

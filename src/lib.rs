//! Prometheus exporter for self-hosted LLM relays.
//!
//! One straight line; data only moves to the right:
//!
//! ```text
//!  relay's own store            one folder per relay           pure, no I/O               bytes, once per refresh
//!  Postgres Redis   ──read──▶   Relay (ledger, live,  ──▶  Tally (totals, windows,  ──▶  Page (OpenMetrics, text, ──▶  GET /metrics
//!  MySQL SQLite                 directory)                 boards, quotas)               plain and gzip)               copies an Arc
//!                                      ▲                        │    ▲
//!                               poll, follow (timer, single     ▼    │
//!                               flight, timeout, back-off)     Store (SQLite file, or Postgres shared by replicas)
//! ```
//!
//! No task waits for a scrape, no scrape waits for a database, no source waits for another source.
//!
//! # Layout
//! * [`model`]: the words of the domain. No I/O. [`view`]: the numbers of one relay at one moment, ready to be written down.
//! * [`connect`]: read-only sessions with PostgreSQL, MySQL, SQLite files and Redis. Nothing of a relay.
//! * [`relay`]: what a relay product is to the rest of the program. [`relays`]: one folder per product, and their only
//!   list, `PRODUCTS`; a product translates its store into our words. Keeps no metrics.
//! * [`settings`]: what the user wrote, checked as a whole, every problem at once; the result is a `Plan`.
//! * [`poll`]: when to read; one refresh in flight per part; staleness. [`follow`]: what to read of a ledger.
//!   [`probe`]: whether the relay itself answers.
//! * [`tally`]: what the rows, or a relay's own counters, amount to. Pure and deterministic.
//! * [`store`]: the tally's checkpoint, so that a restart goes on where it was; [`parts`]: what it consists of.
//! * [`metrics`]: the catalogue, the only list of metrics, by family. [`exporter_info`]: what the exporter knows about itself.
//! * [`page`]: views rendered to bytes, once per refresh, for Prometheus and for people. [`lang`]: the languages these
//!   read. [`http`]: how pages are served. [`web`]: to whom, over which transport.
//! * [`serve`]: all of this at work; [`reload`]: with a configuration that may change. [`cli`], [`log`]: around it.
//!   [`check`]: what can be read and what cannot, for people.
//! * [`backfill`]: the same pages for instants of the past, out of the ledger, and what recording rules make of them.
//!   [`backtest`]: which alerts those would have raised. [`rules`]: what the past can tell of rule files. [`mod@bench`]: a private
//!   Prometheus with a past.
//! * [`dashboards`]: the Grafana bundle, generated. [`dialect`]: expressions for servers that are no Prometheus.
//!   [`demo`]: believable traffic for private relay stores; [`servers`]: private servers for them.
//!
//! # Floors
//! A module stands above all that it imports; a test draws this from the code.
//!
//! ```text floors
//! 13  cli
//! 12  backtest
//! 11  backfill  serve
//! 10  bench  http
//!  9  check  dashboards  page  rules
//!  8  metrics  poll  settings
//!  7  follow  relays
//!  6  relays/claude_code_hub  relays/claude_relay_service  relays/cpa_manager  relays/gemini_balance  relays/litellm  relays/new_api  relays/sub2api  store
//!  5  relay  tally
//!  4  view
//!  3  probe
//!  2  connect  demo  exporter_info  web
//!  1  back_off  dialect  lang  log  model  parts  progress  reload  servers
//! ```
//!
//! # Glossary
//! * *Ledger*: the relay's own record of usage, rows or counters. *Live*: what only its running processes know.
//! * *Directory*: names, limits and settings. *Facts*: which facts its rows have at all.
//! * *Tally*: what the rows amount to. *Board*: a leaderboard. *Folded*: counted as `other`, for lack of series.
//! * *Open row*: one that may still change. *Final*: one that may not. *Audit*: an independent sum over a span, compared.
//! * *Drift*: the difference that an audit finds. *Correction*: what has been counted and is no longer so.
//! * *Resume token*: what a ledger must remember to go on. *Backlog*: what is still to be read.
#![forbid(unsafe_code)]

mod back_off;
mod backfill;
pub mod backtest;
mod bench;
pub mod check;
pub mod cli;
pub mod connect;
pub mod dashboards;
pub mod demo;
pub mod dialect;
pub mod exporter_info;
pub mod follow;
pub mod http;
pub mod lang;
mod log;
pub mod metrics;
pub mod model;
pub mod page;
mod parts;
mod poll;
pub mod probe;
mod progress;
pub mod relay;
pub mod relays;
pub mod reload;
mod rules;
pub mod serve;
pub mod servers;
pub mod settings;
pub mod store;
pub mod tally;
pub mod view;
pub mod web;

//! A private relay store with believable traffic: for the demo, for tests, for load.
//!
//! # Layout
//! * [`servers`]: PostgreSQL and Redis servers of our own, gone when they are no longer needed (`host`: how).
//! * [`prometheus`]: the same for Prometheus, for back-tests.
//! * `cast`, `traffic`, `fate`: who asks for what, and what becomes of it. Pure and deterministic.
//! * [`history`]: past traffic in bulk (`rhythm`: days, hours and planted incidents).
//! * [`simulator`]: live traffic, written as the relay writes it (`live`: its Redis).
//! * [`gemini_balance`]: another relay with traffic of its own, on SQLite, MySQL or MariaDB.
//! * [`claude_relay_service`]: the Redis of another relay, history and live traffic.
//! * `store`: a database that is the demo's own, and no other.
//! * `cpa_manager`: a relay that is one SQLite file, for machines with nothing else.
//! * `stage`: a relay's private store, alive. [`program`]: which of them can be set up here. Both are entry points.

mod cast;
pub mod claude_relay_service;
mod cpa_manager;
mod fate;
pub mod gemini_balance;
pub mod history;
mod host;
mod live;
pub mod program;
pub mod prometheus;
mod rhythm;
pub mod servers;
pub mod simulator;
mod stage;
mod store;
mod traffic;

pub use rhythm::Planted;
pub use stage::{DemoOptions, SimulateOptions, Stage, Urls, create, simulate};

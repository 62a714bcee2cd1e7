//! A private relay store with believable traffic: for the demo, for tests, for load.
//!
//! # Layout
//! * [`servers`]: PostgreSQL and Redis servers of our own, gone when they are no longer needed (`host`: how).
//! * `cast`, `traffic`, `fate`: who asks for what, and what becomes of it. Pure and deterministic.
//! * [`history`]: past traffic in bulk (`rhythm`: days, hours and planted incidents).
//! * [`simulator`]: live traffic, written as the relay writes it (`live`: its Redis).
//! * `store`: a database that is the demo's own, and no other.
//! * `cpa_manager`: a relay that is one SQLite file, for machines with nothing else.
//! * `stage`: a relay's private store, alive. [`program`]: which of them can be set up here. Both are entry points.

mod cast;
mod cpa_manager;
mod fate;
pub mod history;
mod host;
mod live;
pub mod program;
mod rhythm;
pub mod servers;
pub mod simulator;
mod stage;
mod store;
mod traffic;

pub use rhythm::Planted;
pub use stage::{DemoOptions, SimulateOptions, Stage, Urls, create, simulate};

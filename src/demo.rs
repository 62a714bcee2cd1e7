//! A private relay store with believable traffic: for the demo, for tests, for load.
//!
//! # Layout
//! * [`servers`]: PostgreSQL and Redis servers of our own, gone when they are no longer needed (`host`: how).
//! * [`prometheus`]: the same for Prometheus, for back-tests.
//! * `people`, `traffic`, `outcome`: who asks for what, and what becomes of it. Pure and deterministic.
//! * [`history`]: past traffic in bulk (`rhythm`: days, hours and planted incidents).
//! * [`simulator`]: live traffic, written as the relay writes it (`live`: its Redis).
//! * `store`: a database that is the demo's own, and no other.
//! * `environment`: a relay's private store, alive. [`program`]: which of them can be set up here.
//!
//! What is one relay's own stands in its folder. The last two products need nothing, so there is always a demo.

mod environment;
pub mod history;
pub mod launch;
mod live;
mod outcome;
pub(crate) mod people;
pub(crate) mod rhythm;
pub mod simulator;
pub(crate) mod store;
pub(crate) mod traffic;

pub use crate::relays::claude_code_hub::demo::{SimulateOptions, create, simulate};
pub use environment::{DemoOptions, Environment, Urls};
pub use rhythm::Planted;

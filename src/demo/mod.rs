//! A private relay store with believable traffic: for the demo, for tests, for load.
//!
//! # Layout
//! * [`servers`]: PostgreSQL and Redis servers of our own, gone when they are no longer needed (`host`: how).
//! * [`prometheus`]: the same for Prometheus, for back-tests.
//! * `cast`, `traffic`, `fate`: who asks for what, and what becomes of it. Pure and deterministic.
//! * [`history`]: past traffic in bulk (`rhythm`: days, hours and planted incidents).
//! * [`simulator`]: live traffic, written as the relay writes it (`live`: its Redis).
//! * `store`: a database that is the demo's own, and no other.
//! * `stage`: a relay's private store, alive. [`program`]: which of them can be set up here.
//!
//! What is one relay's own stands in its folder. The last two products need nothing, so there is always a demo.

pub(crate) mod cast;
mod fate;
pub mod history;
pub(crate) mod host;
mod live;
pub mod program;
pub mod prometheus;
pub(crate) mod rhythm;
pub mod servers;
pub mod simulator;
mod stage;
pub(crate) mod store;
pub(crate) mod traffic;

pub use crate::relays::claude_code_hub::demo::{SimulateOptions, create, simulate};
pub use rhythm::Planted;
pub use stage::{DemoOptions, Stage, Urls};

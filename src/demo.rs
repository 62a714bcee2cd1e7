//! Believable traffic for private relay stores: for the demo, for tests, for load. What is one relay's own stands in its
//! folder.
//!
//! * `people`, `traffic`, `outcome`: who asks for what, and what becomes of it. Pure and deterministic.
//! * `history`: weeks of it (`rhythm`: days, hours and planted incidents). `clients`: the people at work now.
//! * `environment`: a relay's private store, alive.

pub(crate) mod clients;
mod environment;
pub(crate) mod history;
mod outcome;
pub(crate) mod people;
pub(crate) mod rhythm;
pub(crate) mod traffic;

pub use clients::SimulatorOptions;
pub use environment::{DemoOptions, Environment, Urls};
pub use history::HistoryOptions;
pub(crate) use rhythm::pick;
pub use rhythm::{Pace, Planted};

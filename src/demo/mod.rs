//! A private relay store with believable traffic: for the demo, for tests, for load.
//!
//! # Layout
//! * [`servers`]: PostgreSQL and Redis servers of our own, gone when they are no longer needed.

mod host;
pub mod servers;

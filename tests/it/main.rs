//! One binary for all integration tests: it links once.

mod demo;
mod tally;
//! One binary for all integration tests: they run the real thing on free ports.


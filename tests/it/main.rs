//! One binary for all integration tests, because it links once: they run the real thing on free ports.

mod demo;
mod differential;
mod exposition;
mod full_view;
mod http;
mod page;
mod tally;

//! One binary for all integration tests: they run the real thing on free ports.

mod dashboards;

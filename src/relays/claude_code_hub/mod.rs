//! Claude Code Hub, v0.3.31 to v0.9.2.

mod least_schema;

pub use least_schema::least_schema;

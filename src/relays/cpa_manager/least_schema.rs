//! The least schema of the relay's file, for tests and the demo only: never applied to a relay's file.

use super::schema::Level;

const STEPS: [(Level, &str); 3] = [
    (Level::First, include_str!("least_schema/0001_v1.0.sql")),
    (Level::Snapshots, include_str!("least_schema/0002_v1.3.sql")),
    (Level::Plus, include_str!("least_schema/0003_plus.sql")),
];

/// The scripts, each of several statements, that build the schema of a generation, in order.
pub fn least_schema(level: Level) -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().filter(move |(step, _)| *step <= level).map(|(_, sql)| sql)
}

//! The least schema of sub2api, for tests and the demo only: never applied to a relay's database.

/// Each step with the release that brought it, in order.
pub const STEPS: [(&str, &str); 8] = [
    ("0.1.104", include_str!("least_schema/0001_0.1.104.sql")),
    ("0.1.105", include_str!("least_schema/0002_0.1.105.sql")),
    ("0.1.113", include_str!("least_schema/0003_0.1.113.sql")),
    ("0.1.131", include_str!("least_schema/0004_0.1.131.sql")),
    ("0.1.147", include_str!("least_schema/0005_0.1.147.sql")),
    ("0.1.161", include_str!("least_schema/0006_0.1.161.sql")),
    ("0.1.172", include_str!("least_schema/0007_0.1.172.sql")),
    ("0.1.177", include_str!("least_schema/0008_0.1.177.sql")),
];

/// What an administrator runs for the exporter: its role, with the password `x`, and its functions.
pub const READONLY_ROLE: &str = include_str!("../../../deploy/sub2api/readonly-role.sql");

//! Read-only sessions with the servers and files that relays keep their data in. Nothing here knows a relay.

pub mod address;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod sqlite;

//! new-api and one-api on real PostgreSQL, real MariaDB and real SQLite files.

mod differential;
mod relay;

//! LiteLLM on a real PostgreSQL.

mod database;
mod differential;

//! Statements on the ledger: the rows, and which of them.

pub(super) const ROWS: &str = include_str!("rows.sql");
pub(super) const NEW: &str = "l.id > $1 order by l.id limit $2";
pub(super) const AGAIN: &str = "l.request_id = any($1)";
pub(super) const OLDER: &str = "l.id < $1 order by l.id desc limit $2";
/// The sum keeps the planner from walking up the primary key in the hope of meeting the span early.
pub(super) const BETWEEN: &str = "l.created_at >= $1 and l.created_at < $2 and l.id > $3 order by l.id + 0 limit $4";
pub(super) const CLOCK: &str = include_str!("clock.sql");
pub(super) const AUDIT: &str = include_str!("audit.sql");
pub(super) const SPENT: &str = include_str!("spent.sql");
pub(super) const BY_USER: &str = "l.user_id = $1";
/// The relay sums a key's spending by its secret, whoever else has the same one.
pub(super) const BY_KEY: &str = "l.key = (select k.key from keys k where k.id = $1)";
pub(super) const BY_PROVIDER: &str = "l.final_provider_id = $1";

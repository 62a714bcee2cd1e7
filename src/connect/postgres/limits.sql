-- Limits of this transaction alone: a pooler in transaction mode refuses settings at connection start. Any PostgreSQL.
-- A query whose client has gone runs on until the server stops it, so the server's limit is the shorter one.
select
  set_config('statement_timeout', $1, true),
  set_config('lock_timeout', $2, true),
  set_config('idle_in_transaction_session_timeout', $3, true)

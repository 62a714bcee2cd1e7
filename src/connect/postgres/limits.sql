-- Limits of this transaction alone: a pooler in transaction mode refuses settings at connection start. Any PostgreSQL.
-- A query whose client has gone runs on until the server stops it, so the server's limit is the shorter one. It begins anew
-- with each statement: where the server can, it looks whether the client is still there (PostgreSQL 14, Linux).
select
  set_config('statement_timeout', $1, true),
  set_config('lock_timeout', $2, true),
  set_config('idle_in_transaction_session_timeout', $3, true),
  case when current_setting('server_version_num')::int >= 140000 and version() like '%linux%'
    then set_config('client_connection_check_interval', '1s', true) end

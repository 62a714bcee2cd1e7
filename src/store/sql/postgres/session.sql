-- A session that finds the store's tables, and whose locks end soon after its host has gone. PostgreSQL.
select
  set_config('client_min_messages', 'warning', false),
  set_config('search_path', 'llm_relay_exporter', false),
  set_config('statement_timeout', '15s', false),
  set_config('lock_timeout', '5s', false),
  set_config('idle_in_transaction_session_timeout', '20s', false),
  set_config('tcp_keepalives_idle', '20', false),
  set_config('tcp_keepalives_interval', '5', false),
  set_config('tcp_keepalives_count', '3', false)

-- Claude Code Hub v0.9.2: the indexes of usage_ledger that the least schema leaves out, so that writing costs what it
-- costs the relay.
create index idx_usage_ledger_created_at_minute
  on usage_ledger (date_trunc('minute', created_at at time zone 'UTC'));
create index idx_usage_ledger_key_created_at_desc_cover
  on usage_ledger (key, created_at desc nulls last, final_provider_id) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_session_identity_created_at
  on usage_ledger (coalesce(session_identity, session_id), user_id, created_at desc nulls last)
  where blocked_by is null and is_replay = false;
create index idx_usage_ledger_session_id on usage_ledger (session_id) where session_id is not null;
create index idx_usage_ledger_session_identity on usage_ledger (coalesce(session_identity, session_id));
create index idx_usage_ledger_user_id_reset on usage_ledger (user_id);

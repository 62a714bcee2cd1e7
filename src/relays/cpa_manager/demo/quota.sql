-- What an upstream told of a quota window. ?1: account, ?2: window, ?3: its kind, ?4: now, ?5: end, ?6: used percent.
insert into account_quota_snapshots (
  account_key, provider, provider_window_id, window_kind, model_scope_kind, model_scope_key, observed_at_ms, cycle_end_ms, used_percent, plan_type
)
values (?1, 'demo', ?2, ?3, 'family', 'codex_main', ?4, ?5, ?6, 'plus')

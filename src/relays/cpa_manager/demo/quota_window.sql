-- A quota window, when an upstream first tells of it. ?1: account, ?2: window, ?3: its kind.
insert or ignore into account_quota_windows (
  account_key, provider, provider_window_id, window_kind, model_scope_kind, model_scope_key, scope_fingerprint, availability
)
values (?1, 'demo', ?2, ?3, 'family', 'codex_main', 'demo', 'active')

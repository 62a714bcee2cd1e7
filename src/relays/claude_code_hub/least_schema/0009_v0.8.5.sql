-- Claude Code Hub v0.8.1 (endpoint in the cost indexes) and v0.8.5 (hedge losers are billed: the cost grows after the end).
drop index idx_usage_ledger_user_cost_cover, idx_usage_ledger_key_cost, idx_usage_ledger_provider_cost_cover;
create index idx_usage_ledger_user_cost_cover
  on usage_ledger (user_id, created_at, cost_usd, endpoint) where blocked_by is null;
create index idx_usage_ledger_key_cost
  on usage_ledger (key, created_at, cost_usd, endpoint) where blocked_by is null;
create index idx_usage_ledger_provider_cost_cover
  on usage_ledger (final_provider_id, created_at, cost_usd, endpoint) where blocked_by is null;
alter table message_request add column hedge_losers jsonb;
alter table system_settings add column bill_hedge_losers boolean not null default true;

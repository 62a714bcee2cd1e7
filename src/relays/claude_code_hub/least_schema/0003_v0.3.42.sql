-- Claude Code Hub v0.3.42: total limits of providers.
alter table providers add column limit_total_usd numeric(10, 2), add column total_cost_reset_at timestamptz;

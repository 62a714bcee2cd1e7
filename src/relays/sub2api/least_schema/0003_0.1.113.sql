-- 0.1.113, with what 0.1.107 brought: a price of its own for the account.
alter table usage_logs
  add column channel_id bigint,
  add column billing_mode varchar(20),
  add column image_output_tokens integer not null default 0,
  add column account_stats_cost numeric(20, 10);

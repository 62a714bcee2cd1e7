-- 0.1.131, with what came before: limits per minute, quotas by platform.
alter table users add column rpm_limit integer not null default 0;
create table user_platform_quotas (
  id bigserial primary key,
  user_id bigint not null references users (id) on delete cascade,
  platform varchar(50) not null,
  daily_limit_usd numeric(20, 10),
  weekly_limit_usd numeric(20, 10),
  monthly_limit_usd numeric(20, 10),
  daily_usage_usd numeric(20, 10) not null default 0,
  weekly_usage_usd numeric(20, 10) not null default 0,
  monthly_usage_usd numeric(20, 10) not null default 0,
  daily_window_start timestamptz,
  weekly_window_start timestamptz,
  monthly_window_start timestamptz,
  deleted_at timestamptz
);

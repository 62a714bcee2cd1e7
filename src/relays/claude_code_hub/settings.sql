-- The relay's settings: the row with the lowest id. Primary key of system_settings. All versions.
select
  {s.timezone:varchar} as timezone,
  s.billing_model_source,
  s.currency_display,
  coalesce({s.enable_high_concurrency_mode:boolean}, false) as sessions_untracked
from system_settings s
order by s.id
limit 1

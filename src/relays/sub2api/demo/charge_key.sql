-- What the key has used. $1: key; $2: dollars charged.
update api_keys set
  quota_used = quota_used + $2,
  usage_5h = case when window_5h_start > now() - interval '5 hours' then usage_5h else 0 end + $2,
  window_5h_start = case when window_5h_start > now() - interval '5 hours' then window_5h_start else now() end,
  usage_1d = case when window_1d_start > now() - interval '1 day' then usage_1d else 0 end + $2,
  window_1d_start = case when window_1d_start > now() - interval '1 day' then window_1d_start else date_trunc('day', now()) end,
  usage_7d = case when window_7d_start > now() - interval '7 days' then usage_7d else 0 end + $2,
  window_7d_start = case when window_7d_start > now() - interval '7 days' then window_7d_start else date_trunc('day', now()) end,
  last_used_at = now()
where id = $1

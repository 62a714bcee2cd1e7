-- What the history has used of quotas.
update api_keys k set quota_used = (select coalesce(sum(l.actual_cost), 0) from usage_logs l where l.api_key_id = k.id);
analyze

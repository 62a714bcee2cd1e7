-- Both ends of the attempts. Primary key: both in one select would walk through the whole table. The clock is this
-- machine's. v2.2.
select
  coalesce((select max(id) from t_request_log), 0) as top,
  coalesce((select min(id) from t_request_log), 0) as first,
  null as now

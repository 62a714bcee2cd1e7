-- Both ends of the attempts and the clock. Primary key. v2.2.
select
  coalesce((select max(id) from t_request_log), 0) as top,
  coalesce((select min(id) from t_request_log), 0) as first,
  timestampdiff(microsecond, '1970-01-01 00:00:00', utc_timestamp(6)) as now

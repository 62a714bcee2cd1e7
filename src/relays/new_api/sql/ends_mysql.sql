-- Both ends of the log and the clock. Primary key, and the index of times.
select
  coalesce((select max(id) from logs), 0) as top,
  coalesce((select min(id) from logs), 0) as first,
  (select created_at from logs order by id limit 1) as first_at,
  (select min(created_at) from logs where created_at >= 946684800) as oldest,
  (select created_at from logs order by id desc limit 1) as latest,
  timestampdiff(microsecond, '1970-01-01 00:00:00', utc_timestamp(6)) as now

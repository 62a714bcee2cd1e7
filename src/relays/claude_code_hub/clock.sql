-- The store's clock, the zone's idea of it, and both ends of the ledger. $1: time zone.
-- Primary key for the top, the index on created_at for the first day. All versions.
select
  now() as now,
  ((now() at time zone $1) - interval '1 day') at time zone $1 as same_time_yesterday,
  (now() at time zone $1)::date as today,
  coalesce((select max(l.id) from {ledger} l), 0)::bigint as top,
  (least((select min(l.created_at) from {ledger} l where l.created_at >= '2000-01-01'), now()) at time zone $1)::date as first_date

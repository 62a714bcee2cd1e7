-- The store's clock and both ends of the ledger. Primary key for the top, index on created_at for the oldest row.
select
  now() as now,
  coalesce((select max(l.id) from usage_logs l), 0)::bigint as top,
  (select min(l.created_at) from usage_logs l where l.created_at >= '2000-01-01') as first_at

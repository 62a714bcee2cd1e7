-- The last time that an administrator's clean-up deleted rows of the ledger. A table of some rows.
select coalesce(max(t.id), 0)::bigint as last from usage_cleanup_tasks t where t.status = 'succeeded' and t.deleted_rows > 0

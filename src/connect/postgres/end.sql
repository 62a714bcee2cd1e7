-- Nothing was written, so there is nothing to commit. Any PostgreSQL.
rollback

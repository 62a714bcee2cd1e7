-- One consistent view of the store that cannot write. Any PostgreSQL.
begin isolation level repeatable read read only

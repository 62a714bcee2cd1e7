-- One consistent view. PostgreSQL.
begin isolation level repeatable read read only

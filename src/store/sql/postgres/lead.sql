-- The lock of the one replica that saves, until the session ends. PostgreSQL. $1: key of the relay.
select pg_try_advisory_lock($1)

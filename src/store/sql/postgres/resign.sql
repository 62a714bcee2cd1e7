-- Gives the lock of the one that saves to the other replicas. PostgreSQL. $1: key of the relay.
select pg_advisory_unlock($1)

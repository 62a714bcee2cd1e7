-- Seconds that a read replica is behind; null on a primary. What has all that was sent is not behind, however long ago
-- the last transaction was; before the first one is replayed, its own start counts. No table. All versions.
select
  case
    when not pg_is_in_recovery() then null
    when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() and exists (select from pg_stat_wal_receiver) then 0
    else extract(epoch from now() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()))
  end::float8 as lag

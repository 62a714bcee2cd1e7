-- The exporter's own store in one SQLite file: for each relay one checkpoint, cut into parts.
create table checkpoint (
  relay text not null,
  kind text not null,
  -- One more with every save.
  generation integer not null,
  -- Format of the parts' bytes.
  format integer not null,
  -- How many parts belong to it.
  parts integer not null,
  -- Unix second.
  saved_at integer not null,
  primary key (relay, kind)
) strict;

create table part (
  relay text not null,
  kind text not null,
  key text not null,
  bytes blob not null,
  -- SHA-256 of key and bytes.
  checksum blob not null,
  primary key (relay, kind, key)
) strict;

-- The exporter's own store in a PostgreSQL schema: for each relay one checkpoint, cut into parts.
create table llm_relay_exporter.checkpoint (
  relay text not null,
  kind text not null,
  -- One more with every save.
  generation bigint not null,
  -- Format of the parts' bytes.
  format bigint not null,
  -- How many parts belong to it.
  parts bigint not null,
  -- Unix second.
  saved_at bigint not null,
  primary key (relay, kind)
);

create table llm_relay_exporter.part (
  relay text not null,
  kind text not null,
  key text not null,
  bytes bytea not null,
  -- SHA-256 of key and bytes.
  checksum bytea not null,
  primary key (relay, kind, key)
);

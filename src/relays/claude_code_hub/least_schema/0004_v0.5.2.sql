-- Claude Code Hub v0.5.2: wide token counts, a time zone of the system, expiry with a zone.
alter table message_request
  alter column input_tokens type bigint,
  alter column output_tokens type bigint,
  alter column cache_creation_input_tokens type bigint,
  alter column cache_read_input_tokens type bigint,
  alter column cache_creation_5m_input_tokens type bigint,
  alter column cache_creation_1h_input_tokens type bigint;
alter table keys alter column expires_at type timestamptz using expires_at at time zone 'UTC';
alter table system_settings add column timezone varchar(64);

-- Writes one part. Primary key. SQLite and PostgreSQL. $1: relay, $2: kind, $3: key, $4: bytes, $5: checksum.
insert into part (relay, kind, key, bytes, checksum) values ($1, $2, $3, $4, $5)
on conflict (relay, kind, key) do update set bytes = excluded.bytes, checksum = excluded.checksum

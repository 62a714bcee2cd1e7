-- Removes one part. Primary key. SQLite and PostgreSQL. $1: relay, $2: kind, $3: key.
delete from part where relay = $1 and kind = $2 and key = $3

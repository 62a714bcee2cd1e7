-- The parts of a relay's checkpoint. Primary key. SQLite and PostgreSQL. $1: relay, $2: kind.
select key, bytes, checksum from part where relay = $1 and kind = $2

-- A relay's checkpoint. Primary key. SQLite and PostgreSQL. $1: relay, $2: kind.
select generation, format, parts from checkpoint where relay = $1 and kind = $2

-- Begins a checkpoint that follows the one with generation $6; no row when the store has another one. Primary key.
-- SQLite and PostgreSQL. $1: relay, $2: kind, $3: format, $4: number of parts, $5: unix second.
update checkpoint set generation = generation + 1, format = $3, parts = $4, saved_at = $5
where relay = $1 and kind = $2 and generation = $6
returning generation

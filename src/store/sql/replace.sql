-- Begins a checkpoint that takes the place of any other. Primary key. SQLite and PostgreSQL.
-- $1: relay, $2: kind, $3: format, $4: number of parts, $5: unix second.
insert into checkpoint (relay, kind, generation, format, parts, saved_at) values ($1, $2, 1, $3, $4, $5)
on conflict (relay, kind) do update set
  generation = checkpoint.generation + 1, format = excluded.format, parts = excluded.parts, saved_at = excluded.saved_at
returning generation

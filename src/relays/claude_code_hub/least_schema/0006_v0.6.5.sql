-- Claude Code Hub v0.6.3 (users) and v0.6.5 (keys): spending before a manual reset does not count.
alter table users add column cost_reset_at timestamptz;
alter table keys add column cost_reset_at timestamptz;

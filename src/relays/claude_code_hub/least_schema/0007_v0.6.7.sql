-- Claude Code Hub v0.6.7: a mode in which sessions are not tracked.
alter table system_settings add column enable_high_concurrency_mode boolean not null default false;

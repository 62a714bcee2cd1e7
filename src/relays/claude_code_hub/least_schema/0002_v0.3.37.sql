-- Claude Code Hub v0.3.37: the time to the first byte; in practice that of the first token.
alter table message_request add column ttfb_ms integer;

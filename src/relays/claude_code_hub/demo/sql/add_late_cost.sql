-- The loser of a race is billed, up to two minutes after it lost; the primary key serves it. Claude Code Hub v0.8.5 and
-- later.
update message_request
set cost_usd = cost_usd + $2, hedge_losers = $3::text::jsonb, updated_at = now()
where id = $1

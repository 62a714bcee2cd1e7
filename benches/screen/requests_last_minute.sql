-- Overview, requests per minute (Claude Code Hub v0.9.2, src/repository/overview.ts).
select count(*) as requests
from usage_ledger l
where l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= now() - interval '1 minute'

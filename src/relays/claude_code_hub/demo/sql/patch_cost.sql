-- The cost is booked, apart from the end of the request; the primary key serves it. Claude Code Hub, all versions.
update message_request set cost_usd = $2, updated_at = now() where id = $1

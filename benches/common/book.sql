-- The cost of a request is booked.
update message_request set cost_usd = 0.0412, updated_at = now() where id = $1

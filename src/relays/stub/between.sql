-- Rows of a span. No index serves it: the table is small.
select id, user, model, tokens, cost, time from requests where time >= ?1 and time < ?2 and id > ?3 order by id limit ?4

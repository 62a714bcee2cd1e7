-- Rows again, by the primary key.
select id, user, model, tokens, cost, time from requests where id in (select value from json_each(?1))

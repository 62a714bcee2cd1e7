-- New rows, by the primary key.
select id, user, model, tokens, cost, time from requests where id > ?1 order by id limit ?2

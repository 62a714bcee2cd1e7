-- The newest rows below an id, by the primary key.
select id, user, model, tokens, cost, time from requests where id < ?1 order by id desc limit ?2

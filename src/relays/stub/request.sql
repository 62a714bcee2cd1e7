-- One request of the demo.
insert into requests (user, model, tokens, cost, time) values (?1, ?2, ?3, ?4, ?5)

-- The whole schema.
create table requests (id integer primary key, user text, model text, tokens integer, cost real, time integer)

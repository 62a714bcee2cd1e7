-- Names of client keys. ?1: JSON array of hash and name.
insert into api_key_aliases (api_key_hash, alias, updated_at_ms)
select value ->> 0, value ->> 1, ?2
from json_each(?1)

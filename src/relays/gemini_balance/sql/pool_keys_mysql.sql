-- The keys of the pool, hashed by a view that the relay's administrator has made (docs/relays.md): the settings themselves
-- hold all secrets. v2.2.
select key_id, cast(null as char(1)) as api_key
from exporter_keys

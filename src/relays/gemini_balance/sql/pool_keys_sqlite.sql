-- The keys of the pool, and of the settings nothing else. A table of some dozen rows. v2.2.
select distinct null as key_id, cast(k.value as text) as api_key
from t_settings s, json_each(s.value) k
where s.key in ('API_KEYS', 'VERTEX_API_KEYS')

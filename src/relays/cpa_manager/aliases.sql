-- Names of client keys. Reads the whole table, some hundred rows. From v1.3.
select cast(api_key_hash as blob) as api_key_hash, cast(alias as blob) as alias
from api_key_aliases

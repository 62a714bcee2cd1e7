-- Whether this account may read the relay's settings, which hold all its secrets. Nothing of them is read. v2.2.
select 1 as it
from t_settings
limit 1

-- The manager's price list, in dollars per million tokens. ?1: JSON array.
insert into model_prices (
  model, prompt_per_1m, completion_per_1m, cache_per_1m, cache_read_per_1m, cache_creation_per_1m, prompt_configured,
  completion_configured, cache_read_configured, cache_creation_configured, source, updated_at_ms
)
select
  value ->> 'model', value ->> 'prompt', value ->> 'completion', value ->> 'cache_read', value ->> 'cache_read',
  value ->> 'cache_creation', 1, 1, 1, 1, 'demo', ?2
from json_each(?1)

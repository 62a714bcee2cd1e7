-- Prices in US dollars per million tokens. Reads the whole table, some hundred rows. All generations.
select
  cast(model as blob) as model,
  prompt_per_1m as prompt,
  completion_per_1m as completion,
  cache_per_1m as cache,
  {model_prices.cache_read_per_1m} as cache_read,
  {model_prices.cache_creation_per_1m} as cache_creation,
  {model_prices.prompt_configured} as has_prompt,
  {model_prices.completion_configured} as has_completion,
  {model_prices.cache_read_configured} as has_cache_read,
  {model_prices.cache_creation_configured} as has_cache_creation
from model_prices
order by model

-- Prices from a number of input tokens on, where the relay has some. Plus.
select
  cast(model as blob) as model,
  threshold_tokens as threshold,
  prompt_per_1m as prompt,
  completion_per_1m as completion,
  cache_per_1m as cache,
  cache_read_per_1m as cache_read,
  cache_creation_per_1m as cache_creation,
  prompt_configured as has_prompt,
  completion_configured as has_completion,
  cache_configured as has_cache,
  cache_read_configured as has_cache_read,
  cache_creation_configured as has_cache_creation
from model_price_context_tiers
order by model, threshold_tokens

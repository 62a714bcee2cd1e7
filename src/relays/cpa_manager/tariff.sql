-- Whether prices may have changed, at the cost of walking over a small table. All generations.
select count(*) || ' ' || total(prompt_per_1m) || ' ' || total(completion_per_1m) || ' ' || total(cache_per_1m) || ' '
  || total({model_prices.cache_read_per_1m}) || ' ' || total({model_prices.cache_creation_per_1m}) || ' '
  || coalesce(max(updated_at_ms), 0) as mark
from model_prices

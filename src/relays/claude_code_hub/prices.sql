-- What uncached and cached input cost, per token. Reads the whole price table, a few thousand rows at most. All versions.
select p.model_name, p.created_at, p.price_data ->> 'input_cost_per_token' as input, p.price_data ->> 'cache_read_input_token_cost' as cache_read
from model_prices p
where p.price_data ? 'input_cost_per_token' and p.price_data ? 'cache_read_input_token_cost'
  and p.created_at >= '2000-01-01' and p.created_at < '10000-01-01'
order by p.model_name, p.created_at, p.id

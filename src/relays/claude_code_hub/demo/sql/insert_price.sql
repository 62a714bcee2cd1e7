-- Price of one model; all versions of Claude Code Hub. No index needed.
insert into model_prices (model_name, price_data) values ($1, $2::text::jsonb)

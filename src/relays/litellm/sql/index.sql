-- Whether some index begins with the start of the rows, whatever it is called. System catalogues only. All releases.
select exists (
  select from pg_index i
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where i.indrelid = to_regclass('"LiteLLM_SpendLogs"') and i.indisvalid and a.attname = 'startTime'
) as is_indexed

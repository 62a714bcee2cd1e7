-- The relay's options that numbers rest on; the table has secrets beside them. Some dozen rows.
select {key} as name, value
from {options}
where {key} in ('QuotaPerUnit', 'DisplayInCurrencyEnabled', 'general_setting.quota_display_type', 'LogConsumeEnabled')

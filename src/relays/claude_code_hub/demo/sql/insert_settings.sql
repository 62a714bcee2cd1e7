-- The single row of settings; Claude Code Hub v0.5.2 and later. No index needed.
insert into system_settings (site_title, currency_display, timezone) values ('Demo hub', 'USD', $1)

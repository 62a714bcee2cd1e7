-- A relay of some size: users with a daily and a weekly limit, two keys each, providers, the relay's settings.
insert into users (id, name, daily_limit_usd, limit_weekly_usd)
select n, 'user-' || n, 500, 2500 from generate_series(1, {users}) n;
insert into keys (id, user_id, key, name)
select n, (n + 1) / 2, 'sk-' || md5(n::text), 'key-' || n from generate_series(1, 2 * {users}) n;
insert into providers (id, name, url, key) select n, 'provider-' || n, '', '' from generate_series(1, {providers}) n;
insert into system_settings (timezone) values ('{zone}');

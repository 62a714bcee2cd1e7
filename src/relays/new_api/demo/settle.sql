-- What the rows of the history have cost their users and keys. Both have what they began with beside.
update users set
  used_quota = (select coalesce(sum(quota), 0) from logs where type = 2 and user_id = users.id),
  request_count = (select count(*) from logs where type = 2 and user_id = users.id);
update tokens set
  used_quota = (select coalesce(sum(quota), 0) from logs where type = 2 and user_id = tokens.user_id and token_name = tokens.name)
where not unlimited_quota;

-- ?1: what a request has cost; ?2: the key.
update tokens set remain_quota = remain_quota - ?1, used_quota = used_quota + ?1 where id = ?2 and not unlimited_quota

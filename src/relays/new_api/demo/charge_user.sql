-- ?1: what a request has cost; ?2: the user.
update users set quota = quota - ?1, used_quota = used_quota + ?1, request_count = request_count + 1 where id = ?2

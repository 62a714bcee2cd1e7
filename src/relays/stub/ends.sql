-- Where the table ends. By the primary key, and one walk for the first time.
select coalesce(max(id), 0) as top, coalesce(min(time), 0) as first from requests

-- Who appears in a short span of ids. Primary key. All generations. ?1, ?2: after, up to.
select
  cast(provider as blob) as provider,
  cast(auth_type as blob) as auth_type,
  cast(auth_index as blob) as auth_index,
  cast(source_hash as blob) as source_hash,
  cast(api_key_hash as blob) as api_key_hash,
  max(id) as newest
from usage_events not indexed
where id > ?1 and id <= ?2
group by 1, 2, 3, 4, 5

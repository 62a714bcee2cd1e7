-- Requests that users have made, whatever became of their rows. A table of some thousand rows.
select cast(coalesce(sum(request_count), 0) as {int}) as requests
from users

-- What the log page counts of a range of ids and a span of time: rows of type 2 (controller/log.go, GetLogsStat). Primary
-- key. ?, ?: ids after, up to; ?, ?: seconds from, to (exclusive).
select
  count(*) as requests,
  cast(coalesce(sum(quota), 0) as {int}) as quota,
  cast(coalesce(sum(
    case when {without_tokens} then 0 else
      case when prompt_tokens > 0 then prompt_tokens else 0 end
      + case when completion_tokens > 0 then completion_tokens else 0 end
    end
  ), 0) as {int}) as board_tokens
from logs
where id > ? and id <= ? and created_at >= ? and created_at < ? and type = 2

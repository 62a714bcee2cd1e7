-- What active subscriptions allow, by the window that begins anew; 'subscription' is one that does not, or by a time of its
-- own. Index (user_id, status, end_time), or the whole of a small table. ?: the second now.
select
  s.user_id,
  case when p.quota_reset_period in ('daily', 'weekly', 'monthly') then p.quota_reset_period else 'subscription' end as period,
  cast(sum(s.amount_total) as {int}) as amount_total,
  cast(sum(s.amount_used) as {int}) as amount_used,
  min(case when s.next_reset_time > 0 then s.next_reset_time else s.end_time end) as resets_at
from user_subscriptions s
join subscription_plans p on p.id = s.plan_id
where s.status = 'active' and s.end_time > ? and s.amount_total > 0
group by s.user_id, period

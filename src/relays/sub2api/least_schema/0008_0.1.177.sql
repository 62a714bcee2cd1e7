-- 0.1.177: the time zone.
create table usage_group_rollup_state (
  id smallint primary key,
  timezone_name text not null default 'Asia/Shanghai'
);
insert into usage_group_rollup_state (id) values (1);

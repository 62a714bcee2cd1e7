-- Whether the store's tables exist, whether this role may make them and whether it may write. PostgreSQL.
select
  to_regclass('llm_relay_exporter.checkpoint') is not null and to_regclass('llm_relay_exporter.part') is not null as made,
  coalesce(
    has_schema_privilege(to_regnamespace('llm_relay_exporter'), 'create'),
    has_database_privilege(current_database(), 'create')
  ) as may_make,
  coalesce((
    select bool_and(has_table_privilege(t.name::regclass, right_to.what))
    from unnest(array[to_regclass('llm_relay_exporter.checkpoint'), to_regclass('llm_relay_exporter.part')]) as t (name),
      unnest(array['select', 'insert', 'update', 'delete']) as right_to (what)
  ), false) as may_write

-- The last migration of the store's schema. PostgreSQL.
select coalesce(max(version), 0) from llm_relay_exporter._sqlx_migrations

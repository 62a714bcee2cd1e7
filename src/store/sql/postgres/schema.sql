-- Whether the store's schema exists: creating it needs a right that a careful owner does not give. PostgreSQL.
select to_regnamespace('llm_relay_exporter') is not null

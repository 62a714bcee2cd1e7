-- The newest migration that has been applied. Full read of some hundred rows. Where the schema came by migrations.
select max(m.migration_name) as version
from "_prisma_migrations" m
where m.finished_at is not null

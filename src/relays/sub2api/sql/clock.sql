-- The store's clock. No table.
select now() as now

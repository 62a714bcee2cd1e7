-- The server's clock. No table. All releases.
select now() as now

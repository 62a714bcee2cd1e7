-- PostgreSQL.
begin

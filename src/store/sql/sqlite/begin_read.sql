-- One consistent view. SQLite.
begin

-- Takes the write lock at once, so that no statement in between can fail for the lack of it. SQLite.
begin immediate

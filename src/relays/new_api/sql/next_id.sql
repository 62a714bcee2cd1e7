-- The next row that there is. Primary key. ?, ?: ids after, up to.
select min(id) as id from logs where id > ? and id <= ?

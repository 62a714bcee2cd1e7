-- The row before that there is. Primary key. ?, ?: ids after, up to.
select max(id) as id from logs where id > ? and id <= ?

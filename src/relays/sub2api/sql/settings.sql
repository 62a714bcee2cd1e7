-- What the relay's settings leave out of its error log: of a function that the administrator has made.
select s.name, s.value from relay_exporter_ops_settings() s

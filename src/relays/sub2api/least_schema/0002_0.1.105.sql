-- 0.1.105: the model that was asked for.
alter table usage_logs add column requested_model varchar(100);
alter table ops_error_logs add column requested_model varchar(100), add column upstream_model varchar(100);

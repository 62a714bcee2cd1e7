-- The least schema of gemini-balance v2.2.8 on SQLite (app/database/models.py), for tests and demo only.
create table t_request_log (
  id integer not null primary key,
  request_time datetime,
  model_name varchar(100),
  api_key varchar(100),
  is_success boolean not null,
  status_code integer,
  latency_ms integer
);
create table t_error_logs (
  id integer not null primary key,
  gemini_key varchar(100),
  model_name varchar(100),
  error_type varchar(50),
  error_log text,
  error_code integer,
  request_msg json,
  request_time datetime
);
create table t_settings (
  id integer not null primary key,
  key varchar(100) not null unique,
  value text,
  description varchar(255),
  created_at datetime,
  updated_at datetime
);

-- The least schema of gemini-balance v2.2.8 on MySQL and MariaDB (app/database/models.py), for tests and demo only.
create table t_request_log (
  id int not null auto_increment primary key,
  request_time datetime null,
  model_name varchar(100) null,
  api_key varchar(100) null,
  is_success tinyint(1) not null,
  status_code int null,
  latency_ms int null
);
create table t_error_logs (
  id int not null auto_increment primary key,
  gemini_key varchar(100) null,
  model_name varchar(100) null,
  error_type varchar(50) null,
  error_log text null,
  error_code int null,
  request_msg json null,
  request_time datetime null
);
create table t_settings (
  id int not null auto_increment primary key,
  `key` varchar(100) not null unique,
  value text null,
  description varchar(255) null,
  created_at datetime null,
  updated_at datetime null
);

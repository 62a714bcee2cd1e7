-- 0.1.172, with what 0.1.165 brought: the client's session, the model that answered.
alter table usage_logs
  add column session_id varchar(255),
  add column upstream_response_model varchar(200),
  add column upstream_model_mismatch boolean;

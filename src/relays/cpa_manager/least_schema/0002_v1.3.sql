-- CPA-Manager v1.3: snapshots of the credential, names of client keys.
alter table usage_events add column account_snapshot text;
alter table usage_events add column auth_label_snapshot text;
alter table usage_events add column auth_file_snapshot text;
alter table usage_events add column auth_provider_snapshot text;
alter table usage_events add column auth_snapshot_at_ms integer;
alter table usage_events add column auth_project_id_snapshot text;
alter table usage_events add column requested_model text;
alter table usage_events add column resolved_model text;

create table api_key_aliases (
  api_key_hash text primary key,
  alias text not null,
  updated_at_ms integer not null
);

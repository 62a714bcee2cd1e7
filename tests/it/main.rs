//! One binary for all integration tests, because it links once: they run the real thing on free ports.

mod claude_code_hub;
mod claude_code_hub_live;
mod claude_code_hub_trouble;
mod claude_code_hub_versions;
mod cpa_manager;
mod dashboards;
mod demo;
mod differential;
mod end_to_end;
mod exposition;
mod full_view;
mod http;
mod metrics_docs;
mod packaging;
mod page;
mod secrets;
mod settings;
mod sqlite;
mod store;
mod store_kill;
mod tally;
mod web;

//! One binary for all integration tests: they run the real thing on free ports.

mod claude_code_hub;
mod claude_code_hub_live;
mod claude_code_hub_trouble;
mod claude_code_hub_versions;

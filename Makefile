# What people run often; `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help build demo test quick regenerate docs bench

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: ## The program, for use
	cargo build --locked --release

demo: ## All relays with a history and live traffic, no server needed beforehand
	cargo run --locked --release -- demo

test: ## Everything, as on a clean machine
	tests/run

quick: ## Format, lints and the tests that need no server
	cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked --lib

regenerate: ## Write everything again that follows from the code: documents, dashboards, tables
	tests/regenerate

docs: ## The crate's documentation
	cargo doc --locked --no-deps --document-private-items

bench: ## All benchmarks; see docs/performance.md
	cargo bench --locked

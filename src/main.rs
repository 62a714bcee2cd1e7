use std::process::ExitCode;

use llm_relay_exporter::cli;

fn main() -> ExitCode {
    cli::run(std::env::args_os()).unwrap_or_else(|error| {
        eprintln!("llm-relay-exporter: {error:#}");
        ExitCode::FAILURE
    })
}

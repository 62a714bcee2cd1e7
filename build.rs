//! Tells the binary which compiler and which revision it was built with. Works without git, too.

use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("LLM_RELAY_EXPORTER_RUSTC", first_line(Command::new(rustc).arg("--version")));
    if std::env::var_os("LLM_RELAY_EXPORTER_REVISION").is_none() {
        set("LLM_RELAY_EXPORTER_REVISION", first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    }
    println!("cargo:rerun-if-env-changed=LLM_RELAY_EXPORTER_REVISION");
    // The log of HEAD grows with every commit and every switch; in a worktree it is not in `.git`.
    for file in ["HEAD", "logs/HEAD"] {
        let path = first_line(Command::new("git").args(["rev-parse", "--git-path", file]));
        // Cargo runs this again each time while a file that it was told of does not exist.
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}

fn set(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo:rustc-env={name}={value}");
    }
}

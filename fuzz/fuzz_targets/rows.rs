#![no_main]

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

#[path = "../../tests/it/hostile/entry.rs"]
#[allow(dead_code)]
mod entry;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RUNTIME.block_on(entry::rows(bytes)));

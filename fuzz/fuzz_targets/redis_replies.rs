#![no_main]

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

#[path = "../../tests/it/hostile/entry.rs"]
#[allow(dead_code)]
mod entry;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

// A zero parts two replies.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let replies = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    RUNTIME.block_on(entry::redis_replies(replies));
});

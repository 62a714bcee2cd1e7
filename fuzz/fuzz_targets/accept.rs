#![no_main]

#[path = "../../tests/it/hostile/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::accept(bytes));

//! The program; all of it is in the library.

use std::process::ExitCode;

use llm_relay_exporter::cli;

fn main() -> ExitCode {
    return_memory();
    look_up_names_alone();
    forget_libpq();
    cli::run(std::env::args_os()).unwrap_or_else(|error| {
        eprintln!("llm-relay-exporter: {error:#}");
        ExitCode::FAILURE
    })
}

/// The driver would complete an address from libpq's variables, so that one that is forgotten somewhere decides whose
/// numbers these are; the configuration alone names a server.
fn forget_libpq() {
    const READ_BY_THE_DRIVER: [&str; 13] = [
        "PGHOST",
        "PGHOSTADDR",
        "PGPORT",
        "PGUSER",
        "PGPASSWORD",
        "PGPASSFILE",
        "PGDATABASE",
        "PGOPTIONS",
        "PGAPPNAME",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGSSLCERT",
        "PGSSLKEY",
    ];
    for name in READ_BY_THE_DRIVER {
        // SAFETY: nothing else runs yet.
        unsafe { std::env::remove_var(name) };
    }
}

/// glibc keeps what was freed, for each thread apart: after a large page or a first read of the ledger that is more
/// than what is in use. With one arena that gives back what is free at its end, the process is what it holds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_memory() {
    const FREE_BYTES_KEPT: libc::c_int = 1 << 20;
    // SAFETY: mallopt takes two numbers and no pointer; nothing else runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_BYTES_KEPT);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn return_memory() {}

/// A static glibc would load the modules that the system looks names up with, which belong to another glibc. Files and DNS
/// are inside.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn look_up_names_alone() {
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
    }
    // SAFETY: two texts that outlive it; nothing else runs yet.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
const fn look_up_names_alone() {}
